"""From write operations to rows.

A batch may truncate a log that it has appended to, and append again. RocksDB would apply that in order, but what
has to be deleted from the time index depends on what the log holds at that point, and a batch cannot be read. So
the operations on each log are first folded into at most one truncation of what is stored and one run of entries
after it; the rest of the batch keeps its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from raftmq.ids import Generation, GroupId, LogIndex, Offset, Term
from raftmq.ports import (
    DropReplica,
    PutEntries,
    PutNode,
    PutReplica,
    PutState,
    TrimBefore,
    TruncateFrom,
    WriteOp,
)
from raftmq.raft.types import EntryKind
from raftmq.records.entry import LogEntry
from raftmq.storage.database import Batch, Database
from raftmq.storage.keys import (
    REPLICA_FAMILIES,
    TIME_BUCKET_MS,
    Family,
    generation_range,
    group_key,
    node_key,
    number_value,
    pair_key,
    pair_number,
    state_key,
    value_number,
)
from raftmq.storage.rows import encode_offset, encode_replica


@dataclass(slots=True)
class LogChange:
    """What a batch does to one log: truncate what is stored, then append."""

    truncate: TruncateFrom | None = None
    entries: list[LogEntry] = field(default_factory=list)

    def append(self, entries: Sequence[LogEntry]) -> None:
        for entry in entries:
            if self.entries:
                last = self.entries[-1].index
                assert entry.index == last + 1, f"entry {entry.index} cannot follow entry {last}"
            self.entries.append(entry)

    def cut(self, op: TruncateFrom) -> None:
        while self.entries and self.entries[-1].index >= op.index:
            self.entries.pop()
        if not self.entries and (self.truncate is None or op.index < self.truncate.index):
            self.truncate = op


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a stored log. ``next_index`` None: the log is empty and may start anywhere."""

    next_index: LogIndex | None
    bucket: int
    """Newest bucket of the time index; -1: there is none."""


