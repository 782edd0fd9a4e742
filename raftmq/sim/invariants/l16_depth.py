"""L16: a partition is only as deep as its topic allows, by what its leader had applied when it took a batch; what was
refused for that is counted by those who refused it, and so is what was removed to make room. (That a refused record is
never read is L5.) Exceptions: where the oldest are dropped, what workers have on their hands is not; where records are
sampled, twice the limit counts; who waits for room and gets none in time is not counted."""

from __future__ import annotations

from raftmq.errors import OverflowDropped
from raftmq.partition.queues.tally import Counter
from raftmq.sim.depth import DepthPlan, too_deep
from raftmq.sim.invariants.base import Final, Invariant


class WithinDepth(Invariant):
    name = "L16 depth"

    def final(self, final: Final) -> None:
        plan = final.depth
        if plan is None:
            return
        for partition, logs in final.logs.items():
            if partition.topic == plan.topic and plan.overflow != "drop_oldest":
                amiss = too_deep(plan, logs[0])
                self.require(not amiss, f"{partition}: {amiss}")
        told = [send.reason for send in final.oracle.sends.values() if send.partition.topic == plan.topic]
        dropped = told.count(OverflowDropped.reason)
        self.require(
            dropped <= final.dropped,
            f"{plan}: senders were told that {dropped} records were dropped, nodes have counted {final.dropped}",
        )
        self.require(
            plan.overflow == "block" or final.calls_refused <= 2 * final.refused,
            f"{plan}: {final.calls_refused} calls were refused, nodes have counted {final.refused} records",
        )
        if plan.overflow == "drop_oldest" and not final.forgets:
            self._check_dropped(plan, final)

    def _check_dropped(self, plan: DepthPlan, final: Final) -> None:
        """Nothing else removes records: what a group never saw was dropped."""
        for judged in final.queues:
            skipped = sum(group.state.counters[Counter.SKIPPED] for group in judged.groups.values())
            self.require(
                skipped <= final.dropped,
                f"{plan}: {judged.history.name} lacks {skipped} records, nodes have counted {final.dropped} as dropped",
            )
