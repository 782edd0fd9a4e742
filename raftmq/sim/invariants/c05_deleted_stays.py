"""C5: a deleted topic stays deleted: once the cluster is quiet no node holds a replica of a group that is in no
topic, however long it was away. No exception."""

from __future__ import annotations

from raftmq.ids import CONTROLLER_GROUP
from raftmq.sim.invariants.base import Final, Invariant


class DeletedStays(Invariant):
    name = "C5 deleted stays deleted"

    def final(self, final: Final) -> None:
        for node in final.nodes:
            assembly = node.assembly
            assert assembly is not None
            image = assembly.controller.image
            for group_id in assembly.replicas.groups:
                self.require(
                    group_id == CONTROLLER_GROUP or group_id in image.groups,
                    f"node {node.number} holds group {group_id}, which is in no topic",
                )
