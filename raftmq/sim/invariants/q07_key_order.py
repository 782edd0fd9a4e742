"""Q7: a group that is ordered by key hands out a key's next message only when the one before has come to its end.
Exceptions: its group begins anew, or somebody drives a message again."""

from __future__ import annotations

from raftmq.chaos.checks import queue_key_order
from raftmq.chaos.checks.findings import Findings
from raftmq.sim.invariants.base import Final, Invariant


class KeyOrder(Invariant):
    name = "Q7 key order"

    def final(self, final: Final) -> None:
        found = Findings()
        for judged in final.queues:
            for life in judged.lives:
                if life.ordered:
                    queue_key_order.judge(life, found)
        self.require(not found.count, "; ".join(found.violations[:1]))
