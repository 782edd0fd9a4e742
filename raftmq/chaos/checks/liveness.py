"""After the last fault is healed the cluster comes back by itself, within a stated time: every partition has a leader
that says so, and takes a record again.

The bounds are for a machine that does other things too; the figures are in the verdict, and are the more telling
part.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import NEVER, History, Outcome


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
                found.add(f"{name}: no {what} after the last fault was healed, at {seconds(healed)}")
            elif after > bound:
                found.add(
                    f"{name}: first {what} {after:.1f} s after the last fault was healed; {bound:.0f} s are allowed"
                )
    return found


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
