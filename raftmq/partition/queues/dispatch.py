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

_TAKEN_MAX = 4_096
"""Places of taken offsets are given back once there are so many, and as many as others."""


class _Lane:
    """Offsets, the lowest first. New ones ascend and take 8 bytes each: there may be a million of a noisy tenant's."""

    __slots__ = ("_again", "_at", "_new")

    def __init__(self) -> None:
        self._new = array("Q")
        self._at = 0
        """Those before are taken."""
        self._again: list[int] = []
        """A heap of what came back."""

    def add(self, offset: int) -> None:
        if not self._new or offset > self._new[-1]:
            self._new.append(offset)
        else:
            heappush(self._again, offset)

    def take(self) -> int | None:
        """The lowest one, which is not here any more."""
        if self._at == len(self._new):
            return heappop(self._again) if self._again else None
        lowest = self._new[self._at]
        if self._again and self._again[0] < lowest:
            return heappop(self._again)
        self._at += 1
        if self._at > _TAKEN_MAX and 2 * self._at > len(self._new):
            del self._new[: self._at]
            self._at = 0
        return lowest


class _Lanes:
    """Ready records of one priority. What is no longer ready is skipped when its turn comes."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}
        self._order: list[int] = []
        """Lanes, ascending."""

    def add(self, lane: int, offset: int) -> None:
        known = self._lanes.get(lane)
        if known is None:
            known = self._lanes[lane] = _Lane()
            insort(self._order, lane)
        known.add(offset)

    def take(self, cursor: int, ready: OffsetSet) -> tuple[int, int] | None:
        """(lane, offset) of the next one after the lane `cursor`; it is taken out here, not of `ready`."""
        while self._order:
            at = bisect_right(self._order, cursor)
            lane = self._order[at if at < len(self._order) else 0]
            offset = self._lanes[lane].take()
            while offset is not None and offset not in ready:
                offset = self._lanes[lane].take()
            if offset is not None:
                return lane, offset
            del self._lanes[lane]
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
