"""L13: what is removed is the beginning of a log, and no more than was allowed. The first offset that can be read, and
the first entry on a disk, only grow; no entry is removed whose records can be read, or that is not committed; a
partition that keeps so many bytes still has them. Who reads below the start is told both bounds, and never given
anything else (L8). Exception: a snapshot may bring entries back that were removed from a disk, for replicas only."""

from __future__ import annotations

from raftmq.ids import GroupId, LogIndex, Offset
from raftmq.sim.invariants.base import Final, Invariant, Sight
from raftmq.sim.node import SimNode
from raftmq.sim.oracle import Operation, OutOfRange, Partition


class LogStart(Invariant):
    name = "L13 log start"

    def __init__(self, nodes: dict[int, SimNode]) -> None:
        self._nodes = nodes
        self._starts: dict[tuple[int, GroupId], Offset] = {}
        self._newest: dict[GroupId, Offset] = {}

    def saw(self, sight: Sight) -> None:
        group, machine = sight.group, sight.group.machine
        key = sight.process.number, sight.group_id
        where = f"group {sight.group_id} on {group.me}"
        before = sight.before
        if before is not None and before.process is sight.process:
            self.require(
                machine.log_start_offset >= self._starts.get(key, 0),
                f"{where}: the log start fell to {machine.log_start_offset}",
            )
            if before.generation == sight.generation:
                self.require(sight.start >= before.start, f"{where}: the first entry fell to {sight.start}")
        self._starts[key] = machine.log_start_offset
        self._newest[sight.group_id] = max(self._newest.get(sight.group_id, Offset(0)), machine.log_start_offset)
        self.require(
            group.row.anchor.offset <= machine.log_start_offset <= machine.next_offset,
            f"{where}: entries from offset {group.row.anchor.offset} on, reads from {machine.log_start_offset} on, "
            f"the end at {machine.next_offset}",
        )
        self.require(
            sight.start <= LogIndex(machine.applied_index + 1),
            f"{where}: begins at {sight.start}, applied {machine.applied_index}",
        )

    def ended(self, operation: Operation) -> None:
        if isinstance(operation, OutOfRange):
            group = self._group(operation.partition)
            self.require(
                operation.offset < operation.start <= operation.end
                and (group is None or operation.start <= self._newest.get(group, 0)),
                f"{operation.partition}: a read at {operation.offset} is told that the log is "
                f"[{operation.start}, {operation.end}], it starts at {self._newest.get(group or GroupId(0))}",
            )

    def final(self, final: Final) -> None:
        for partition, start in final.starts.items():
            log = final.logs[partition][0]
            gone = max((entry.index for entry in log if entry.count and entry.next_offset <= start), default=0)
            kept = sum(entry.stored_bytes for entry in log if entry.index > gone)
            topic = self._topic(partition)
            if start and topic is not None and not topic.retention_ms:
                self.require(
                    kept >= topic.retention_bytes,
                    f"{partition}: {kept} bytes are left, {topic.retention_bytes} were to be kept",
                )

    def _topic(self, partition: Partition):  # type: ignore[no-untyped-def]
        images = [node.assembly.controller.image for node in self._nodes.values() if node.assembly is not None]
        return next((image.topics[partition.topic] for image in images if partition.topic in image.topics), None)

    def _group(self, partition: Partition) -> GroupId | None:
        topic = self._topic(partition)
        return None if topic is None else topic.partitions[partition.number].group
