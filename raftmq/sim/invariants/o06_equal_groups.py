"""O6: replicas of a coordinator that have applied the same entries hold the same groups; whoever reads the rows
that one would write comes to that very state, and would write the same. No exception."""

from __future__ import annotations

from raftmq.groups.machine import GroupsMachine
from raftmq.ids import GroupId, LogIndex
from raftmq.sim.invariants.base import Invariant, Sight

State = list[tuple[object, ...]]


class EqualGroups(Invariant):
    name = "O6 equal groups"
    sees_only_changes = True

    def __init__(self) -> None:
        self._states: dict[GroupId, dict[LogIndex, State]] = {}
        self._checked: dict[tuple[object, GroupId], tuple[GroupsMachine, LogIndex]] = {}

    def saw(self, sight: Sight) -> None:
        machine = sight.group.machine
        if not isinstance(machine, GroupsMachine) or machine.applied_index == 0:
            return
        replica, seen = (sight.group.me, sight.group_id), (machine, machine.applied_index)
        if self._checked.get(replica) == seen:
            return
        self._checked[replica] = seen
        states, state = self._states.setdefault(sight.group_id, {}), _state(machine)
        where = f"group {sight.group_id} at applied index {machine.applied_index}: {sight.group.me}"
        first = states.get(machine.applied_index)
        if first is None:
            states[machine.applied_index] = state
            rows, again = machine.all_rows(), GroupsMachine()
            again.restore(rows)
            self.require(_state(again) == state and again.all_rows() == rows, f"{where} would be restored to another")
        else:
            self.require(first == state, f"{where} has {state}, not {first}")


def _state(machine: GroupsMachine) -> State:
    """All that decides what becomes of the next entry."""
    return [
        (
            name, group.epoch, group.assignor, dict(group.facts), dict(group.members), dict(group.owners),
            dict(group.target), dict(group.offsets),
        )
        for name, group in sorted(machine.groups.items())
    ]  # fmt: skip
