"""L1: at one offset of a partition everybody finds the same record: whoever was told so when it was acknowledged, and
whoever reads it. Exception: an acknowledgement at the level LEADER promises nothing."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant
from raftmq.sim.oracle import Operation, Partition, Poll, Send


class OffsetAgreement(Invariant):
    name = "L1 offset agreement"

    def __init__(self) -> None:
        self._values: dict[tuple[Partition, int], bytes] = {}

    def ended(self, operation: Operation) -> None:
        if isinstance(operation, Send) and operation.is_promised and operation.offset is not None:
            self._agree(operation.partition, operation.offset, operation.value)
        elif isinstance(operation, Poll):
            self._agree(operation.partition, operation.record.offset, operation.record.value or b"")

    def final(self, final: Final) -> None:
        for partition, records in final.read.items():
            for offset, value, _ in records:
                self._agree(partition, offset, value)

    def _agree(self, partition: Partition, offset: int, value: bytes) -> None:
        first = self._values.setdefault((partition, offset), value)
        self.require(first == value, f"{partition} offset {offset} is {value!r}, and was {first!r}")