class Tails:
    """Ends of the logs on this disk, read once and then kept up to date with every write that succeeded."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[Generation, Tail] = {}

    def get(self, generation: Generation) -> Tail:
        if (tail := self._known.get(generation)) is None:
            tail = self._known[generation] = self._read(generation)
        return tail

    def update(self, tails: dict[Generation, Tail | None]) -> None:
        """After a write: the new ends. None: the log is gone."""
        for generation, tail in tails.items():
            if tail is None:
                self._known.pop(generation, None)
            else:
                self._known[generation] = tail

    def newest_before(self, generation: Generation, offset: Offset) -> tuple[int, int | None]:
        """The newest stored bucket that starts below `offset` (-1: there is none), and the first one that does not
        (None: there is none)."""
        first: int | None = None
        with self._database.scan(Family.TIMES, *generation_range(generation), backwards=True) as cursor:
            for key, value in cursor:
                bucket = pair_number(key, generation)
                if value_number(value) < offset:
                    return bucket, first
                first = bucket
        return -1, first

    def _read(self, generation: Generation) -> Tail:
        with self._database.scan(Family.LOG, *generation_range(generation), backwards=True) as cursor:
            row = cursor.next()
        next_index = None if row is None else LogIndex(pair_number(row[0], generation) + 1)
        with self._database.scan(Family.TIMES, *generation_range(generation), backwards=True) as cursor:
            row = cursor.next()
        return Tail(next_index, -1 if row is None else pair_number(row[0], generation))


class BatchBuilder:
    """Fills one batch. What it learns takes effect in ``finish``'s caller only, after the write succeeded."""

    def __init__(self, batch: Batch, tails: Tails, generations: dict[GroupId, Generation]) -> None:
        """`generations`: of each group's row as stored."""
        self.batch = batch
        self.tails: dict[Generation, Tail | None] = {}
        """Ends of logs after this batch; None: the log is gone."""
        self.generations: dict[GroupId, Generation | None] = {}
        """Generations in replicas' rows after this batch; None: the row is gone."""
        self.term = Term(0)
        self.groups = 0
        """Ceilings for the tail marker."""
        self._stored_tails = tails
        self._stored_generations = generations
        self._logs: dict[Generation, LogChange] = {}

    def add(self, op: WriteOp) -> None:
        match op:
            case PutEntries(generation, entries):
                self._log(generation).append(entries)
            case TruncateFrom(generation):
                self._log(generation).cut(op)
            case TrimBefore():
                self._trim(op)
            case PutReplica(row):
                self.batch.put(Family.RAFT, group_key(row.group), encode_replica(row))
                self.generations[row.group] = row.generation
                self.term = max(self.term, row.hard_state.term)
                self.groups = max(self.groups, row.group + 1)
            case DropReplica():
                self._drop(op)
            case PutState(generation, kind, key, value):
                if value is None:
                    self.batch.delete(Family.STATE, state_key(generation, kind, key))
                else:
                    self.batch.put(Family.STATE, state_key(generation, kind, key), value)
            case PutNode(name, value):
                self.batch.put(Family.NODE, node_key(name), value)

    def finish(self) -> Batch:
        """Write out the logs' changes, which have been gathered until now."""
        for generation, change in self._logs.items():
            dropped = generation in self.tails
            tail = Tail(None, -1) if dropped else self._stored_tails.get(generation)
            if change.truncate is not None:
                tail = self._truncate(change.truncate, tail)
            self.tails[generation] = self._append(generation, change.entries, tail)
        return self.batch

    def _log(self, generation: Generation) -> LogChange:
        return self._logs.setdefault(generation, LogChange())

    def _drop(self, op: DropReplica) -> None:
        """The group's row goes too, unless it speaks of another generation: an install switches first."""
        begin, end = generation_range(op.generation)
        for family in REPLICA_FAMILIES:
            self.batch.delete_range(family, begin, end)
        current = self.generations.get(op.group, self._stored_generations.get(op.group))
        if current == op.generation:
            self.batch.delete(Family.RAFT, group_key(op.group))
            self.generations[op.group] = None
        self._logs.pop(op.generation, None)
        self.tails[op.generation] = None

    def _trim(self, op: TrimBefore) -> None:
        """Range deletions begin where the last trim ended: overlapping ones would make every later read slower.

        Of the time index only seconds before that of the newest entry removed go: whoever looks up a later instant
        finds the row that it found before, and clips its offset to the log's start.
        """
        change = self._logs.get(op.generation)
        first = op.end.index if change is None or not change.entries else change.entries[0].index
        assert op.begin.index <= op.end.index <= first, f"{op} trims what is not written yet, entry {first}"
        begin_second, end_second = (point.wall_ms // TIME_BUCKET_MS for point in (op.begin, op.end))
        self._delete(Family.LOG, op.generation, op.begin.index, op.end.index)
        self._delete(Family.PAYLOAD, op.generation, op.begin.index, op.end.index)
        self._delete(Family.OFFSETS, op.generation, op.begin.offset, op.end.offset)
        self._delete(Family.TIMES, op.generation, begin_second, end_second)

    def _delete(self, family: Family, generation: Generation, begin: int, end: int) -> None:
        assert begin <= end, f"inverted range in {family}: {begin} .. {end}"
        if begin < end:
            self.batch.delete_range(family, pair_key(generation, begin), pair_key(generation, end))

    def _truncate(self, op: TruncateFrom, tail: Tail) -> Tail:
        generation = op.generation
        if tail.next_index is None or op.index >= tail.next_index:
            return tail
        _, end = generation_range(generation)
        self.batch.delete_range(Family.LOG, pair_key(generation, op.index), end)
        self.batch.delete_range(Family.PAYLOAD, pair_key(generation, op.index), end)
        self.batch.delete_range(Family.OFFSETS, pair_key(generation, op.offset), end)
        bucket, first = self._stored_tails.newest_before(generation, op.offset)
        if first is not None:
            self.batch.delete_range(Family.TIMES, pair_key(generation, first), end)
        return Tail(op.index, bucket)

    def _append(self, generation: Generation, entries: Sequence[LogEntry], tail: Tail) -> Tail:
        if not entries:
            return tail
        first = entries[0].index
        assert tail.next_index in (None, first), f"entry {first} cannot follow entry {tail.next_index} - 1"
        put, bucket = self.batch.put, tail.bucket
        for entry in entries:
            key = pair_key(generation, entry.index)
            put(Family.LOG, key, entry.row)
            if entry.kind is not EntryKind.DATA:
                assert not entry.payload, f"entry {entry.index} is no data and has a payload"
                continue
            assert entry.count > 0, f"data entry {entry.index} has no records"
            put(Family.PAYLOAD, key, entry.payload)
            put(Family.OFFSETS, pair_key(generation, entry.base_offset), encode_offset(entry))
            if (entry_bucket := entry.wall_ms // TIME_BUCKET_MS) > bucket:
                bucket = entry_bucket
                put(Family.TIMES, pair_key(generation, bucket), number_value(entry.base_offset))
        self.term = max(self.term, entries[-1].term)
        return Tail(LogIndex(entries[-1].index + 1), bucket)
