"""An entry on disk and on the wire: the frozen layout, and that nothing damaged is taken for an entry."""

from __future__ import annotations

import struct
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.ids import LogIndex, Offset, Term
from raftmq.raft.types import EntryKind
from raftmq.records.entry import CHAIN_START, CorruptEntry, LogEntry, chain_follows, crc32c, decode, seal


def sealed(previous_chain: bytes = CHAIN_START, inline: bytes = b"header", payload: bytes = b"records") -> LogEntry:
    return seal(
        previous_chain=previous_chain,
        index=LogIndex(3),
        term=Term(2),
        kind=EntryKind.DATA,
        version=1,
        base_offset=Offset(40),
        count=5,
        log_tick=600,
        wall_ms=1_700_000_000_000,
        inline=inline,
        payload=payload,
    )


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_the_layout_is_frozen() -> None:
    entry = sealed()
    fixed = struct.pack(
        ">BBHQQQIQQIII", 1, 2, 1, 3, 2, 40, 5, 600, 1_700_000_000_000, 6, 7, crc32c(b"records")
    )  # fmt: skip
    chain = blake2b(bytes(8) + fixed + b"header", digest_size=8).digest()
    body = fixed + chain + b"header"
    assert entry.row == body + struct.pack(">I", crc32c(body))
    assert entry.row.hex() == (
        "01020001000000000000000300000000000000020000000000000028000000050000000000000258"
        "0000018bcfe568000000000600000007248514b051819230d3b8e80f68656164657254aa9ad0"
    )
    assert (entry.chain, entry.next_offset, entry.size) == (chain, 45, len(entry.row) + 7)


entries = st.builds(
    seal,
    previous_chain=st.binary(min_size=8, max_size=8),
    index=st.integers(1, 2**64 - 1).map(LogIndex),
    term=st.integers(1, 2**64 - 1).map(Term),
    kind=st.sampled_from(EntryKind),
    version=st.integers(0, 2**16 - 1),
    base_offset=st.integers(0, 2**64 - 1).map(Offset),
    count=st.integers(0, 2**32 - 1),
    log_tick=st.integers(0, 2**64 - 1),
    wall_ms=st.integers(0, 2**64 - 1),
    inline=st.binary(max_size=50),
    payload=st.binary(max_size=50),
)


@given(entries)
def test_round_trip(entry: LogEntry) -> None:
    assert decode(entry.row, entry.payload) == entry


def test_a_scan_of_headers_needs_no_payload() -> None:
    entry = sealed()
    bare = decode(entry.row, None)
    assert (bare.payload, bare.payload_crc, bare.row) == (b"", crc32c(b"records"), entry.row)


@given(entries, st.data())
def test_no_damaged_row_is_taken_for_an_entry(entry: LogEntry, data: st.DataObject) -> None:
    row = bytearray(entry.row)
    bit = data.draw(st.integers(0, 8 * len(row) - 1))
    row[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptEntry):
        decode(bytes(row), entry.payload)
    with pytest.raises(CorruptEntry):
        decode(entry.row[: data.draw(st.integers(0, len(row) - 1))], entry.payload)


@pytest.mark.parametrize("payload", [b"", b"record", b"Records", b"records "])
def test_no_other_payload_is_taken_for_the_entrys(payload: bytes) -> None:
    with pytest.raises(CorruptEntry, match="payload"):
        decode(sealed().row, payload)


def resealed(position: int, value: int) -> bytes:
    """A row with one byte changed and a right checksum: what a later version might write."""
    body = bytearray(sealed().row[:-4])
    body[position] = value
    return bytes(body) + struct.pack(">I", crc32c(bytes(body)))


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [(0, 2, "row format 2"), (1, 9, "entry kind 9"), (51, 7, "inline length 7"), (51, 5, "inline length 5")],
)
def test_a_row_of_a_later_version_is_refused_with_the_reason(position: int, value: int, reason: str) -> None:
    with pytest.raises(CorruptEntry, match=reason):
        decode(resealed(position, value), None)


def test_the_chain_covers_all_that_came_before() -> None:
    first = sealed()
    assert chain_follows(CHAIN_START, first)
    second = sealed(first.chain)
    assert chain_follows(first.chain, second)
    assert not chain_follows(CHAIN_START, second)
    for other in (sealed(inline=b"Header"), sealed(payload=b"Records")):
        assert other.chain != first.chain
        assert not chain_follows(other.chain, second)
