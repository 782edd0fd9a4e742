"""Batches that are one entry with verdicts of queue groups, as a partition's leader makes them: both count, or none."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from raftmq.errors import LeaseExpired, Unavailable
from raftmq.ids import LeaseId, LogIndex, QueueId
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.codec import attach
from raftmq.partition.queues.commands import Settle
from raftmq.records.batch import BATCH_VERSION, VERDICTS_VERSION, CheckedBatch
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.sealing import Draft

Told = tuple[QueueId, LeaseId, int] | tuple[QueueId, bytes]
"""What only one of several entries may say: a verdict on this record, or that this key was processed."""


class AlreadyProcessed(Exception):
    """Nothing was proposed: `keys` had been remembered as processed before."""

    def __init__(self, keys: frozenset[bytes]) -> None:
        super().__init__(f"{len(keys)} keys were processed before")
        self.keys = keys


class _UnderWay(NamedTuple):
    at: LogIndex
    told: frozenset[Told]


class Together:
    """Of one term. A batch has its offsets from the start, so its verdicts are decided here and asserted at apply: over
    the applied state, while nothing is under way that could change it. Other batches with verdicts may be, as long as
    theirs are on other records: those change nothing for these."""

    def __init__(self, group: ReplicaGroup, machine: PartitionMachine | None) -> None:
        self._group = group
        self._machine = machine
        self._under_way: deque[_UnderWay] = deque()
        """Entries that hold verdicts with their batch, and may not be applied yet."""

    def draft(self, batch: CheckedBatch, stamp: tuple[int, int], settles: Sequence[Settle]) -> Draft:
        """The entry of `batch` with `settles`, if there are any; to be proposed before anything else is.

        Raises LeaseExpired where a verdict would not count, AlreadyProcessed where the work was done before, and
        Unavailable where neither can be said yet.
        """
        if not settles:
            return Draft(BATCH_VERSION, batch.count, batch.header_bytes, batch.payload, batch.crc, stamp)
        assert self._machine is not None
        while self._under_way and self._under_way[0].at <= self._machine.applied_index:
            self._under_way.popleft()
        told = _told(settles)
        if self._group.commands or not all(told.isdisjoint(other.told) for other in self._under_way):
            raise Unavailable("earlier verdicts on this partition are under way: try again", retry_after_ms=1)
        objection = self._machine.queues.objection(settles, stamp[0])
        if objection:
            raise LeaseExpired(objection)
        known = frozenset(key for op in settles for key in op.processed_keys if key and self._remembers(op.group, key))
        if known:
            raise AlreadyProcessed(known)
        header = attach(batch.header_bytes, settles)
        return Draft(VERDICTS_VERSION, batch.count, header, batch.payload, batch.crc, stamp)

    def appended(self, index: LogIndex, settles: Sequence[Settle]) -> None:
        """A batch with these verdicts was proposed there."""
        self._under_way.append(_UnderWay(index, _told(settles)))

    def _remembers(self, group: QueueId, key: bytes) -> bool:
        assert self._machine is not None
        return key in self._machine.queues.groups[group].processed


def _told(settles: Sequence[Settle]) -> frozenset[Told]:
    records: list[Told] = [(op.group, op.lease, offset) for op in settles for offset in op.offsets]
    keys: list[Told] = [(op.group, key) for op in settles for key in op.processed_keys if key]
    return frozenset([*records, *keys])
