"""Which of the ready records goes next: the highest priority; of those, lanes in turn; of a lane, the lowest offset.

Lanes are served in the order of their hashes, from the one after the last that was served and around. So what comes
next follows from the set of ready records and one number, and a lane that has just come gets no more than its turn.

Records of priority 0 in a group without lanes, which is nearly all there are, are in ``ready`` and nowhere else.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from heapq import heappop, heappush

from raftmq.partition.queues.offset_set import OffsetSet


class _Lanes:
    """Ready records of one priority. What is no longer ready is skipped when it comes to the top."""

    def __init__(self) -> None:
        self._heaps: dict[int, list[int]] = {}
        self._order: list[int] = []
        """Lanes, ascending."""

    def add(self, lane: int, offset: int) -> None:
        heap = self._heaps.get(lane)
        if heap is None:
            self._heaps[lane] = [offset]
            insort(self._order, lane)
        else:
            heappush(heap, offset)

    def take(self, cursor: int, ready: OffsetSet) -> tuple[int, int] | None:
        """(lane, offset) of the next one after the lane `cursor`; it is taken out here, not of `ready`."""
        while self._order:
            at = bisect_right(self._order, cursor)
            lane = self._order[at if at < len(self._order) else 0]
            heap = self._heaps[lane]
            while heap and heap[0] not in ready:
                heappop(heap)
            if heap:
                return lane, heappop(heap)
            del self._heaps[lane]
            del self._order[bisect_left(self._order, lane)]
        return None


class Dispatch:
    """The ready records of a group."""

    def __init__(self, is_fair: bool, cursor: int = 0) -> None:
        self.is_fair = is_fair
        self.cursor = cursor
        """The lane that was served last."""
        self.ready = OffsetSet()
        self._lanes: dict[int, _Lanes] = {}
        """By priority."""

    def add(self, offset: int, priority: int, lane: int) -> None:
        """A record is ready."""
        self.ready.add(offset)
        if self.is_fair or priority:
            self._lanes.setdefault(priority, _Lanes()).add(lane if self.is_fair else 0, offset)

    def add_range(self, first: int, after: int) -> None:
        """Records without priority are ready, in a group without lanes."""
        assert not self.is_fair
        self.ready.add_range(first, after)

    def take(self, most: int) -> array[int]:
        """Take out up to `most` records, in the order in which they are to be delivered."""
        taken = array("Q")
        for priority in sorted(self._lanes, reverse=True):
            lanes = self._lanes[priority]
            while len(taken) < most and (found := lanes.take(self.cursor, self.ready)):
                lane, offset = found
                if self.is_fair:
                    self.cursor = lane
                self.ready.discard(offset)
                taken.append(offset)
            if len(taken) == most:
                return taken
            del self._lanes[priority]
        if not self.is_fair:
            taken.extend(self.ready.take_lowest(most - len(taken)))
        return taken
