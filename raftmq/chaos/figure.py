"""Numbers of a run that are worth knowing and no property: pure functions of the history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from raftmq.chaos.checks.liveness import healed_at
from raftmq.chaos.history import History, Outcome

WARM_US = 1_000_000
"""The first acknowledgements wait for connections."""
BASELINE_US, AFTER_US = 30_000_000, 60_000_000
"""So much before the first fault, and so much after the last one, is looked at."""
WINDOW_US = 2_000_000
FEWEST = 20
"""Acknowledgements of which a percentile is worth telling."""
NOISE_MS = 20.0
"""Below it, twice as much means nothing."""


def sent_in_faults(events: History) -> int:
    """Records handed in while a fault was active."""
    return _within(events, events.sends.invoked)


def polled_in_faults(events: History) -> int:
    """Records that consumers were given while a fault was active."""
    return _within(events, events.polls.time)


def _within(events: History, times: Sequence[int]) -> int:
    """How many of some moments, in order, lie within a fault; `times` grow."""
    total = reached = 0
    for window in sorted(events.windows, key=lambda one: one.injected):
        begin = max(window.injected, reached)
        if window.healed > begin:
            total += bisect_left(times, window.healed) - bisect_left(times, begin)
            reached = window.healed
    return total


def latencies(events: History) -> dict[str, Any]:
    """99th percentiles of acknowledgements before the first fault, at the end, and after how many seconds from the last
    one's healing they were back at twice what they had been. None where there are too few to tell.
    """
    healed, first = healed_at(events), min((window.injected for window in events.windows), default=None)
    if healed is None or first is None:
        return {}
    sends = events.sends
    acknowledged = sorted(
        (returned, (returned - invoked) / 1000)
        for invoked, returned, outcome in zip(sends.invoked, sends.returned, sends.outcome, strict=True)
        if outcome == Outcome.OK
        and (max(WARM_US, first - BASELINE_US) <= returned < first or healed <= returned <= healed + AFTER_US)
    )
    times = [time for time, _ in acknowledged]

    def percentile(begin: int, end: int) -> float | None:
        within = sorted(ms for _, ms in acknowledged[bisect_left(times, begin) : bisect_left(times, end)])
        return round(within[int(0.99 * len(within))], 1) if len(within) >= FEWEST else None

    last = times[-1] if times else 0
    before = percentile(WARM_US, first)
    back = None
    if before is not None:
        for begin in range(healed, max(healed, last - WINDOW_US // 2), WINDOW_US // 4):
            now = percentile(begin, begin + WINDOW_US)
            if now is not None and now <= 2 * max(before, NOISE_MS):
                back = round((begin - healed) / 1e6, 1)
                break
    return {
        "p99_before_ms": before,
        "p99_at_the_end_ms": percentile(max(healed, last - WINDOW_US), last + 1),
        "p99_back_after_s": back,
    }


def resources(events: History) -> dict[str, Any]:
    """By node: threads, files and megabytes before the faults, and at the end."""
    found: dict[str, Any] = {}
    for one in events.resources:
        now = [one.threads, one.files, one.memory_bytes >> 20]
        found.setdefault(str(one.node), [now, now])[1] = now
    return found
