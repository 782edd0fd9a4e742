"""L13: the first offset that can be read only grows, and never past the high watermark. No exception."""

from __future__ import annotations

from raftmq.ids import GroupId, Offset
from raftmq.sim.invariants.base import Invariant, Sight


class LogStart(Invariant):
    name = "L13 log start"

    def __init__(self) -> None:
        self._starts: dict[tuple[int, GroupId], Offset] = {}

    def saw(self, sight: Sight) -> None:
        machine = sight.group.machine
        key = sight.process.number, sight.group_id
        if sight.before is not None and sight.before.process is sight.process:
            self.require(
                machine.log_start_offset >= self._starts.get(key, 0),
                f"group {sight.group_id}: the log start fell to {machine.log_start_offset}",
            )
        self._starts[key] = machine.log_start_offset
        self.require(
            machine.log_start_offset <= machine.next_offset,
            f"group {sight.group_id}: starts at {machine.log_start_offset}, ends at {machine.next_offset}",
        )
