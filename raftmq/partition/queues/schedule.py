"""What is to happen at a time: a heap of (time, offset), packed into one number each.

Nothing is taken out before it comes to the top: whoever asks says what is still true.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

_OFFSET_BITS = 64
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1


class Schedule:
    """`holds(offset, time)`: whether it is still to happen then."""

    def __init__(self, holds: Callable[[int, int], bool]) -> None:
        self._heap: list[int] = []
        self._holds = holds

    def add(self, time: int, offset: int) -> None:
        heappush(self._heap, time << _OFFSET_BITS | offset)

    def next(self) -> int | None:
        """When the next thing happens."""
        while self._heap:
            time, offset = self._heap[0] >> _OFFSET_BITS, self._heap[0] & _OFFSET_MASK
            if self._holds(offset, time):
                return time
            heappop(self._heap)
        return None

    def pop(self, until: int) -> int | None:
        """The offset of the next thing that happens at `until` or before; it is taken out."""
        time = self.next()
        if time is None or time > until:
            return None
        return heappop(self._heap) & _OFFSET_MASK
