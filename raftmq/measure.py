"""What parts of a node count about themselves while they work, cheaply. ``observe`` reads it when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds for times, from a fast sync to a disk or a quorum that is in trouble."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A ``Distribution`` as it was at one moment."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    """For each bound the values up to it and above the one before; last, the values above all bounds."""
    total: float


class Distribution:
    """How many values were how large. One thread adds, any thread may read: a bisection and two additions each.

    A value that is added while another thread takes a ``spread`` may be in its counts and not yet in its total.
    """

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        assert list(bounds) == sorted(set(bounds)), "bounds must ascend"
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def spread(self) -> Spread:
        return Spread(self._bounds, tuple(self._counts), self._total)
