"""Bugs between the core and the disk: what is written when, and who is told."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from raftmq.ids import LogIndex
from raftmq.partition.machine import PartitionMachine
from raftmq.ports import PutReplica, StorageError, StorageStalled, TruncateFrom
from raftmq.records import entry
from raftmq.records.state_kinds import StateKind
from raftmq.replica.driver import Driver
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.manager import Replicas
from raftmq.replica.outbox import Outbox
from raftmq.replica.produce import Leadership
from raftmq.replica.readback import ReadBack
from raftmq.replica.tail import Tail
from raftmq.storage.marker import Marker
from raftmq.storage.memory import MemoryStore
from tests.mutants.table import Patch, mutant

AREA = "pump and disk"


@mutant(AREA)
def acknowledge_on_append(patch: Patch) -> None:
    """A record is acknowledged as soon as the leader's disk has it, whatever was asked for."""
    end = Leadership._end

    def ending(self: Leadership, acks: Any, index: LogIndex, now: Any) -> None:
        end(self, acks, self.group.node.match_index(self.group.me), now)

    patch.setattr(Leadership, "_end", ending)


@mutant(AREA)
def answers_leave_with_the_round(patch: Patch) -> None:
    """What must wait for the sync is sent when the write is ordered."""
    make = Replicas.round

    def making(self: Replicas) -> Any:
        made, reads = make(self)
        if made is not None:
            early = Outbox(0)
            for node, message in made.after:
                early.send(node, message)
            for node, channel, frame in early.frames():
                self._transport.send(node, channel, frame)
            made.after.clear()
        return made, reads

    patch.setattr(Replicas, "round", making)


@mutant(AREA)
def hard_state_in_another_batch(patch: Patch) -> None:
    """Term and vote are written one round after the entries and answers that rest on them."""
    make = Replicas.round
    held: dict[int, list[Any]] = {}

    def making(self: Replicas) -> Any:
        made, reads = make(self)
        if made is not None:
            rows = [op for op in made.ops if isinstance(op, PutReplica)]
            earlier = held.pop(id(self), [])
            made.ops[:] = earlier + [op for op in made.ops if not isinstance(op, PutReplica)]
            held[id(self)] = rows
        return made, reads

    patch.setattr(Replicas, "round", making)


@mutant(AREA)
def truncation_not_written(patch: Patch) -> None:
    """Entries that another leader did not keep stay on disk."""
    make = Replicas.round

    def making(self: Replicas) -> Any:
        made, reads = make(self)
        if made is not None:
            made.ops[:] = [op for op in made.ops if not isinstance(op, TruncateFrom)]
        return made, reads

    patch.setattr(Replicas, "round", making)


@mutant(AREA, "tests/replica/test_driver.py", "test_a_real_store_gets_the_same_calls")
def no_sync(patch: Patch) -> None:
    """The storage thread reports what it has written, and not synced."""

    def write_only(self: Driver, rounds: Any) -> None:
        self._write([op for each in rounds for op in each.ops])

    patch.setattr(Driver, "_write_and_sync", write_only)


@mutant(
    AREA,
    "tests/storage/test_memory_store.py",
    "test_a_loss_inside_the_last_round_is_not_noticed_until_the_marker_is_settled",
)
def marker_before_the_sync(patch: Patch) -> None:
    """The tail marker promises what is not synced yet."""
    sync = MemoryStore.sync

    def syncing(self: MemoryStore) -> None:
        disk = self._disk
        disk.mark = replace(disk.mark, sequence=disk.sequence, term=self._term, groups=self._groups)
        sync(self)

    patch.setattr(MemoryStore, "sync", syncing)


@mutant(
    AREA,
    "tests/storage/test_suspicion.py",
    "test_the_marker_knows_a_term_and_a_group_before_they_can_be_told_to_anybody",
)
def marker_not_settled(patch: Patch) -> None:
    """The tail marker is written, and never made durable."""
    patch.setattr(Marker, "settle", lambda self: None)


@mutant(AREA)
def applied_index_without_its_effects(patch: Patch) -> None:
    """How far a partition is applied is written down, what it knows of its producers is not."""
    take = PartitionMachine.take_rows

    def taking(self: PartitionMachine) -> Any:
        return [row for row in take(self) if row[0] is not StateKind.PRODUCER]

    patch.setattr(PartitionMachine, "take_rows", taking)


@mutant(AREA)
def effects_without_the_applied_index(patch: Patch) -> None:
    """What a partition knows of its producers is written down, how far it is applied only the first time."""
    take = PartitionMachine.take_rows

    def taking(self: PartitionMachine) -> Any:
        first = not self._taken_index
        return [row for row in take(self) if first or row[0] is not StateKind.APPLIED]

    patch.setattr(PartitionMachine, "take_rows", taking)


@mutant(AREA)
def effects_ahead_of_the_log(patch: Patch) -> None:
    """Derived state is written a round before the entries that it comes from."""
    take = ReplicaGroup._put_rows

    def putting(self: ReplicaGroup, outbox: Outbox) -> None:
        at = len(outbox.round.ops)
        take(self, outbox)
        rows = outbox.round.ops[at:]
        if rows:
            with suppress(StorageError, StorageStalled):
                self._store.write(rows)
                del outbox.round.ops[at:]

    patch.setattr(ReplicaGroup, "_put_rows", putting)


@mutant(AREA, "tests/replica/test_tail.py", "test_batches_below_the_tail_are_not_guessed")
def tail_forgets_too_early(patch: Patch) -> None:
    """Entries leave the memory before the disk has them."""
    evict = Tail.evict
    patch.setattr(Tail, "evict", lambda self, budget, limit: evict(self, budget, LogIndex(1 << 60)))


@mutant(AREA, "tests/replica/test_readback.py", "test_what_was_read_before_a_truncation_is_no_longer_in_the_log")
def read_back_survives_a_truncation(patch: Patch) -> None:
    """What was read from disk before a truncation is used after it."""
    patch.setattr(ReadBack, "truncated", lambda self: None)


@mutant(AREA)
def applied_before_committed(patch: Patch) -> None:
    """A replica applies whatever its log holds."""
    apply = ReplicaGroup._apply

    def applying(self: ReplicaGroup, outbox: Outbox) -> None:
        core = self.node._core
        committed, core.commit_index = core.commit_index, core.log.last
        try:
            apply(self, outbox)
        finally:
            core.commit_index = max(committed, core.applied_index)

    patch.setattr(ReplicaGroup, "_apply", applying)


@mutant(AREA, "tests/records/test_entry.py", "test_no_damaged_row_is_taken_for_an_entry")
def checksums_not_compared(patch: Patch) -> None:
    """Whatever the disk gives back is taken for what was written."""
    real = entry.crc32c
    patch.setattr(entry, "crc32c", lambda data: _Agreeing(real(data)))


class _Agreeing(int):
    """Equal to every number."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__
