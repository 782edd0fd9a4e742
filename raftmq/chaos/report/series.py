"""From a history to what the pictures show: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raftmq.chaos.history import NEVER, History, Outcome

SILENT_US = 2_500_000
"""A node that was not heard of for so long is not known to lead any more."""
GAP_US = 1_000_000
"""A partition without an acknowledgement for so long, while there was something to acknowledge, was unavailable."""


@dataclass(slots=True)
class Bucket:
    """What ended within one step of time. Latencies in milliseconds, of what was acknowledged."""

    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def percentile(self, part: float) -> float | None:
        if not self.latencies_ms:
            return None
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Span(NamedTuple):
    """Microseconds. ``node`` is 0 where it is not about one."""

    begin: int
    end: int
    node: int = 0
    term: int = 0


def buckets(history: History, step_us: int) -> list[Bucket]:
    """One for each step of time from the beginning to the end of the run."""
    found = [Bucket() for _ in range(history.end // step_us + 1)]
    sends = history.sends
    for invoked, returned, outcome in zip(sends.invoked, sends.returned, sends.outcome, strict=True):
        if returned == NEVER:
            continue
        bucket = found[returned // step_us]
        if outcome == Outcome.OK:
            bucket.acknowledged += 1
            bucket.latencies_ms.append((returned - invoked) / 1000)
        elif outcome == Outcome.FAIL:
            bucket.failed += 1
        else:
            bucket.unknown += 1
    return found


def leadership(history: History) -> dict[str, list[Span]]:
    """Of each partition, who led it when, as the nodes themselves said."""
    spans: dict[str, list[Span]] = {}
    present: dict[str, Span] = {}
    for time, node, leads in history.observations:
        for partition, (term, *_) in leads.items():
            now = present.get(partition)
            if now is not None and (now.node, now.term) == (node, term) and time - now.end <= SILENT_US:
                present[partition] = now._replace(end=time)
            elif now is None or term >= now.term:
                _close(spans, present, partition)
                present[partition] = Span(time, time, node, term)
        for partition in [p for p, now in present.items() if now.node == node and p not in leads]:
            _close(spans, present, partition)
    for partition in list(present):
        _close(spans, present, partition)
    return dict(sorted(spans.items()))


def _close(spans: dict[str, list[Span]], present: dict[str, Span], partition: str) -> None:
    span = present.pop(partition, None)
    if span is not None:
        spans.setdefault(partition, []).append(span)


def unavailable(history: History) -> dict[str, list[Span]]:
    """Of each partition, the stretches without an acknowledgement although a send was waiting for one."""
    sends = history.sends
    by_partition: dict[int, list[tuple[int, int]]] = {}
    for partition, invoked, returned, outcome in zip(
        sends.partition, sends.invoked, sends.returned, sends.outcome, strict=True
    ):
        by_partition.setdefault(partition, []).append((invoked, returned if outcome == Outcome.OK else NEVER))
    return {history.name(p): _gaps(rows, history.end) for p, rows in sorted(by_partition.items())}


def _gaps(rows: Sequence[tuple[int, int]], end: int) -> list[Span]:
    """`rows`: of each send when it was invoked, and when acknowledged if ever; in the order of invocation."""
    acknowledged = sorted(returned for _, returned in rows if returned != NEVER)
    invoked = [time for time, _ in rows]
    last_asked = invoked[-1]
    gaps = []
    waiting = 0
    before = invoked[0]
    for time in [*acknowledged, min(end, last_asked)]:
        while waiting < len(invoked) and invoked[waiting] < before:
            waiting += 1
        # It begins when somebody began to wait, not when the last one was served.
        begin = max(before, invoked[waiting]) if waiting < len(invoked) else time
        if time - begin >= GAP_US:
            gaps.append(Span(begin, time))
        before = max(before, time)
    return gaps
