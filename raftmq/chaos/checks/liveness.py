"""After the last fault is healed the cluster comes back by itself, within a stated time: every partition has a leader
that says so, and takes a record again.

The bounds are for a machine that does other things too, and grow with what it was measured to have stalled; the
figures are in the verdict, and are the more telling part.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import NEVER, History, Outcome

STALLS_COUNT = 4
"""An election takes several steps on several nodes, each of which waits for a processor."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds from the end of the last fault."""

    leader_s: float = 15.0
    acknowledged_s: float = 15.0


def check(history: History, bounds: Bounds) -> Findings:
    found = Findings()
    healed = healed_at(history)
    if healed is None:
        return found
    for partition in sorted(set(history.sends.partition)):
        name = history.name(partition)
        for what, after, bound in (
            ("leader", first_leader(history, name, healed), bounds.leader_s),
            ("acknowledgement", first_acknowledged(history, partition, healed), bounds.acknowledged_s),
        ):
            found.examined += 1
            if after is None:
                said = f"{name}: no {what} after the last fault was healed, at {seconds(healed)}"
                _judge(history, found, said, healed, history.end, 0)
            elif after > bound:
                said = f"{name}: first {what} {after:.1f} s after the last fault was healed; {bound:.0f} s are allowed"
                _judge(history, found, said, healed, healed + round(after * 1e6), bound)
    return found


def _judge(history: History, found: Findings, said: str, begin: int, end: int, bound: float) -> None:
    """Too late is no violation where the machine has stalled for long enough to be the reason."""
    stalled = history.stalled_s(begin, end)
    if (end - begin) / 1e6 > bound + STALLS_COUNT * stalled:
        found.add(said)
    else:
        found.unclear.append(f"{said}, but this machine stalled for {stalled:.1f} s meanwhile")


def healed_at(history: History) -> int | None:
    """When the last fault was healed; the time of the first line where there was none. None: never healed."""
    last = max((window.healed for window in history.windows), default=0)
    return None if last == NEVER else last


def first_leader(history: History, partition: str, since: int) -> float | None:
    """Seconds until a node said that it leads `partition`."""
    times = (one.time for one in history.observations if one.time >= since and partition in one.leads)
    first = next(times, None)
    return None if first is None else (first - since) / 1e6


def first_acknowledged(history: History, partition: int, since: int) -> float | None:
    """Seconds until a record of `partition` was acknowledged."""
    sends = history.sends
    first = min(
        (
            sends.returned[row]
            for row, outcome in enumerate(sends.outcome)
            if outcome == Outcome.OK and sends.partition[row] == partition and sends.returned[row] >= since
        ),
        default=None,
    )
    return None if first is None else (first - since) / 1e6
