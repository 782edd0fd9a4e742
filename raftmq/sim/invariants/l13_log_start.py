"""L13: what is removed is the beginning of a log, and no more than was allowed. The first offset that can be read, and
the first entry on a disk, only grow; no entry is removed whose records can be read, or that is not committed; a
partition that keeps so many bytes still has them, unless its depth is limited and the oldest make room. Who reads below
the start is told both bounds, and never given anything else (L8). Exception: a snapshot may bring entries back that
were removed from a disk, for replicas only."""

from __future__ import annotations

from raftmq.ids import GroupId, Offset
from raftmq.metadata.depth import Overflow
from raftmq.replica.group import ReplicaGroup
from raftmq.sim.invariants.base import Final, Invariant, Sight
from raftmq.sim.node import SimNode
from raftmq.sim.oracle import Operation, OutOfRange, Partition


class LogStart(Invariant):
    name = "L13 log start"
    sees_only_changes = True

    def __init__(self, nodes: dict[int, SimNode]) -> None:
        self._nodes = nodes
        self._starts: dict[tuple[int, GroupId], Offset] = {}
        self._newest: dict[GroupId, Offset] = {}

    def saw(self, sight: Sight) -> None:
        group, machine = sight.group, sight.group.machine
        key = sight.process.number, sight.group_id
        log_start = machine.log_start_offset
        before = sight.before
        if before is not None and before.process is sight.process:
            if log_start < self._starts.get(key, 0):
                self.violated(f"{_where(group)}: the log start fell to {log_start}")
            if before.generation == sight.generation and sight.start < before.start:
                self.violated(f"{_where(group)}: the first entry fell to {sight.start}")
        self._starts[key] = log_start
        self._newest[sight.group_id] = max(self._newest.get(sight.group_id, Offset(0)), log_start)
        if not group.row.anchor.offset <= log_start <= machine.next_offset:
            self.violated(
                f"{_where(group)}: entries from offset {group.row.anchor.offset} on, reads from {log_start} on, "
                f"the end at {machine.next_offset}"
            )
        if sight.start > machine.applied_index + 1:
            self.violated(f"{_where(group)}: begins at {sight.start}, applied {machine.applied_index}")

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
            is_bound = topic is not None and not topic.retention_ms and topic.depth.overflow is not Overflow.DROP_OLDEST
            if start and topic is not None and is_bound:
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


def _where(group: ReplicaGroup) -> str:
    return f"group {group.id} on {group.me}"
