"""Q1: a delivery token is exclusive: it is given to one worker, of the verdicts on it one kind is accepted, and none
when somebody has the message under a newer token. What a worker is told of its verdict is what the log says.
Exceptions: the same verdict again is answered the same; a message that its group begins anew, or that is driven again,
is another one."""

from __future__ import annotations

from collections import Counter

from raftmq.chaos.checks import queue_tokens
from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import Outcome
from raftmq.sim.invariants.base import Final, Invariant


class ExclusiveToken(Invariant):
    name = "Q1 exclusive token"

    def final(self, final: Final) -> None:
        for judged in final.queues:
            found = Findings()
            for life in judged.lives:
                queue_tokens.judge(life, found)
            self.require(not found.count, "; ".join(found.violations[:1]))
            said = Counter((verdict.token, verdict.kind) for verdict in judged.history.verdicts)
            for verdict in judged.history.verdicts:
                is_repeated = said[verdict.token, verdict.kind] > 1
                if verdict.kind == "extend" or verdict.outcome is Outcome.INFO:
                    continue
                if verdict.outcome is Outcome.FAIL and is_repeated:
                    continue  # the lease was over when it was said again; the first time it may have counted
                group = judged.groups.get(verdict.partition)
                accepted = set() if group is None else group.accepted.get((verdict.lease, verdict.offset), set())
                self.require(
                    (verdict.kind in accepted) == (verdict.outcome is Outcome.OK),
                    f"{judged.history.name}, {verdict.partition} offset {verdict.offset} under lease {verdict.lease}: "
                    f"a worker was told {verdict.outcome.name} of {verdict.kind}, the log has {sorted(accepted)}",
                )
