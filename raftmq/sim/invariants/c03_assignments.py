"""C3: every partition has as many replicas as its topic asks for, on different nodes, all of them known. No exception
while replicas are not moved."""

from __future__ import annotations

from raftmq.ids import CONTROLLER_GROUP
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.machine import MetadataMachine
from raftmq.sim.invariants.base import Invariant, Sight


class Assignments(Invariant):
    name = "C3 assignments"
    sees_only_changes = True

    def __init__(self) -> None:
        self._last: MetadataImage | None = None

    def saw(self, sight: Sight) -> None:
        if sight.group_id != CONTROLLER_GROUP or not isinstance(sight.group.machine, MetadataMachine):
            return
        image = sight.group.machine.image
        if image is self._last:
            return
        self._last = image
        for topic in image.topics.values():
            for partition in topic.partitions:
                nodes = {replica.node for replica in partition.replicas}
                self.require(
                    len(nodes) == len(partition.replicas) == topic.replication_factor,
                    f"{topic.name}/{partition.partition} has replicas {partition.replicas}",
                )
                self.require(
                    all(replica.node in image.nodes for replica in partition.replicas),
                    f"{topic.name}/{partition.partition} is on a node that nobody knows",
                )
