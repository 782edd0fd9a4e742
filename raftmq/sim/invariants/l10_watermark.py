"""L10: the answer to "where does this partition end" is linearizable: it covers what was acknowledged before the
question, and is never below an earlier answer, whoever leads. No exception."""

from __future__ import annotations

from raftmq.sim.invariants.base import Invariant
from raftmq.sim.oracle import Bounds, Operation


class Watermark(Invariant):
    name = "L10 watermark"

    def ended(self, operation: Operation) -> None:
        if isinstance(operation, Bounds):
            self.require(
                operation.answer.high_watermark >= operation.floor,
                f"{operation.partition}: the high watermark is said to be {operation.answer.high_watermark}, and was "
                f"{operation.floor} before the question",
            )
