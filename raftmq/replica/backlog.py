"""How far the consumers of a partition have come: what the depth of a partition is measured from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raftmq.ids import GroupId, Offset
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.group import QueueGroup
from raftmq.replica.group import ReplicaGroup


class Backlog(Protocol):
    """What consumers have yet to read."""

    def lowest_unconsumed(self, group: GroupId) -> Offset | None:
        """First record of the partition that somebody has yet to be done with; None: nobody keeps a position in it."""


class QueueBacklog:
    """Of the queue groups of a partition the slowest one. What is parked waits for an operator, not for a worker: it
    does not count, or one bad record would stop the partition."""

    def __init__(self, find: Callable[[GroupId], ReplicaGroup | None]) -> None:
        self._find = find

    def lowest_unconsumed(self, group: GroupId) -> Offset | None:
        found = self._find(group)
        if found is None or not isinstance(found.machine, PartitionMachine):
            return None
        return min((_position(one) for one in found.machine.queues.groups.values()), default=None)


def _position(group: QueueGroup) -> Offset:
    parked = group.parked.offsets
    return Offset(next((offset for offset in group.open if offset not in parked), group.frontier))
