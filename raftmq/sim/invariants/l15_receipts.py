"""L15: a receipt tells the truth about disks: every node that it names holds the record durably, and they are a
majority of the replicas at least. That is what makes "survives the loss of all but one of its holders" true.

Exception: a disk that has lost what it synced since, or was replaced, and the receipt of a duplicate too old to be
known.
"""

from __future__ import annotations

from raftmq.ids import GroupId
from raftmq.metadata.image import MetadataImage
from raftmq.sim.invariants.base import Invariant
from raftmq.sim.node import SimNode
from raftmq.sim.oracle import Operation, Partition, Send


class Receipts(Invariant):
    name = "L15 receipts"

    def __init__(self, nodes: dict[int, SimNode]) -> None:
        self._nodes = nodes

    def ended(self, operation: Operation) -> None:
        if not isinstance(operation, Send) or not operation.is_promised or operation.log_index == 0:
            return
        found = self._replicas(operation.partition)
        if found is None:
            return
        group, count = found
        self.require(
            2 * len(operation.replicas) > count,
            f"{operation.partition}: {operation.value!r} is acknowledged on nodes {operation.replicas} of {count}",
        )
        for number in operation.replicas:
            node = self._nodes[number]
            row = node.durable.rows.get(group)
            held = 0 if row is None else node.durable.last.get(row.generation, 0)
            self.require(
                held >= operation.log_index or node.has_ever_lost,
                f"{operation.partition}: the receipt of {operation.value!r} names node {number}, whose disk ends at "
                f"entry {held}, not {operation.log_index}",
            )

    def _replicas(self, partition: Partition) -> tuple[GroupId, int] | None:
        for node in self._nodes.values():
            if node.assembly is not None:
                image: MetadataImage = node.assembly.controller.image
                topic = image.topics.get(partition.topic)
                if topic is not None:
                    record = topic.partitions[partition.number]
                    return record.group, len(record.replicas)
        return None
