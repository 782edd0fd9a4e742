"""How far the readers of a partition have come: what its depth is measured from, and what a trim must leave.

Queue groups keep their positions in the partition itself. Those of consumer groups are with their coordinators, on
other nodes as often as not, and this node is told of them now and then. What it was told is a little old, which is
safe: positions only grow. A group that is new, or that was set back, counts as soon as this node has been told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raftmq.ids import GroupId, Offset, Tick
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.group import QueueGroup
from raftmq.partition.queues.machine import Queues
from raftmq.partition.queues.offset_set import WIDTH
from raftmq.replica.group import ReplicaGroup

FRESH_MS = 10_000
"""For so long what this node was told says which records nobody needs any more."""


@dataclass(frozen=True, slots=True)
class Consumers:
    """The consumer groups of one partition."""

    lowest: Offset | None
    """The lowest committed offset; None: there is none."""
    is_awaited: bool
    """A group reads the partition, and has committed nothing of it yet."""


class Backlog:
    """What readers of the partitions on this node have yet to read, for those who lead them."""

    def __init__(self, find: Callable[[GroupId], ReplicaGroup | None]) -> None:
        self._find = find
        self._consumers: Mapping[GroupId, Consumers] | None = None
        """None: there are no consumer groups."""
        self._as_of: Tick | None = None
        """None: it was never told, and there is nobody who would tell."""

    def told(self, consumers: Mapping[GroupId, Consumers] | None, as_of: Tick) -> None:
        """The consumer groups of partitions, as of a moment; of those that are not named nothing is known. None: there
        are no consumer groups at all."""
        self._consumers, self._as_of = consumers, as_of

    def is_known(self, group: GroupId, now: Tick) -> bool:
        """Whether ``lowest_unconsumed`` speaks for all readers: this node was told of them, and not too long ago."""
        return self._of(group) is not None and not self._is_stale(now)

    def lowest_unconsumed(self, group: GroupId) -> Offset | None:
        """First record that some group which keeps a position in the partition has yet to be done with; None: there is
        no such group. What is parked waits for an operator, not for a worker: it does not count, or one bad record
        would stop the partition."""
        queues = self._queues(group)
        positions = [] if queues is None else [_position(one) for one in queues.groups.values()]
        consumers = self._of(group)
        if consumers is not None and consumers.lowest is not None:
            positions.append(consumers.lowest)
        return min(positions, default=None)

    def kept_from(self, group: GroupId, now: Tick) -> Offset | None:
        """Records from here on stay, and those before may go, because a queue group removes what is acknowledged, or
        keeps what not all groups have read; None: no group says so. 0 where all groups count and nobody knows how far
        they are."""
        queues = self._queues(group)
        needed = None if queues is None else queues.needed_from()
        if queues is None or needed is None or not queues.keeps_for_all():
            return needed
        consumers = self._of(group)
        if consumers is None or consumers.is_awaited or self._is_stale(now):
            return Offset(0)
        return needed if consumers.lowest is None else min(needed, consumers.lowest)

    def _of(self, group: GroupId) -> Consumers | None:
        return _NOBODY if self._consumers is None else self._consumers.get(group)

    def _is_stale(self, now: Tick) -> bool:
        return self._as_of is not None and now - self._as_of > FRESH_MS

    def _queues(self, group: GroupId) -> Queues | None:
        found = self._find(group)
        machine = None if found is None else found.machine
        return machine.queues if isinstance(machine, PartitionMachine) else None


_NOBODY = Consumers(None, is_awaited=False)


def _position(group: QueueGroup) -> Offset:
    parked = group.parked.offsets
    for page in group.open.pages():  # not offset by offset: every batch asks, and very many may be parked
        if left := group.open.page(page) & ~parked.page(page):
            return Offset(page * WIDTH + (left & -left).bit_length() - 1)
    return Offset(group.frontier)
