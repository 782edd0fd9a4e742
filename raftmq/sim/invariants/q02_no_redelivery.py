"""Q2: what is done stays done: a message whose acknowledgement, or parking, was accepted is never handed out again.
Exceptions: its group begins anew, or somebody drives it again."""

from __future__ import annotations

from raftmq.chaos.checks import queue_no_redelivery
from raftmq.chaos.checks.findings import Findings
from raftmq.sim.invariants.base import Final, Invariant


class NoRedelivery(Invariant):
    name = "Q2 no redelivery"

    def final(self, final: Final) -> None:
        found = Findings()
        for judged in final.queues:
            for life in judged.lives:
                queue_no_redelivery.judge(life, found)
        self.require(not found.count, "; ".join(found.violations[:1]))
