"""Reads of logs out of RocksDB: each returns what it promises, whole and checked, or raises StorageError."""

from __future__ import annotations

from collections.abc import Iterator

from raftmq.ids import Generation, LogIndex, Offset
from raftmq.ports import BatchRow, StateKind, StorageError
from raftmq.records.entry import LogEntry, crc32c
from raftmq.storage.checks import checked, decode_entry, is_data_row
from raftmq.storage.database import Cursor, Database
from raftmq.storage.keys import (
    TIME_BUCKET_MS,
    Family,
    generation_range,
    pair_key,
    pair_number,
    state_range,
    state_suffix,
    value_number,
)
from raftmq.storage.rows import OffsetRow, decode_offset


def scan_headers(database: Database, generation: Generation, first: LogIndex) -> Iterator[LogEntry]:
    """Headers from `first` on, as they are at the call (not at the first step)."""
    _, end = generation_range(generation)
    cursor = database.cursor(Family.LOG, pair_key(generation, first), end)
    return _headers(database, cursor, generation, first)


def _headers(database: Database, cursor: Cursor, generation: Generation, first: LogIndex) -> Iterator[LogEntry]:
    try:
        yield from checked(generation, first, (_header(generation, *row) for row in cursor))
    finally:
        database.release(cursor)


def _header(generation: Generation, key: bytes, row: bytes) -> LogEntry:
    entry = decode_entry(generation, row, None)
    _same_index(generation, key, entry)
    return entry


def _same_index(generation: Generation, key: bytes, entry: LogEntry) -> None:
    if (index := pair_number(key, generation)) != entry.index:
        raise StorageError(f"generation {generation}: the row of entry {index} holds entry {entry.index}")


def read_entries(
    database: Database, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int
) -> list[LogEntry]:
    """Entries [first, last], or the longest prefix within `max_bytes` (at least one)."""
    if first > last:
        return []
    begin, end = pair_key(generation, first), pair_key(generation, last + 1)
    entries: list[LogEntry] = []
    size = 0
    with database.scans(((Family.LOG, begin, end), (Family.PAYLOAD, begin, end))) as (rows, payloads):
        for entry in checked(generation, first, _whole(generation, rows, payloads)):
            size += entry.size
            if entries and size > max_bytes:
                return entries
            entries.append(entry)
    if len(entries) != last - first + 1:
        raise StorageError(f"generation {generation} has no entry {first + len(entries)} (asked up to {last})")
    return entries


def _whole(generation: Generation, rows: Cursor, payloads: Cursor) -> Iterator[LogEntry]:
    for key, row in rows:
        payload = _payload(payloads, key) if is_data_row(row) else b""
        entry = decode_entry(generation, row, payload)
        _same_index(generation, key, entry)
        yield entry


def _payload(payloads: Cursor, key: bytes) -> bytes:
    """The payload with exactly this key, which must be the next one: only data entries have any."""
    row = payloads.next()
    if row is None or row[0] != key:
        raise StorageError(f"the payload {key.hex()} is missing")
    return row[1]


def read_batches(
    database: Database, generation: Generation, offset: Offset, end: Offset, max_bytes: int
) -> list[BatchRow]:
    """Batches from the one that holds `offset` on, as far as they end at or below `end` and fit `max_bytes`."""
    if offset >= end:
        return []
    low, high = generation_range(generation)
    first = _holder(database, generation, offset)
    limits = (
        (Family.OFFSETS, pair_key(generation, offset if first is None else first), pair_key(generation, end)),
        (Family.PAYLOAD, low, high),
    )
    batches: list[BatchRow] = []
    size, expected = 0, first
    # `first` None and a row in the range: there are batches after `offset`, but none that holds it.
    with database.scans(limits) as (rows, payloads):
        for key, value in rows:
            base, row = Offset(pair_number(key, generation)), decode_offset(value)
            if base != expected:
                missing = offset if expected is None else expected
                raise StorageError(f"generation {generation}: no batch holds offset {missing}")
            expected = Offset(base + row.count)
            size += row.payload_length + len(row.header)
            if expected > end or (batches and size > max_bytes):
                break
            if not batches:
                payloads.seek(pair_key(generation, row.index))
            batches.append(_batch(base, row, _payload(payloads, pair_key(generation, row.index))))
    return batches


def _holder(database: Database, generation: Generation, offset: Offset) -> Offset | None:
    """First offset of the newest batch that starts at or below `offset`, if it holds it."""
    low, _ = generation_range(generation)
    with database.scan(Family.OFFSETS, low, pair_key(generation, offset + 1), backwards=True) as cursor:
        row = cursor.next()
    if row is None:
        return None
    base = pair_number(row[0], generation)
    return Offset(base) if offset < base + decode_offset(row[1]).count else None


def offset_at(database: Database, generation: Generation, wall_ms: int) -> Offset | None:
    """First offset of the first batch whose stamp is `wall_ms` or later.

    The time index leads to the second in question, or, where its row was trimmed away with the first batches of that
    second, to the log's first batch: no more than one second's rows are looked at.
    """
    low, high = generation_range(generation)
    until = pair_key(generation, wall_ms // TIME_BUCKET_MS + 1)
    with database.scan(Family.TIMES, low, until, backwards=True) as seconds:
        row = seconds.next()
    begin = low if row is None else pair_key(generation, value_number(row[1]))
    with database.scan(Family.OFFSETS, begin, high) as rows:
        for key, value in rows:
            if decode_offset(value).wall_ms >= wall_ms:
                return Offset(pair_number(key, generation))
    return None


def _batch(base: Offset, row: OffsetRow, payload: bytes) -> BatchRow:
    if len(payload) != row.payload_length or crc32c(payload) != row.payload_crc:
        raise StorageError(f"the payload of the batch at offset {base} fails its checksum")
    return BatchRow(base, row.count, row.index, row.term, row.wall_ms, row.header, payload)


def scan_state(database: Database, generation: Generation, kind: StateKind) -> Iterator[tuple[bytes, bytes]]:
    """Derived rows of one kind, as they are at the call (not at the first step)."""
    cursor = database.cursor(Family.STATE, *state_range(generation, kind))
    return _state(database, cursor, generation, kind)


def _state(
    database: Database, cursor: Cursor, generation: Generation, kind: StateKind
) -> Iterator[tuple[bytes, bytes]]:
    try:
        for key, value in cursor:
            yield state_suffix(key, generation, kind), value
    finally:
        database.release(cursor)
