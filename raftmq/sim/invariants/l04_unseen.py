"""L4: what was acknowledged is delivered: a read of the partition from its start to its end gives every offset below
the highest one acknowledged. Liveness: asked only once the cluster is healed and quiet. No exception."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant


class Unseen(Invariant):
    name = "L4 unseen"

    def final(self, final: Final) -> None:
        for partition, end in final.oracle.ends.items():
            offsets = [offset for offset, _, _ in final.read.get(partition, [])]
            self.require(
                offsets[:end] == list(range(end)),
                f"{partition}: acknowledged up to {end}, the final read has {len(offsets)} records",
            )
