"""L2: a record is in a partition once. It holds for producers that are not idempotent too, because the client sends
again only what was surely not applied. Exception: copies of dead letters, which are for Q9."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant
from raftmq.sim.queueing import LETTERS


class NoDuplicate(Invariant):
    name = "L2 no duplicate"

    def final(self, final: Final) -> None:
        for partition, records in final.read.items():
            if partition.topic == LETTERS:
                continue
            seen: dict[bytes, int] = {}
            for offset, value, _ in records:
                first = seen.setdefault(value, offset)
                self.require(first == offset, f"{partition}: {value!r} is at offset {first} and at {offset}")
