"""The records of one partition, decoded: read from the tail or the disk, and kept for whoever delivers them next."""

from __future__ import annotations

import struct
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from raftmq.errors import CorruptBatch, NotLeader, NotReady, RaftmqError
from raftmq.ids import Offset, WallMs
from raftmq.partition.queues.commands import Special
from raftmq.ports import BatchRow
from raftmq.records.batch import PRIORITY_MAX, TIMESTAMP_MAX_MS, decode_records
from raftmq.v1 import types_pb2

CACHE_BYTES = 16 * 1024 * 1024
"""Of decoded batches of one partition, counted before decoding."""
READ_BYTES = 1024 * 1024

Read = Callable[[Offset, int], Awaitable[list[BatchRow]]]
"""Batches from an offset on, softly so many bytes. Raises RaftmqError."""


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Never empty. Records follow each other without a gap."""

    base_offset: Offset
    records: list[types_pb2.Record]
    wall_ms: int
    size: int
    is_readable: bool = True
    """Else its bytes are not what its header says, and its records are empty ones. Nobody inflates a batch on its way
    into the log: one that is broken must not stop those behind it."""

    @property
    def next_offset(self) -> Offset:
        return Offset(self.base_offset + len(self.records))


class Records:
    """What lies in the log of one partition, or is held beside it."""

    def __init__(self, read: Read, held: Callable[[], Mapping[int, bytes]]) -> None:
        self._read = read
        self._held = held
        self._batches: OrderedDict[Offset, DecodedBatch] = OrderedDict()
        """By base offset; the one that was used last comes last."""
        self._bases: list[Offset] = []
        self._bytes = self._count = 0

    @property
    def mean_bytes(self) -> int:
        """Of the records in memory; at least 1."""
        return max(1, self._bytes // max(1, self._count))

    async def at(self, offset: Offset) -> DecodedBatch | None:
        """The batch that holds `offset`; None where it is not visible yet. Raises RaftmqError, OffsetOutOfRange where
        it is trimmed."""
        found = self.known(offset)
        if found is not None:
            return found
        held = self._held().get(offset)
        if held is not None:
            return unpack_held(offset, held)
        wanted: DecodedBatch | None = None
        ahead = 0
        for row in await self._read(offset, READ_BYTES):
            header = types_pb2.BatchHeader.FromString(row.header)
            ahead += header.raw_size
            if wanted is not None and ahead > CACHE_BYTES:
                break  # it was read by its compressed size: decoded, what lies ahead would push out what is wanted now
            batch = self._keep(row, header)
            if batch.base_offset <= offset < batch.next_offset:
                wanted = batch
        return wanted

    async def attempt(self, offset: Offset) -> DecodedBatch | RaftmqError:
        """As ``at``, for whoever has others to look at besides: what keeps this record from being read is returned.
        Raises NotLeader, and NotReady: then no other could be read either."""
        try:
            batch = await self.at(offset)
        except (NotLeader, NotReady):
            raise
        except RaftmqError as error:
            return error
        if batch is None:
            return NotReady(f"the record at offset {offset} is not visible")
        return batch

    def known(self, offset: Offset) -> DecodedBatch | None:
        """The batch that holds `offset`, if it is in memory."""
        place = bisect_right(self._bases, offset) - 1
        if place < 0:
            return None
        batch = self._batches[self._bases[place]]
        if offset >= batch.next_offset:
            return None
        self._batches.move_to_end(batch.base_offset)
        return batch

    def _keep(self, row: BatchRow, header: types_pb2.BatchHeader) -> DecodedBatch:
        """The batch, which is in memory now, if others may have left it for that."""
        known = self._batches.get(row.base_offset)
        if known is not None:
            return known
        decoded = _decoded(row, header)
        self._batches[row.base_offset] = decoded
        insort(self._bases, row.base_offset)
        self._bytes += decoded.size
        self._count += len(decoded.records)
        while self._bytes > CACHE_BYTES and len(self._batches) > 1:
            base, gone = self._batches.popitem(last=False)
            self._bases.pop(bisect_right(self._bases, base) - 1)
            self._bytes -= gone.size
            self._count -= len(gone.records)
        return decoded


def _decoded(row: BatchRow, header: types_pb2.BatchHeader) -> DecodedBatch:
    try:
        records = decode_records(header, row.payload)
    except CorruptBatch:
        nothing = [types_pb2.Record()] * header.count
        return DecodedBatch(row.base_offset, nothing, row.wall_ms, len(row.payload), is_readable=False)
    return DecodedBatch(row.base_offset, records, row.wall_ms, header.raw_size)


_WALL = struct.Struct(">Q")
_UNREADABLE = 1 << 63


def pack_held(batch: DecodedBatch, offset: Offset) -> bytes:
    """A record as it is held beside the log: when it was appended, whether it can be read, and what it is."""
    mark = 0 if batch.is_readable else _UNREADABLE
    return _WALL.pack(batch.wall_ms | mark) + batch.records[offset - batch.base_offset].SerializeToString()


def unpack_held(offset: Offset, held: bytes) -> DecodedBatch:
    """The record alone, as a batch."""
    record = types_pb2.Record.FromString(held[_WALL.size :])
    (marked,) = _WALL.unpack_from(held)
    return DecodedBatch(offset, [record], marked & ~_UNREADABLE, len(held), not marked & _UNREADABLE)


def special_of(offset: Offset, record: types_pb2.Record) -> Special | None:
    """What a group has to know of a record that is not delivered like any other; None: it is.

    Always within the limits of the API: who sends a batch may write anything into its records, and an entry beyond the
    limits would stop every replica.
    """
    if not (record.priority or record.deliver_at_ms or record.expires_at_ms):
        return None
    return Special(
        offset, min(record.priority, PRIORITY_MAX), _time(record.deliver_at_ms), _time(record.expires_at_ms)
    )  # fmt: skip


def _time(wall_ms: int) -> WallMs:
    return WallMs(max(0, min(wall_ms, TIMESTAMP_MAX_MS)))


def key_hash(record: types_pb2.Record) -> int:
    """Of a record's key, never 0; 0: it has none."""
    return _hash(record.key) if record.HasField("key") else 0


def lane_hash(record: types_pb2.Record, fair_by: str) -> int:
    """Of what a record's turn goes by; 0: nothing."""
    if fair_by == "key":
        return key_hash(record)
    name = fair_by.removeprefix("header:")
    return next((_hash(header.value) for header in record.headers if header.name == name), 0)


def _hash(value: bytes) -> int:
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "big") or 1
