"""Q4: the number of a delivery is the number of grants that the log has of its message, and failures are what failed:
retries that were accepted and leases that ran out. A message is parked exactly when its failures reach the limit, or
somebody parks it. Exceptions: groups that drop such a message; those for which a lease that runs out is no failure."""

from __future__ import annotations

from raftmq.chaos.checks import queue_attempts
from raftmq.chaos.checks.findings import Findings
from raftmq.sim.invariants.base import Final, Invariant


class Attempts(Invariant):
    name = "Q4 attempts"

    def final(self, final: Final) -> None:
        for judged in final.queues:
            found = Findings()
            for life in judged.lives:
                queue_attempts.judge(life, found)
            self.require(not found.count, "; ".join(found.violations[:1]))
            for one in judged.history.deliveries:
                group = judged.groups.get(one.partition)
                granted = None if group is None else group.attempts.get((one.lease, one.offset))
                self.require(
                    one.attempt == granted,
                    f"{judged.history.name}, {one}: lease {one.lease} tells attempt {one.attempt}, by the log it is "
                    f"{granted}",
                )
