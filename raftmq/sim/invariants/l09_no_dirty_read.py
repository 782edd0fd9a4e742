"""L9: whatever anybody was ever given to read is in the partition at the end, at the same offset: nothing is
delivered before it is committed. No exception."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant
from raftmq.sim.oracle import Operation, Partition, Poll


class NoDirtyRead(Invariant):
    name = "L9 no dirty read"

    def __init__(self) -> None:
        self._seen: dict[tuple[Partition, int], bytes] = {}

    def ended(self, operation: Operation) -> None:
        if isinstance(operation, Poll):
            self._seen[operation.partition, operation.record.offset] = operation.record.value or b""

    def final(self, final: Final) -> None:
        read = {(p, offset): value for p, records in final.read.items() for offset, value, _ in records}
        for (partition, offset), value in self._seen.items():
            self.require(
                read.get((partition, offset)) == value,
                f"{partition} offset {offset}: {value!r} was read, and is {read.get((partition, offset))!r} now",
            )
