"""``MemoryStore``: ``ports.Store`` without a disk, for simulation: deterministic, fast, and it can lose things.

What a power cut does is decided by the caller: ``crash`` throws away what was not synced, except for a prefix of
whole batches that the operating system may have written already, and on request also synced batches (a disk that
lied, a log that was cut). ``reopen`` is the next start of the process. Identity, boot count, marker and suspicion
work as in RocksStore, through the same code.

The state is an image plus a journal of the batches after it; ``_image`` is what reads see, ``_base`` lags behind by
the journal. Entries are immutable and shared, so that both together cost little more than one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from raftmq.ids import BootCount, Generation, LogIndex, NodeId, Offset, StoreId, Term
from raftmq.ports import (
    BatchRow,
    PutEntries,
    PutReplica,
    ReplicaRow,
    StateKind,
    StorageError,
    StorageRefused,
    StorageStalled,
    StoreIdentity,
    WriteOp,
)
from raftmq.records.entry import LogEntry
from raftmq.storage.checks import checked, decode_entry
from raftmq.storage.keys import node_key
from raftmq.storage.marker import Mark
from raftmq.storage.memory_image import NO_LOG, Image, MemoryLog
from raftmq.storage.rows import DiskIdentity
from raftmq.storage.suspicion import first_mark, loss, next_boot, suspect

_KEPT_SYNCED = 64
"""How many synced batches can be lost at most by ``crash``: older ones are folded into the base."""


@dataclass(slots=True)
class _Disk:
    """What outlives a process. ``journal[:synced]`` is durable; ``sequence`` counts every batch ever written."""

    base: Image
    mark: Mark
    journal: list[Sequence[WriteOp | DiskIdentity]] = field(default_factory=list)
    synced: int = 0
    sequence: int = 0
    damaged: set[tuple[Generation, LogIndex]] = field(default_factory=set)


class MemoryStore:
    """One process's view of a simulated disk. Not for threads."""

    def __init__(self, *, node: NodeId, store_id: StoreId) -> None:
        """An empty disk, opened for the first time. `store_id` comes from the caller's seed."""
        assert store_id > 0
        disk = _Disk(Image(DiskIdentity(node, store_id, BootCount(0))), Mark(BootCount(0), 0, Term(0), 0))
        self._start(disk)

    def _start(self, disk: _Disk) -> None:
        self._disk = disk
        self._image = disk.base.copy()
        for ops in disk.journal:
            self._image.apply(ops)
        self._failure: str | None = None
        self._stall_next = self._fail_write_next = self._fail_sync_next = False
        self._flip: int | None = None
        self.corrupted = 0
        """How many reads of this process were given something else than what had been written."""
        self._pending: Mark | None = None
        self._boot(self._image.disk)

    def _boot(self, before: DiskIdentity) -> None:
        mark = self._disk.mark
        self.suspect_reason = loss(mark, before.boot_count, self._disk.sequence)
        """Why this disk was found suspect at this open, for people; None: it was not."""
        disk = replace(before, boot_count=next_boot(mark, before.boot_count))
        ops: list[WriteOp | DiskIdentity] = []
        if self.suspect_reason is not None:
            suspicion = suspect(self.replicas(), mark, before.lost)
            disk = replace(disk, lost=suspicion.lost)
            ops.extend(PutReplica(row) for row in suspicion.rows)
        ops.append(disk)
        self._append(ops)
        self._disk.synced = len(self._disk.journal)
        mark = self._disk.mark = first_mark(disk, mark, self.replicas(), self._disk.sequence)
        self._term, self._groups = mark.term, mark.groups
        self._identity = StoreIdentity(disk.store_id, disk.boot_count, self.suspect_reason is not None, disk.lost)

    @property
    def identity(self) -> StoreIdentity:
        return self._identity

    # -- faults ----------------------------------------------------------------------------------------------------

    def stall_next_write(self) -> None:
        """The next write raises StorageStalled and applies nothing."""
        self._stall_next = True

    def fail_next_write(self) -> None:
        """The next write raises StorageError; whether it is found after a crash is up to ``crash``'s prefix."""
        self._fail_write_next = True

    def fail_next_sync(self) -> None:
        """The next sync raises StorageError, and every call after it."""
        self._fail_sync_next = True

    def corrupt_next_read(self, bit: int | None) -> None:
        """Of the next entries or batches that are read, one comes with this bit of it flipped. None: none does."""
        self._flip = bit

    def damage(self, generation: Generation, index: LogIndex) -> None:
        """From now on this entry cannot be read any more."""
        self._disk.damaged.add((generation, index))

    def kill(self) -> None:
        """The process dies, the machine stays up: what was written is there, synced or not."""
        self._failure = "the process was killed"

    def crash(self, rng: Random | None = None, *, lose_synced: int = 0, torn: int | None = None) -> None:
        """Power is cut: unsynced batches are lost, but for a prefix that `rng` chooses (None: all are lost).

        `torn`: the number of an unsynced batch, counted around, that was being written: a batch is there whole or not
        at all, so that it is lost, and everything after it.

        `lose_synced`: the disk also loses up to so many of the newest synced batches (the last 64 at most), and
        then everything after them. The store is dead afterwards; ``reopen`` goes on with what is left.
        """
        disk = self._disk
        kept = disk.synced
        if lose_synced:
            kept = max(0, disk.synced - lose_synced)
        elif torn is not None:
            kept += torn % max(1, len(disk.journal) - disk.synced)
        elif rng is not None:
            kept += rng.randint(0, len(disk.journal) - disk.synced)
        disk.sequence -= len(disk.journal) - kept
        del disk.journal[kept:]
        disk.synced = kept
        self._failure = "the power was cut"

    @property
    def unsynced(self) -> int:
        """Batches written and not synced."""
        return len(self._disk.journal) - self._disk.synced

    @property
    def losable(self) -> int:
        """How many synced batches ``crash`` can lose."""
        return self._disk.synced

    @property
    def unmarked(self) -> int:
        """Synced batches that are newer than the tail marker: the loss of so few cannot be noticed."""
        disk = self._disk
        return disk.sequence - (len(disk.journal) - disk.synced) - disk.mark.sequence

    def reopen(self) -> MemoryStore:
        """The next start of the process on this disk, after ``kill``, ``crash`` or ``close``."""
        if self._failure is None:
            raise StorageRefused("the disk is in use: close it, kill it or crash it first")
        store = MemoryStore.__new__(MemoryStore)
        store._start(self._disk)
        return store

    # -- reads -----------------------------------------------------------------------------------------------------

    def node_value(self, name: str) -> bytes | None:
        """A row of the ``node`` family. Raises StorageError."""
        self._check()
        return self._image.node.get(node_key(name))

    def replicas(self) -> list[ReplicaRow]:
        """Every replica on this disk, by group. Raises StorageError."""
        self._check()
        return [row for _, row in sorted(self._image.rows.items())]

    def scan_headers(self, generation: Generation, first: LogIndex) -> Iterator[LogEntry]:
        """Headers from `first` on as of this call, each checked when it is its turn. Raises StorageError."""
        log = self._log(generation)
        entries = self._readable(generation, log.entries[log.position(first) :])
        return checked(generation, first, (replace(e, payload=b"") if e.payload else e for e in entries))

    def read_entries(self, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int) -> list[LogEntry]:
        """Entries [first, last], checked; fewer when over `max_bytes` (at least one); none when first > last.
        Raises StorageError, also where one of them is missing."""
        log = self._log(generation)
        if first > last:
            return []
        found: list[LogEntry] = []
        size = 0
        start, stop = log.position(first), log.position(LogIndex(last + 1))
        for entry in checked(
            generation, first, self._readable(generation, self._as_read(generation, log.entries[start:stop]))
        ):
            size += entry.size
            if found and size > max_bytes:
                return found
            found.append(entry)
        if len(found) != last - first + 1:
            raise StorageError(f"generation {generation} has no entry {first + len(found)} (asked up to {last})")
        return found

    def read_batches(self, generation: Generation, offset: Offset, end: Offset, max_bytes: int) -> list[BatchRow]:
        """Batches from the one that holds `offset` on, none of which reaches past `end`; at least one if there is
        any. Raises StorageError where batches follow but none holds `offset`."""
        log = self._log(generation)
        at = bisect_right(log.offsets, offset) - 1
        if offset >= end:
            return []
        if at < 0 or offset >= log.batches[at].next_offset:
            at += 1
            expected = None
        else:
            expected = log.offsets[at]
        found: list[BatchRow] = []
        size = 0
        found_on_disk = self._as_read(generation, log.batches[at : bisect_left(log.offsets, end)])
        for entry in self._readable(generation, found_on_disk):
            if entry.base_offset != expected:
                missing = offset if expected is None else expected
                raise StorageError(f"generation {generation}: no batch holds offset {missing}")
            expected = entry.next_offset
            size += len(entry.payload) + len(entry.inline)
            if expected > end or (found and size > max_bytes):
                break
            found.append(_batch(entry))
        return found

    @property
    def has_failed(self) -> bool:
        """Nothing can be read or written any more: whoever uses it has to end."""
        return self._failure is not None

    def peek(self, generation: Generation, index: LogIndex) -> LogEntry:
        """The entry at `index` as it was written: for those who only watch, whom no fault of the disk concerns."""
        log = self._log(generation)
        return log.entries[log.position(index)]

    def _as_read(self, generation: Generation, entries: list[LogEntry]) -> list[LogEntry]:
        """What the disk gives back: what was written, unless a bit was asked to be flipped. Raises StorageError where
        that is noticed."""
        if self._flip is None or not entries:
            return entries
        flip, self._flip = self._flip, None
        self.corrupted += 1
        entry = entries[flip % len(entries)]
        row, payload = bytearray(entry.row), bytearray(entry.payload)
        damaged = payload if payload and flip & 1 else row
        damaged[flip % len(damaged)] ^= 1 << flip % 8
        read = decode_entry(generation, bytes(row), bytes(payload))
        return [read if each is entry else each for each in entries]

    def offset_at(self, generation: Generation, wall_ms: int) -> Offset | None:
        """See ``ports.Store.offset_at``."""
        batches = self._log(generation).batches
        at = bisect_left(batches, wall_ms, key=lambda batch: batch.wall_ms)
        return batches[at].base_offset if at < len(batches) else None

    def state(self, generation: Generation, kind: StateKind) -> Iterator[tuple[bytes, bytes]]:
        """Derived rows of one kind, by key, as of this call. Raises StorageError."""
        self._check()
        rows = self._image.states.get(generation, {})
        return iter(sorted((key, value) for (found, key), value in rows.items() if found == kind))

    def _readable(self, generation: Generation, entries: Sequence[LogEntry]) -> Iterator[LogEntry]:
        for entry in entries:
            if (generation, entry.index) in self._disk.damaged:
                raise StorageError(f"entry {entry.index} of generation {generation} is damaged")
            yield entry

    # -- writes ----------------------------------------------------------------------------------------------------

    def write(self, ops: Sequence[WriteOp]) -> None:
        """See ``ports.Store.write``. Ops that break the log's order are a bug and fail an assertion."""
        self._check()
        if self._stall_next:
            self._stall_next = False
            raise StorageStalled("a write stall was asked for")
        self._append(tuple(ops))
        for op in ops:
            match op:
                case PutReplica(row):
                    self._term = max(self._term, row.hard_state.term)
                    self._groups = max(self._groups, row.group + 1)
                case PutEntries(_, entries) if entries:
                    self._term = max(self._term, entries[-1].term)
        if self._fail_write_next:
            self._fail("a write failed")

    def sync(self) -> None:
        """See ``ports.Store.sync``. The marker of the sync before becomes durable with it."""
        self._check()
        mark = self._disk.mark
        if not mark.covers(self._term, self._groups):
            self._disk.mark = replace(mark, term=self._term, groups=self._groups)
        self.settle()
        if self._fail_sync_next:
            self._fail("a sync failed")
        disk = self._disk
        disk.synced = len(disk.journal)
        self._pending = replace(disk.mark, sequence=disk.sequence)
        while disk.synced > _KEPT_SYNCED:
            disk.base.apply(disk.journal.pop(0))
            disk.synced -= 1

    def settle(self) -> None:
        """See ``ports.Store.settle``."""
        self._check()
        if self._pending is not None:
            self._disk.mark = replace(self._pending, term=self._term, groups=self._groups)
            self._pending = None

    def close(self) -> None:
        """See ``ports.Store.close``. Idempotent."""
        if self._failure is None:
            self.sync()
            self.settle()
            self._failure = "the store is closed"

    def _append(self, ops: Sequence[WriteOp | DiskIdentity]) -> None:
        self._image.apply(ops)
        self._disk.journal.append(ops)
        self._disk.sequence += 1

    def _log(self, generation: Generation) -> MemoryLog:
        self._check()
        return self._image.logs.get(generation, NO_LOG)

    def _check(self) -> None:
        if self._failure is not None:
            raise StorageError(f"the store has failed before: {self._failure}")

    def _fail(self, what: str) -> None:
        self._failure = what
        raise StorageError(what)


def _batch(entry: LogEntry) -> BatchRow:
    return BatchRow(
        entry.base_offset,
        entry.count,
        entry.index,
        entry.term,
        entry.wall_ms,
        entry.inline,
        entry.payload,
    )
