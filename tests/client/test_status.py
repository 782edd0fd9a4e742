"""Every error survives the wire; what is not raftmq's own is told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq import errors, status
from raftmq.errors import Outcome, RaftmqError

EVERY_CLASS = [cls for _, cls in sorted(RaftmqError.by_reason.items())]


@pytest.mark.parametrize("outcome", list(Outcome), ids=lambda outcome: outcome.value)
@pytest.mark.parametrize("cls", EVERY_CLASS, ids=lambda cls: cls.reason)
def test_every_error_survives_the_wire(cls: type[RaftmqError], outcome: Outcome) -> None:
    sent = cls("it went wrong", outcome=outcome, field="batch.header", retry_after_ms=1_500, metadata={"a": "1"})
    wire = status.encode(sent)
    received = status.decode(wire.code, wire.message, wire.trailers)
    assert type(received) is cls
    assert vars(received) == vars(sent)
    assert wire.code == cls.code
    assert not status.is_bare(received)


def test_the_plain_trailers_are_enough() -> None:
    wire = status.encode(errors.NoLeader("none", field="topic"))
    plain = [(name, value) for name, value in wire.trailers if isinstance(value, str)]
    received = status.decode(wire.code, wire.message, plain)
    assert type(received) is errors.NoLeader
    assert (received.outcome, received.field) == (Outcome.NOT_APPLIED, "topic")


def test_damaged_details_do_not_hide_the_error() -> None:
    wire = status.encode(errors.Overloaded("full", retry_after_ms=5))
    damaged = [(n, b"\xff\xff" if n == status.DETAILS_TRAILER else v) for n, v in wire.trailers]
    received = status.decode(wire.code, wire.message, damaged)
    assert type(received) is errors.Overloaded
    assert received.outcome is Outcome.NOT_APPLIED
    assert received.retry_after_ms == 0


def test_an_unknown_reason_keeps_its_code_and_outcome() -> None:
    trailers = [(status.REASON_TRAILER, "FROM_THE_FUTURE"), (status.OUTCOME_TRAILER, "NOT_APPLIED")]
    received = status.decode("UNAVAILABLE", "later", trailers)
    assert type(received) is errors.Unavailable
    assert received.outcome is Outcome.NOT_APPLIED
    assert received.metadata == {"reason": "FROM_THE_FUTURE"}


def test_an_unreadable_outcome_is_unknown() -> None:
    trailers = [(status.REASON_TRAILER, "NO_LEADER"), (status.OUTCOME_TRAILER, "MAYBE")]
    assert status.decode("UNAVAILABLE", "", trailers).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "code, message, expected",
    [
        ("UNAVAILABLE", "Socket closed", errors.Unavailable),
        ("CANCELLED", "", errors.Unavailable),
        ("INTERNAL", "Received RST_STREAM with error code 2", errors.Unavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineExceeded),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", errors.Overloaded),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)", errors.MessageTooLarge),
        ("UNIMPLEMENTED", "Method not found!", errors.Unimplemented),
        ("PERMISSION_DENIED", "", RaftmqError),
    ],
)
def test_a_status_without_trailers_means_unknown(code: str, message: str, expected: type[RaftmqError]) -> None:
    received = status.decode(code, message, ())
    assert type(received) is expected
    assert received.outcome is Outcome.UNKNOWN
    assert status.is_bare(received)


TEXTS = ["", "plain", "x" * 5_000, "\N{SNOWMAN}" * 5_000, "\ud800 lone", "line\r\nbreak\x00"]


@pytest.mark.parametrize("text", TEXTS, ids=[ascii(text[:8]) for text in TEXTS])
def test_any_text_fits_into_the_trailers(text: str) -> None:
    metadata = {f"{number}{text}": text for number in range(20)}
    wire = status.encode(errors.InvalidArgument(text, field=text, metadata=metadata))
    # A binary trailer travels in base64, the message percent-encoded.
    assert sum(len(name) + len(value) * 4 // 3 for name, value in wire.trailers) + 3 * len(wire.message.encode()) < 8192
    for name, value in wire.trailers:
        if isinstance(value, str):
            assert all(" " <= c <= "~" for c in value), name
    assert type(status.decode(wire.code, wire.message, wire.trailers)) is errors.InvalidArgument


@given(st.binary(max_size=200))
def test_decoding_never_raises(details: bytes) -> None:
    trailers: list[tuple[str, str | bytes]] = [(status.REASON_TRAILER, "NO_LEADER"), (status.DETAILS_TRAILER, details)]
    assert isinstance(status.decode("UNAVAILABLE", "", trailers), errors.NoLeader)
