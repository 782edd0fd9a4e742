"""O2: committed offsets only grow: neither what is told, nor what is accepted, nor what is applied falls. Exceptions:
what goes with its group or topic, which nobody deletes while a seed runs, and a reset, which no seed asks for."""

from __future__ import annotations

from raftmq.groups.machine import GroupsMachine
from raftmq.groups.types import TopicPartition
from raftmq.ids import GroupId, LogIndex
from raftmq.sim.group_history import NOTHING, CommittedRead, GroupCommit
from raftmq.sim.invariants.base import Invariant, Sight
from raftmq.sim.oracle import Operation, Told

Offsets = dict[tuple[str, TopicPartition], int]


class OnlyGrowing(Invariant):
    name = "O2 committed offsets only grow"
    sees_only_changes = True

    def __init__(self) -> None:
        self._applied: dict[GroupId, tuple[LogIndex, Offsets]] = {}

    def ended(self, operation: Operation) -> None:
        match operation:
            case GroupCommit(told=Told.OK) as commit:
                self.require(
                    commit.offset >= commit.floor, f"{commit} was accepted, {commit.floor} was known to be committed"
                )
            case CommittedRead(group, floors, told):
                for partition, floor in floors.items():
                    offset = told.get(partition, floor)
                    self.require(
                        offset >= floor or offset == NOTHING,  # which O1 judges
                        f"{group}, {partition}: told {offset}, {floor} was known to be committed before",
                    )

    def saw(self, sight: Sight) -> None:
        machine = sight.group.machine
        if not isinstance(machine, GroupsMachine):
            return
        index, before = self._applied.get(sight.group_id, (LogIndex(0), {}))
        if machine.applied_index <= index:
            return
        now: Offsets = {
            (name, key): committed.position.offset
            for name, group in machine.groups.items()
            for key, committed in group.offsets.items()
        }
        for (name, key), offset in before.items():
            self.require(
                now.get((name, key), offset) >= offset,
                f"{name}, {key}: {offset} at entry {index}, {now.get((name, key))} at {machine.applied_index}",
            )
        self._applied[sight.group_id] = machine.applied_index, now
