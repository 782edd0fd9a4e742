"""Q5: leases of one message do not overlap: nobody is handed a message before the moment until which, by its own clock,
the holder before was told to have it, unless that one had spoken. Exception: where a node's clock runs faster than the
workers' do, leases end early; only Q1 is promised then."""

from __future__ import annotations

from raftmq.chaos.checks import queue_leases
from raftmq.chaos.checks.findings import Findings
from raftmq.sim.invariants.base import Final, Invariant


class LeasesApart(Invariant):
    name = "Q5 lease overlap"

    def final(self, final: Final) -> None:
        if final.may_lease_end_early:
            return
        found = Findings()
        for judged in final.queues:
            for life in judged.lives:
                queue_leases.judge(life, found)
        self.require(not found.count, "; ".join(found.violations[:1]))
