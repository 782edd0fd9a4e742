"""R5: no two replicas commit different entries at one index (Raft, section 5.4.3: State Machine Safety), and whoever
has applied the same entries has the same state. No exception."""

from __future__ import annotations

from raftmq.ids import GroupId, LogIndex
from raftmq.sim.invariants.base import Invariant, Sight


class StateMachineSafety(Invariant):
    name = "R5 state machine safety"
    sees_only_changes = True

    def __init__(self) -> None:
        self._committed: dict[GroupId, list[bytes]] = {}
        self._states: dict[tuple[GroupId, LogIndex], tuple[int, int, int]] = {}

    def saw(self, sight: Sight) -> None:
        committed = self._committed.setdefault(sight.group_id, [sight.chains[0]])
        begin = sight.before.commit if sight.before is not None else 0
        for index in range(begin + 1, sight.commit + 1):
            if index < len(committed):
                if committed[index] != sight.chains[index]:
                    self.violated(
                        f"group {sight.group_id}: {sight.group.me} commits another entry {index} than was before"
                    )
            else:
                committed.append(sight.chains[index])
        machine = sight.group.machine
        state = (machine.next_offset, machine.log_start_offset, getattr(machine, "log_tick", 0))
        first = self._states.setdefault((sight.group_id, machine.applied_index), state)
        if first != state:
            self.violated(
                f"group {sight.group_id} at applied index {machine.applied_index}: {sight.group.me} has {state}, "
                f"not {first}"
            )
