"""The state machine of a partition: what its committed log, applied in order, amounts to.

    committed entries ──apply──> producers, message ids, log start, clocks ──take_rows──> derived rows
                                               ^
                                               └──restore── derived rows of an earlier run

Every replica that has applied the same entries has the same state. No clock is read: both clocks come out of the
entries, stamped by the leader. Records themselves are not looked at; they *are* the log.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from raftmq.errors import RaftmqError
from raftmq.ids import LogIndex, Offset, ProducerId, WallMs
from raftmq.internal.v1 import storage_pb2
from raftmq.partition import commands
from raftmq.partition.message_ids import DEFAULT_WINDOW, MessageIdTable, NamedBatch, Window
from raftmq.partition.producers import APPEND, EXPIRY_MS, Placement, ProducerState, ProducerTable, advance
from raftmq.partition.queues import codec
from raftmq.partition.queues.commands import QueueAnswer, QueueCommand, Settle
from raftmq.partition.queues.group import Now
from raftmq.partition.queues.machine import Bounds, Queues
from raftmq.raft.types import EntryKind
from raftmq.records.batch import BATCH_VERSION, VERDICTS_VERSION
from raftmq.records.entry import LogEntry
from raftmq.records.poison import CorruptState, PoisonEntry
from raftmq.records.state_kinds import StateKind
from raftmq.v1 import types_pb2

APPLIED_KEY = b""
_PRODUCER_KEY = struct.Struct(">Q")
_MESSAGE_ID_KEY = struct.Struct(">Q")

StateRow = tuple[StateKind, bytes, bytes | None]
"""A derived row; None: the row is gone."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What one entry did."""

    index: LogIndex
    kind: EntryKind
    base_offset: Offset
    """Of its first record; of entries without records: the offset the next record gets."""
    next_offset: Offset
    """After the entry. Everything below is committed."""
    log_start_offset: Offset
    """After the entry."""
    queue: tuple[QueueAnswer, ...] = ()
    """What the ops of a ``QueueCommand`` are answered, one for each."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch of the log as the tables see it (``producers.Sequenced``, ``message_ids.Named``)."""

    producer_id: ProducerId
    producer_epoch: int
    first_sequence: int
    count: int
    crc: int
    message_id: str


