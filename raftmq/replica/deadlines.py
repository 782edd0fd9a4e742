"""When each group of a node wants to be looked at for the sake of time alone: a heap, not a loop over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop, heappush

from raftmq.ids import GroupId, Tick
from raftmq.replica.leading import Hosted


class Deadlines:
    """``Hosted.scheduled`` says which entry of a group counts; the others were overtaken, and are skipped."""

    def __init__(self, hosted: Mapping[GroupId, Hosted]) -> None:
        self._hosted = hosted
        self._heap: list[tuple[Tick, GroupId]] = []

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

    def due(self, now: Tick) -> list[Hosted]:
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
