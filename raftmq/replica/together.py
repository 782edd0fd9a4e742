"""Batches that are one entry with verdicts of queue groups, as a partition's leader makes them: both count, or none."""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.errors import LeaseExpired, Unavailable
from raftmq.ids import LogIndex
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.codec import attach
from raftmq.partition.queues.commands import Settle
from raftmq.records.batch import BATCH_VERSION, VERDICTS_VERSION, CheckedBatch
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.sealing import Draft


class Together:
    """Of one term. A batch has its offsets from the start, so its verdicts are decided here and asserted at apply: over
    the applied state, while nothing is under way that could change it."""

    def __init__(self, group: ReplicaGroup, machine: PartitionMachine | None) -> None:
        self._group = group
        self._machine = machine
        self._newest = LogIndex(0)
        """The newest entry that holds verdicts with its batch."""

    def draft(self, batch: CheckedBatch, stamp: tuple[int, int], settles: Sequence[Settle]) -> Draft:
        """The entry of `batch` with `settles`, if there are any; to be proposed before anything else is.

        Raises LeaseExpired where a verdict would not count, and Unavailable where that cannot be said yet.
        """
        if not settles:
            return Draft(BATCH_VERSION, batch.count, batch.header_bytes, batch.payload, batch.crc, stamp)
        assert self._machine is not None
        if self._group.commands or self._newest > self._machine.applied_index:
            raise Unavailable("earlier verdicts on this partition are under way: try again", retry_after_ms=1)
        objection = self._machine.queues.objection(settles, stamp[0])
        if objection:
            raise LeaseExpired(objection)
        header = attach(batch.header_bytes, settles)
        return Draft(VERDICTS_VERSION, batch.count, header, batch.payload, batch.crc, stamp)

    def appended(self, index: LogIndex) -> None:
        """A batch with verdicts was proposed there."""
        self._newest = index