class PartitionMachine:
    """Derived state of one replica of a partition. Not thread-safe; performs no IO.

    The host applies committed entries in order, each exactly once. It may hand out derived rows (`take_rows`) as seldom
    as it likes: whatever is not on disk is replayed from the log, so they need no sync and must never be
    written ahead of the entries they come from.

    PoisonEntry from `apply` means that the partition must stop on this node. The state is as it was before.
    """

    def __init__(self, producer_expiry_ms: int = EXPIRY_MS) -> None:
        self.applied_index = LogIndex(0)
        self.next_offset = Offset(0)
        """The offset that the next record gets; the high watermark of what is applied."""
        self.log_start_offset = Offset(0)
        self.raft_start = LogIndex(1)
        """First entry that a replica may still have to get by an append, or that holds records which can be read."""
        self.log_tick = 0
        """Milliseconds of led time so far."""
        self.wall_ms = WallMs(0)
        """The newest wall stamp."""
        self.producers = ProducerTable(producer_expiry_ms)
        self.message_ids = MessageIdTable()
        self.queues = Queues()
        self._dirty: set[ProducerId] = set()
        self._dirty_ids: dict[int, NamedBatch | None] = {}
        """By their number; None: forgotten."""
        self._taken_index = LogIndex(0)

    def restore(self, rows: Iterable[tuple[StateKind, bytes, bytes]]) -> None:
        """Take over the rows of an earlier run (none: an empty partition), as they were at their applied index.

        Raises CorruptState where they cannot have been written by one.
        """
        assert self.applied_index == 0, "restore comes before the first entry"
        try:
            self._restore(rows)
        except (AssertionError, DecodeError, ValueError, struct.error) as error:
            raise CorruptState(str(error)) from error

    def _restore(self, rows: Iterable[tuple[StateKind, bytes, bytes]]) -> None:
        states: list[tuple[ProducerId, ProducerState]] = []
        named: list[NamedBatch] = []
        queues: list[tuple[StateKind, bytes, bytes]] = []
        applied = storage_pb2.AppliedRow()
        for kind, key, value in rows:
            if kind is StateKind.PRODUCER:
                states.append((ProducerId(*_PRODUCER_KEY.unpack(key)), ProducerState.decode(value)))
            elif kind is StateKind.MESSAGE_ID:
                named.append(NamedBatch.decode(_MESSAGE_ID_KEY.unpack(key)[0], value))
            elif kind >= StateKind.QUEUE_GROUP:
                queues.append((kind, key, value))
            else:
                assert (kind, key) == (StateKind.APPLIED, APPLIED_KEY), f"no row of a partition: {kind!r} {key!r}"
                applied = storage_pb2.AppliedRow.FromString(value)
                self._restore_applied(applied)
        assert self.applied_index > 0 or not (states or named or queues), "rows without an applied row"
        self.producers = ProducerTable(self.producers.expiry_ms, states)
        window = Window(applied.window.count, applied.window.age_ms) if applied.HasField("window") else DEFAULT_WINDOW
        self.message_ids = MessageIdTable(window, applied.message_ids, named)
        self.queues.restore(queues, Now(self.log_tick, self.wall_ms))

    def apply(self, entry: LogEntry) -> Applied:
        """Apply a committed entry (its payload is not needed). Raises PoisonEntry; nothing has changed then."""
        assert entry.index == self.applied_index + 1, f"entry {entry.index} cannot follow {self.applied_index}"
        self._check(entry)
        answers: tuple[QueueAnswer, ...] = ()
        match entry.kind:
            case EntryKind.DATA:
                answers = self._apply_batch(entry)
            case EntryKind.COMMAND:
                answers = self._apply_command(entry)
            case EntryKind.NOOP | EntryKind.MEMBERSHIP:
                pass
        # Nothing below can fail.
        self._dirty.update(self.producers.expire(entry.log_tick))
        self._forget_ids(entry.log_tick)
        self.queues.pass_time(Now(entry.log_tick, entry.wall_ms))
        self.applied_index = entry.index
        self.next_offset = entry.next_offset
        self.log_tick = entry.log_tick
        self.wall_ms = WallMs(entry.wall_ms)
        return Applied(entry.index, entry.kind, entry.base_offset, entry.next_offset, self.log_start_offset, answers)

    def take_rows(self) -> list[StateRow]:
        """Rows that changed since the last call, in order of (kind, key); to be written in one batch."""
        if self._taken_index == self.applied_index:
            return []
        self._taken_index = self.applied_index
        rows: list[StateRow] = [self._applied_row()]
        for producer_id in sorted(self._dirty):
            state = self.producers.get(producer_id, self.log_tick)
            key = _PRODUCER_KEY.pack(producer_id)
            rows.append((StateKind.PRODUCER, key, None if state is None else state.encode()))
        self._dirty.clear()
        for number, batch in sorted(self._dirty_ids.items(), key=lambda item: item[0]):
            key = _MESSAGE_ID_KEY.pack(number)
            rows.append((StateKind.MESSAGE_ID, key, None if batch is None else batch.encode()))
        self._dirty_ids.clear()
        return rows + self.queues.take_rows()

    def all_rows(self) -> list[tuple[StateKind, bytes, bytes]]:
        """Everything that there is, in order of (kind, key): what ``restore`` needs to come to this very state."""
        producers = sorted(self.producers, key=lambda item: item[0])
        return [
            self._applied_row(),
            *((StateKind.PRODUCER, _PRODUCER_KEY.pack(number), state.encode()) for number, state in producers),
            *((StateKind.MESSAGE_ID, _MESSAGE_ID_KEY.pack(named.number), named.encode()) for named in self.message_ids),
            *self.queues.all_rows(),
        ]

    def _applied_row(self) -> tuple[StateKind, bytes, bytes]:
        ids = self.message_ids
        applied = storage_pb2.AppliedRow(
            applied_index=self.applied_index,
            next_offset=self.next_offset,
            log_tick=self.log_tick,
            wall_ms=self.wall_ms,
            log_start_offset=self.log_start_offset,
            raft_start=self.raft_start,
            message_ids=ids.total,
        )
        if ids.window != DEFAULT_WINDOW:
            applied.window.count, applied.window.age_ms = ids.window.count, ids.window.age_ms
        return StateKind.APPLIED, APPLIED_KEY, applied.SerializeToString()

    def _restore_applied(self, row: storage_pb2.AppliedRow) -> None:
        self.applied_index = self._taken_index = LogIndex(row.applied_index)
        self.next_offset = Offset(row.next_offset)
        self.log_start_offset = Offset(row.log_start_offset)
        self.raft_start = LogIndex(max(1, row.raft_start))
        self.log_tick = row.log_tick
        self.wall_ms = WallMs(row.wall_ms)

    def _check(self, entry: LogEntry) -> None:
        """What holds for every entry that an honest leader made."""
        if entry.base_offset != self.next_offset:
            raise _poison(entry, f"begins at offset {entry.base_offset}, the next one is {self.next_offset}")
        if entry.log_tick < self.log_tick or entry.wall_ms < self.wall_ms:
            raise _poison(
                entry,
                f"goes back in time: log tick {entry.log_tick} after {self.log_tick}, "
                f"wall stamp {entry.wall_ms} after {self.wall_ms}",
            )
        if (entry.count > 0) != (entry.kind is EntryKind.DATA):
            raise _poison(entry, f"is a {entry.kind.name} with {entry.count} records")

    def _apply_batch(self, entry: LogEntry) -> tuple[QueueAnswer, ...]:
        """Assert the leader's decision, and remember the batch.

        A batch that should have been refused cannot be refused here: its offsets are given away, and a hole would be
        left in the partition. It means that this replica's state and the leader's differ, so the partition stops.
        """
        batch = _read_batch(entry)
        settles = self._check_verdicts(entry) if entry.version == VERDICTS_VERSION else ()
        if batch.producer_id or batch.message_id:
            self._remember(batch, entry)
        if not settles:
            return ()
        bounds = Bounds(self.log_start_offset, self.next_offset)
        return self.queues.apply(QueueCommand(settles), Now(entry.log_tick, entry.wall_ms), bounds)

    def _check_verdicts(self, entry: LogEntry) -> tuple[Settle, ...]:
        """The verdicts that are one entry with its batch: the leader has made sure that they count."""
        try:
            settles = codec.attached(entry.inline)
        except ValueError as error:
            raise _poison(entry, f"holds {error}") from None
        objection = self.queues.objection(settles, entry.log_tick)
        if objection:
            raise _poison(entry, f"settles what it may not: {objection}")
        return settles

    def _remember(self, batch: _Batch, entry: LogEntry) -> None:
        """Assert the decision on a batch that says who sent it, before anything changes; then remember it."""
        try:
            original = None
            if batch.message_id:
                original = self.message_ids.find(batch, entry.log_tick)
            decision = self.producers.decide(batch, entry.log_tick)
        except RaftmqError as error:
            raise _poison(entry, f"should have been refused: {error.reason}: {error.message}") from error
        if decision != APPEND or original is not None:
            raise _poison(entry, f"should have been answered as a duplicate: {batch}")
        placement = Placement(entry.base_offset, entry.index, entry.term, WallMs(entry.wall_ms), entry.log_tick)
        if batch.message_id:
            self._forget_ids(entry.log_tick)
            remembered = self.message_ids.remember(batch, placement)
            self._dirty_ids[remembered.number] = remembered
        if batch.producer_id:
            state = self.producers.get(batch.producer_id, entry.log_tick)
            self.producers.put(batch.producer_id, advance(state, batch, placement))
            self._dirty.add(batch.producer_id)

    def _forget_ids(self, log_tick: int) -> None:
        for gone in self.message_ids.forget(log_tick):
            self._dirty_ids[gone.number] = None

    def _apply_command(self, entry: LogEntry) -> tuple[QueueAnswer, ...]:
        """A command is a request: what becomes of it is decided here, by every replica alike."""
        try:
            command = commands.decode(entry.inline, entry.version)
        except PoisonEntry as error:
            raise _poison(entry, f"holds {error}") from None
        now = Now(entry.log_tick, entry.wall_ms)
        match command:
            case commands.TickCommand():
                pass
            case commands.TrimCommand(offset, index):
                self._trim(offset, LogIndex(min(index, entry.index)), now)
            case commands.WindowCommand(window):
                # What the window so far has forgotten stays forgotten under a wider one.
                self._forget_ids(entry.log_tick)
                self.message_ids.window = window
            case QueueCommand():
                return self.queues.apply(command, now, Bounds(self.log_start_offset, self.next_offset))
        return ()

    def _trim(self, offset: Offset, index: LogIndex, now: Now) -> None:
        """It never takes a start back, nor past what is committed, nor what a queue needs."""
        self.queues.pass_time(now)
        wanted = max(self.log_start_offset, min(offset, self.next_offset))
        start = self.queues.bound(wanted) if self.queues else wanted
        if start > self.log_start_offset:
            self.log_start_offset = start
            self.queues.trimmed(start, now)
        if start >= wanted:  # else the entries before it hold what can still be read
            self.raft_start = max(self.raft_start, index)


def _read_batch(entry: LogEntry) -> _Batch:
    if entry.version not in (BATCH_VERSION, VERDICTS_VERSION):
        raise _poison(entry, f"holds a batch of version {entry.version}; this node understands {VERDICTS_VERSION}")
    try:
        header = types_pb2.BatchHeader.FromString(entry.inline)
    except DecodeError:
        raise _poison(entry, "holds a batch whose header cannot be read") from None
    if (header.count, header.crc32c) != (entry.count, entry.payload_crc):
        raise _poison(
            entry,
            f"has {entry.count} records with CRC-32C {entry.payload_crc:#010x}, its batch header says "
            f"{header.count} with {header.crc32c:#010x}",
        )
    return _Batch(
        ProducerId(header.producer_id),
        header.producer_epoch,
        header.first_sequence,
        header.count,
        header.crc32c,
        header.message_id,
    )


def _poison(entry: LogEntry, reason: str) -> PoisonEntry:
    return PoisonEntry(f"entry {entry.index} of term {entry.term} {reason}")
