"""A log entry as it lies on disk and goes over the wire. The layout is frozen.

A *row* is the encoded header of an entry; the records of a data entry are its *payload*, kept apart so that headers
can be scanned without reading data. All integers are big-endian::

    offset size field
         0    1 format          1
         1    1 kind            EntryKind
         2    2 version         of the command, or of the batch format
         4    8 index
        12    8 term
        20    8 base_offset     offset of the first record; of other kinds: the offset the next record will get
        28    4 count           records in it, 0 for other kinds
        32    8 log_tick        elapsed milliseconds of led time, set by the leader
        40    8 wall_ms         Unix milliseconds, set by the leader, never falling within a log
        48    4 inline_length
        52    4 payload_length
        56    4 payload_crc     CRC-32C of the payload
        60    8 chain           first 8 bytes of BLAKE2b(previous chain, bytes 0..59, inline)
        68    n inline          a data entry's serialised BatchHeader, another kind's body
      68+n    4 row_crc         CRC-32C of everything before it

The chain covers the payload through its CRC. Two replicas whose chains are equal at an index have equal
logs up to it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import blake2b

import google_crc32c

from raftmq.ids import LogIndex, Offset, Term
from raftmq.raft.types import EntryKind

FORMAT = 1
CHAIN_BYTES = 8
CHAIN_START = bytes(CHAIN_BYTES)
"""The chain before the first entry of a log."""

_FIXED = struct.Struct(">BBHQQQIQQIII")
_CRC = struct.Struct(">I")
_INLINE_AT = _FIXED.size + CHAIN_BYTES
_PAYLOAD_LENGTH_AT = 52
assert _FIXED.size == 60
ROW_BYTES = _INLINE_AT + _CRC.size
"""Of a row, beside what is inline."""


class CorruptEntry(ValueError):
    """Bytes that are not an entry, or not the entry they should be. The message says what was expected."""


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720) of `data`."""
    return int(google_crc32c.value(data))


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One sealed entry: everything in it is final, and ``row`` is its encoded header."""

    index: LogIndex
    term: Term
    kind: EntryKind
    version: int
    base_offset: Offset
    count: int
    log_tick: int
    wall_ms: int
    inline: bytes
    payload: bytes
    payload_crc: int
    chain: bytes
    row: bytes

    @property
    def next_offset(self) -> Offset:
        """The offset that the next record after this entry gets."""
        return Offset(self.base_offset + self.count)

    @property
    def size(self) -> int:
        """Bytes that it costs in a frame."""
        return len(self.row) + len(self.payload)

    @property
    def stored_bytes(self) -> int:
        """Bytes of row and payload, also where the payload was not read."""
        return len(self.row) + int.from_bytes(self.row[_PAYLOAD_LENGTH_AT : _PAYLOAD_LENGTH_AT + 4], "big")


def seal(
    *,
    previous_chain: bytes,
    index: LogIndex,
    term: Term,
    kind: EntryKind,
    version: int,
    base_offset: Offset,
    count: int,
    log_tick: int,
    wall_ms: int,
    inline: bytes,
    payload: bytes = b"",
    payload_crc: int | None = None,
) -> LogEntry:
    """Make an entry. ``payload_crc`` is computed where the caller has not already checked one."""
    if payload_crc is None:
        payload_crc = crc32c(payload)
    fixed = _FIXED.pack(
        FORMAT, kind, version, index, term, base_offset, count, log_tick, wall_ms,
        len(inline), len(payload), payload_crc,
    )  # fmt: skip
    chain = next_chain(previous_chain, fixed, inline)
    body = fixed + chain + inline
    return LogEntry(
        index, term, kind, version, base_offset, count, log_tick, wall_ms,
        inline, payload, payload_crc, chain, body + _CRC.pack(crc32c(body)),
    )  # fmt: skip


def next_chain(previous_chain: bytes, fixed: bytes, inline: bytes) -> bytes:
    """The chain hash after an entry."""
    return blake2b(previous_chain + fixed + inline, digest_size=CHAIN_BYTES).digest()


def chain_follows(previous_chain: bytes, entry: LogEntry) -> bool:
    """True where `entry` was sealed on top of a log whose chain is `previous_chain`."""
    return next_chain(previous_chain, entry.row[: _FIXED.size], entry.inline) == entry.chain


def decode(row: bytes, payload: bytes | None) -> LogEntry:
    """The entry of a row and its payload; ``payload=None`` for a scan of headers (``payload`` is then empty).

    Raises CorruptEntry when a length, a checksum or a number does not fit.
    """
    if len(row) < _INLINE_AT + _CRC.size:
        raise CorruptEntry(f"a row has at least {_INLINE_AT + _CRC.size} bytes, this one {len(row)}")
    (row_crc,) = _CRC.unpack_from(row, len(row) - _CRC.size)
    if crc32c(row[: -_CRC.size]) != row_crc:
        raise CorruptEntry("row checksum mismatch")
    (fmt, kind, version, index, term, base_offset, count, log_tick, wall_ms, inline_length, payload_length,
     payload_crc) = _FIXED.unpack_from(row)  # fmt: skip
    if fmt != FORMAT:
        raise CorruptEntry(f"row format {fmt} is not known here (this version reads {FORMAT})")
    if len(row) != _INLINE_AT + inline_length + _CRC.size:
        raise CorruptEntry(f"inline length {inline_length} does not fit a row of {len(row)} bytes")
    try:
        entry_kind = EntryKind(kind)
    except ValueError:
        raise CorruptEntry(f"entry kind {kind} is not known here") from None
    if payload is None:
        payload = b""
    elif len(payload) != payload_length:
        raise CorruptEntry(f"payload of {len(payload)} bytes, the row says {payload_length}")
    elif crc32c(payload) != payload_crc:
        raise CorruptEntry("payload checksum mismatch")
    return LogEntry(
        LogIndex(index), Term(term), entry_kind, version, Offset(base_offset), count, log_tick, wall_ms,
        row[_INLINE_AT : _INLINE_AT + inline_length], payload, payload_crc,
        row[_FIXED.size : _INLINE_AT], row,
    )  # fmt: skip
