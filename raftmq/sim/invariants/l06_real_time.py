"""L6: a record that is handed in after another one of its partition was acknowledged comes to stand behind it.
Exception: an acknowledgement at the level LEADER promises nothing."""

from __future__ import annotations

from raftmq.sim.invariants.base import Invariant
from raftmq.sim.oracle import Operation, Send


class RealTime(Invariant):
    name = "L6 real time"

    def ended(self, operation: Operation) -> None:
        if isinstance(operation, Send) and operation.is_promised and operation.offset is not None:
            self.require(
                operation.offset >= operation.floor,
                f"{operation.partition}: {operation.value!r} is at {operation.offset}, and was handed in when offsets "
                f"below {operation.floor} had been acknowledged",
            )
