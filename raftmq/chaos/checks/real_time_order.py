"""L6. Later is behind: a record that was handed in after another one had been acknowledged has the higher offset,
whoever sent the two.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    """A sweep over time: at each invocation, the highest offset acknowledged before it must be lower."""
    found, sends = Findings(), history.sends
    rows = [row for row, outcome in enumerate(sends.outcome) if outcome == Outcome.OK and sends.offset[row] >= 0]
    by_return = sorted(rows, key=sends.returned.__getitem__)
    highest: dict[int, int] = {}
    done = 0
    for row in rows:  # rows are in the order of their invocation
        while sends.returned[by_return[done]] < sends.invoked[row]:
            earlier = by_return[done]
            partition = sends.partition[earlier]
            if partition not in highest or sends.offset[earlier] > sends.offset[highest[partition]]:
                highest[partition] = earlier
            done += 1
        best = highest.get(sends.partition[row])
        if best is not None:
            found.examined += 1
            if sends.offset[best] >= sends.offset[row]:
                found.add(
                    f"{history.name(sends.partition[row])}: value {sends.value[best]} was acknowledged at offset "
                    f"{sends.offset[best]} at {seconds(sends.returned[best])}; value {sends.value[row]}, sent at "
                    f"{seconds(sends.invoked[row])}, got offset {sends.offset[row]}"
                )
    return found
