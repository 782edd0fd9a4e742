"""O6: replicas of a coordinator that have applied the same entries hold the same groups, and would write the same rows;
whoever reads those rows comes to that very state. No exception."""

from __future__ import annotations

from hashlib import blake2b

from raftmq.groups.machine import GroupsMachine
from raftmq.ids import GroupId, LogIndex
from raftmq.sim.invariants.base import Invariant, Sight


class EqualGroups(Invariant):
    name = "O6 equal groups"
    sees_only_changes = True

    def __init__(self) -> None:
        self._rows: dict[tuple[GroupId, LogIndex], bytes] = {}
        self._checked: dict[tuple[object, GroupId], tuple[GroupsMachine, LogIndex]] = {}

    def saw(self, sight: Sight) -> None:
        machine = sight.group.machine
        if not isinstance(machine, GroupsMachine) or machine.applied_index == 0:
            return
        replica, seen = (sight.group.me, sight.group_id), (machine, machine.applied_index)
        if self._checked.get(replica) == seen:
            return
        self._checked[replica] = seen
        rows = machine.all_rows()
        total = blake2b(digest_size=16)
        for kind, key, value in rows:
            total.update(b"%d %d %d " % (kind, len(key), len(value)) + key + value)
        place, digest = (sight.group_id, machine.applied_index), total.digest()
        where = f"group {sight.group_id} at applied index {machine.applied_index}: {sight.group.me}"
        if place not in self._rows:
            self._rows[place] = digest
            again = GroupsMachine()
            again.restore(rows)
            self.require(again.all_rows() == rows, f"{where} would be restored to another state")
        self.require(self._rows[place] == digest, f"{where} has another state")
