"""The marker file: which mark is read back after which crash."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.ids import BootCount, GroupId, StoreId, Term
from raftmq.storage.marker import (
    SLOT_BYTES,
    Mark,
    Marker,
    MarkerLost,
    decode_mark,
    encode_mark,
    read_marker,
)

STORE = StoreId(99)
U64 = st.integers(0, 2**64 - 1)


def mark(sequence: int, boot: int = 1, term: int = 1) -> Mark:
    return Mark(BootCount(boot), sequence, Term(term), 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "marker"


def tear(path: Path, slot: int) -> None:
    content = bytearray(path.read_bytes())
    content[slot * SLOT_BYTES + 20] ^= 0xFF
    path.write_bytes(content)


@given(U64, U64, U64, U64, U64)
def test_marks_survive_encoding(store: int, boot: int, sequence: int, term: int, groups: int) -> None:
    mark = Mark(BootCount(boot), sequence, Term(term), groups)
    assert decode_mark(encode_mark(StoreId(store), mark)) == (store, mark)


@given(st.binary(max_size=80))
def test_other_bytes_are_no_mark(slot: bytes) -> None:
    with pytest.raises(MarkerLost):
        decode_mark(slot)


@given(st.data())
def test_a_flipped_bit_is_noticed(data: st.DataObject) -> None:
    slot = bytearray(encode_mark(STORE, mark(5)))
    bit = data.draw(st.integers(0, len(slot) * 8 - 1))
    slot[bit // 8] ^= 1 << bit % 8
    with pytest.raises(MarkerLost):
        decode_mark(bytes(slot))


def test_the_newest_note_is_read(path: Path) -> None:
    marker = Marker(path, STORE, mark(0))
    for sequence in range(1, 8):
        marker.note(mark(sequence))
        assert read_marker(path) == (STORE, mark(sequence))
        marker.settle()
        assert read_marker(path) == (STORE, mark(sequence))
    marker.close()


@pytest.mark.parametrize("settled", [1, 2, 3])
def test_a_torn_note_leaves_the_last_settled_mark(path: Path, settled: int) -> None:
    marker = Marker(path, STORE, mark(0))
    for sequence in range(1, settled + 1):
        marker.note(mark(sequence))
        marker.settle()
    marker.note(mark(100))
    marker.note(mark(101))
    tear(path, marker._slot)
    assert read_marker(path)[1] == mark(settled)
    marker.close()


def test_two_torn_slots_are_no_marker(path: Path) -> None:
    Marker(path, STORE, mark(3)).close()
    tear(path, 0)
    assert read_marker(path)[1] == mark(3)
    tear(path, 1)
    with pytest.raises(MarkerLost, match="damaged: slot checksum mismatch"):
        read_marker(path)


def test_a_new_boot_is_later_than_any_sequence_of_the_one_before(path: Path) -> None:
    Marker(path, STORE, mark(1000, boot=4)).close()
    Marker(path, STORE, mark(10, boot=5)).close()
    assert read_marker(path)[1] == mark(10, boot=5)
    assert mark(10, boot=5) > mark(1000, boot=4)


def test_a_mark_never_goes_back(path: Path) -> None:
    marker = Marker(path, STORE, mark(5, term=3))
    for earlier in (mark(4, term=3), mark(5, term=2), mark(9, boot=0)):
        with pytest.raises(AssertionError):
            marker.note(earlier)
    marker.close()


def test_the_ceilings() -> None:
    ceiling = Mark(BootCount(1), 5, Term(7), 3)
    assert ceiling.last_group == GroupId(2)
    assert mark(5).last_group is None
    assert ceiling.covers(Term(7), 3)
    assert not ceiling.covers(Term(8), 3)
    assert not ceiling.covers(Term(7), 4)


def test_a_missing_file_says_so(path: Path) -> None:
    with pytest.raises(MarkerLost, match="No such file"):
        read_marker(path)
