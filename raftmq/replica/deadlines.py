"""When each group of a node wants to be looked at for the sake of time alone: a heap, not a loop over all of them.

A group with nothing to do would still be looked at once per election timeout, to find that its leader lives, or its
followers. A thousand of them would be a thousand looks a second, each at a moment of its own. So a group that was
looked at in vain *rests* on the nodes that it heard of:

    heap ──due──> tick ──nothing──> resting on nodes ──one of them is silent, or shaken; or an input──> heap

Nothing is decided later than without that. A node that was heard lately, at every look, can be the reason of no
election; once it was silent for `patience` ticks, all that rests on it is back in the heap before the first of their
timers runs out. What the node's word is worth for a group may also change by what the node says, which `shaken` tells,
or by what is done with the group, which is an input, and ``reschedule`` follows. Nor is anything decided sooner: a
group takes in how lately it heard of the node while that still counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import heappop, heappush

from raftmq.ids import GroupId, NodeId, Tick
from raftmq.ports import Clock
from raftmq.replica.heartbeats import NodeHeartbeats
from raftmq.replica.leading import Hosted


class Deadlines:
    """``Hosted.scheduled`` says which entry of a group counts; the others were overtaken, and are skipped.

    `touch`: told of groups for which there is something to do. `patience`: how long a node may be silent while groups
    rest on it. With the time between two heartbeats it must be less than an election timeout.
    """

    def __init__(
        self,
        hosted: Mapping[GroupId, Hosted],
        heartbeats: NodeHeartbeats,
        clock: Clock,
        touch: Callable[[GroupId], None],
        patience: int,
    ) -> None:
        self._hosted = hosted
        self._heartbeats = heartbeats
        self._clock = clock
        self._touch = touch
        self._patience = patience
        self._heap: list[tuple[Tick, GroupId]] = []
        self._resting: dict[NodeId, set[GroupId]] = {}
        """By node that they rest on. Those that were scheduled since may still be here."""
        heartbeats.shaken = self.wake

    def reschedule(self, hosted: Hosted) -> None:
        """Its deadline may be another one now."""
        wanted = hosted.deadline()
        if wanted != hosted.scheduled:
            hosted.scheduled = wanted
            if wanted is not None:
                heappush(self._heap, (wanted, hosted.group.id))

    def nearest(self, otherwise: Tick) -> Tick:
        """The first of all, `otherwise` included. A group that is written to moves its deadline at every entry: nobody
        is to be woken for those that were overtaken."""
        while self._heap and not self._counts(*self._heap[0]):
            heappop(self._heap)
        return min(otherwise, self._heap[0][0]) if self._heap else otherwise

    def tick(self, now: Tick) -> None:
        """Let time pass for every group whose time has come."""
        since = Tick(now - self._patience)
        for hosted in self._due(now):
            if hosted.tick(now):
                self._touch(hosted.group.id)
            elif not self._rests(hosted, since):
                self.reschedule(hosted)

    def wake(self, node: NodeId) -> None:
        """What rests on `node` is to be looked at again, when its time comes."""
        for group_id in sorted(self._resting.pop(node, ())):
            hosted = self._hosted.get(group_id)
            if hosted is not None and hosted.scheduled is None:
                if hosted.tick(self._clock.tick()):
                    self._touch(group_id)
                else:
                    self.reschedule(hosted)

    def wake_silent(self, now: Tick) -> None:
        """The same for nodes that were not heard for too long. To be called at every heartbeat."""
        since = Tick(now - self._patience)
        for node in sorted(self._resting):
            if not self._heartbeats.is_steady(node, since):
                self.wake(node)

    def _rests(self, hosted: Hosted, since: Tick) -> bool:
        nodes = {member.node for member in hosted.leans_on(since)}
        if not nodes or not all(self._heartbeats.is_steady(node, since) for node in nodes):
            return False
        for node in nodes:
            self._resting.setdefault(node, set()).add(hosted.group.id)
        return True

    def _due(self, now: Tick) -> list[Hosted]:
        """Groups whose time has come; each is told once."""
        found: list[Hosted] = []
        while self._heap and self._heap[0][0] <= now:
            at, group_id = heappop(self._heap)
            if self._counts(at, group_id):
                hosted = self._hosted[group_id]
                hosted.scheduled = None
                found.append(hosted)
        return found

    def _counts(self, at: Tick, group_id: GroupId) -> bool:
        hosted = self._hosted.get(group_id)
        return hosted is not None and hosted.scheduled == at


class Eager:
    """The first replicas of new groups: each asks for votes at every heartbeat, while the others create theirs."""

    TRIES = 50

    def __init__(self, hosted: Mapping[GroupId, Hosted]) -> None:
        self._hosted = hosted
        self._tries: dict[GroupId, int] = {}

    def add(self, group_id: GroupId) -> None:
        self._tries[group_id] = self.TRIES

    def forget(self, group_id: GroupId) -> None:
        """The group is gone."""
        self._tries.pop(group_id, None)

    def due(self) -> list[Hosted]:
        """Those that should ask now: nobody has asked in a term yet."""
        asking = {group_id: tries for group_id, tries in sorted(self._tries.items()) if self._is_new(group_id)}
        self._tries = {group_id: tries - 1 for group_id, tries in asking.items() if tries > 1}
        return [self._hosted[group_id] for group_id in asking]

    def _is_new(self, group_id: GroupId) -> bool:
        return self._hosted[group_id].group.node.term == 0
