"""From times and counts to percentiles, rates and series. Pure; times in seconds of one monotonic clock."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Point = tuple[float, float]
"""Seconds since the beginning, and a value."""


class Sample(NamedTuple):
    """Records that were answered, or read, at one moment."""

    partition: int
    at: float
    latency: float
    records: int


class Spread(NamedTuple):
    """Of a latency, in seconds."""

    p50: float
    p95: float
    p99: float
    maximum: float


def spread(samples: Sequence[Sample]) -> Spread:
    """Percentiles over records by nearest rank. `samples` must not be empty."""
    return _spread([(sample.latency, sample.records) for sample in samples])


def spread_of(values: Sequence[float]) -> Spread:
    """The same of single values. `values` must not be empty."""
    return _spread([(value, 1) for value in values])


def _spread(weighted: list[tuple[float, int]]) -> Spread:
    weighted.sort()
    total = sum(weight for _, weight in weighted)
    ranks = [math.ceil(share * total) for share in (0.50, 0.95, 0.99)]
    reached = list(itertools.accumulate(weight for _, weight in weighted))
    p50, p95, p99 = (weighted[bisect_left(reached, rank)][0] for rank in ranks)
    return Spread(p50, p95, p99, weighted[-1][0])


def rate(samples: Sequence[Sample], began: float) -> float:
    """Records per second from `began` to the last sample; 0 if nothing came."""
    ended = max((sample.at for sample in samples), default=began)
    return sum(sample.records for sample in samples) / (ended - began) if ended > began else 0.0


def throughput(samples: Sequence[Sample], began: float) -> list[Point]:
    """Records in each full second since `began`; at least one point if there is a sample."""
    return [(float(second), float(sum(s.records for s in group))) for second, group in _full_seconds(samples, began)]


def latency_over_time(samples: Sequence[Sample], began: float) -> tuple[list[Point], list[Point]]:
    """p50 and p99 of each full second with samples, in milliseconds."""
    spreads = [(float(second), spread(group)) for second, group in _full_seconds(samples, began) if group]
    return [(at, s.p50 * 1000) for at, s in spreads], [(at, s.p99 * 1000) for at, s in spreads]


def longest_pause(samples: Sequence[Sample], since: float, until: float) -> float:
    """Longest time without a sample, among the pauses that touch [since, until].

    A pause begins at a sample, even one before `since`, and ends at the next; 0 if there is none.
    """
    times = sorted(sample.at for sample in samples)
    pauses = [end - begin for begin, end in itertools.pairwise(times) if end >= since and begin <= until]
    return max(pauses, default=0.0)


def slope(points: Sequence[Point]) -> float:
    """Of the straight line nearest to the points (least squares), per second; 0 with fewer than two moments."""
    if len({at for at, _ in points}) < 2:
        return 0.0
    mean_at = sum(at for at, _ in points) / len(points)
    mean_value = sum(value for _, value in points) / len(points)
    over = sum((at - mean_at) * (value - mean_value) for at, value in points)
    return over / sum((at - mean_at) ** 2 for at, _ in points)


def risen(before: Mapping[int, int], after: Mapping[int, int]) -> int:
    """How far numbers that never fall have risen together, of those that were there before and still are."""
    return sum(after[key] - value for key, value in before.items() if key in after)


def _full_seconds(samples: Sequence[Sample], began: float) -> list[tuple[int, list[Sample]]]:
    """Samples by second. The last second is rarely whole and would look like a collapse: it goes if others stay."""
    if not samples:
        return []
    last = int(max(sample.at for sample in samples) - began)
    seconds: list[list[Sample]] = [[] for _ in range(max(last, 1))]
    for sample in samples:
        second = int(sample.at - began)
        if 0 <= second < len(seconds):
            seconds[second].append(sample)
    return list(enumerate(seconds))
