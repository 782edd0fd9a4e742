"""L2: a record is in a partition once. It holds for producers that are not idempotent too, because the client sends
again only what was surely not applied. No exception."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant


class NoDuplicate(Invariant):
    name = "L2 no duplicate"

    def final(self, final: Final) -> None:
        for partition, records in final.read.items():
            seen: dict[bytes, int] = {}
            for offset, value, _ in records:
                first = seen.setdefault(value, offset)
                self.require(first == offset, f"{partition}: {value!r} is at offset {first} and at {offset}")
