"""The queue of one stream: lanes, bounds, and what may be joined."""

from __future__ import annotations

from raftmq.rpc.codec import Piece
from raftmq.rpc.outbox import MESSAGE_BYTES, Outbox, OutboxLimits


def data(text: bytes) -> Piece:
    return Piece(text, is_control=False)


def control(text: bytes, *, is_single: bool = False) -> Piece:
    return Piece(text, is_control=True, is_single=is_single)


def drained(outbox: Outbox) -> list[bytes]:
    return list(iter(outbox.take, None))


def test_control_overtakes_data_and_both_keep_their_order() -> None:
    outbox = Outbox(OutboxLimits())
    for pieces in ([data(b"d1")], [control(b"c1"), data(b"d2")], [control(b"c2")]):
        assert outbox.offer(pieces)
    assert drained(outbox) == [b"c1c2d1d2"]


def test_a_message_is_filled_to_its_size_and_no_further() -> None:
    outbox = Outbox(OutboxLimits())
    half = bytes(MESSAGE_BYTES // 2)
    assert outbox.offer([data(half), data(half), data(b"next")])
    assert drained(outbox) == [half + half, b"next"]


def test_a_piece_that_is_larger_goes_alone() -> None:
    outbox = Outbox(OutboxLimits())
    large = bytes(MESSAGE_BYTES + 1)
    assert outbox.offer([data(b"before"), data(large), data(b"after")])
    assert drained(outbox) == [b"before", large, b"after"]


def test_two_pieces_with_single_fields_are_never_joined() -> None:
    outbox = Outbox(OutboxLimits())
    assert outbox.offer([control(b"h1", is_single=True), control(b"v")])
    assert outbox.offer([control(b"h2", is_single=True), data(b"d")])
    assert drained(outbox) == [b"h1v", b"h2d"]


def test_a_frame_is_queued_whole_or_not_at_all() -> None:
    outbox = Outbox(OutboxLimits(max_pieces=3, max_bytes=10))
    assert outbox.offer([data(b"1234")])
    assert not outbox.offer([data(b"5"), data(b"123456")]), "over the bytes"
    assert not outbox.offer([data(b"")] * 3), "over the pieces"
    assert (outbox.pieces, outbox.bytes) == (1, 4)
    assert outbox.offer([data(b"5"), data(b"12345")]), "just fits"
    assert drained(outbox) == [b"1234512345"]


def test_an_empty_queue_takes_any_frame() -> None:
    outbox = Outbox(OutboxLimits(max_pieces=1, max_bytes=1))
    assert outbox.offer([data(b"12"), data(b"34")])
    assert drained(outbox) == [b"1234"]


def test_bounds_follow_what_is_taken_and_cleared() -> None:
    outbox = Outbox(OutboxLimits(max_bytes=4))
    assert outbox.offer([data(b"1234")])
    assert outbox.take() == b"1234"
    assert (outbox.pieces, outbox.bytes) == (0, 0)
    assert outbox.offer([data(b"12"), control(b"3")])
    outbox.clear()
    assert (outbox.pieces, outbox.bytes, outbox.take()) == (0, 0, None)
