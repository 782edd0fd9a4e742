"""L8: a consumer gets one offset after the other, none twice and none left out, also when it starts again where it
was. No exception."""

from __future__ import annotations

from raftmq.sim.invariants.base import Invariant
from raftmq.sim.oracle import Operation, Poll


class ContiguousPolls(Invariant):
    name = "L8 contiguous polls"

    def ended(self, operation: Operation) -> None:
        if isinstance(operation, Poll):
            self.require(
                operation.record.offset == operation.expected,
                f"{operation.client} of {operation.partition} got {operation.record.offset} instead of "
                f"{operation.expected}",
            )
