"""Q6: every record that a queue group knows is closed, or in exactly one place, and the numbers add up; replicas that
have applied the same entries have the same delivery state, and would write the same rows. No exception."""

from __future__ import annotations

from hashlib import blake2b

from raftmq.ids import GroupId, LogIndex
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.group import Now
from raftmq.sim.invariants.base import Invariant, Sight


class OnePlace(Invariant):
    name = "Q6 one place for each record"
    sees_only_changes = True

    def __init__(self) -> None:
        self._rows: dict[tuple[GroupId, LogIndex], bytes] = {}
        self._checked: dict[tuple[object, GroupId], tuple[PartitionMachine, LogIndex]] = {}

    def saw(self, sight: Sight) -> None:
        machine = sight.group.machine
        if not isinstance(machine, PartitionMachine) or not machine.queues:
            return
        replica, seen = (sight.group.me, sight.group_id), (machine, machine.applied_index)
        if self._checked.get(replica) == seen:
            return
        self._checked[replica] = seen
        try:
            machine.queues.check(Now(machine.log_tick, machine.wall_ms))
        except AssertionError as error:
            self.require(False, f"group {sight.group_id}: {sight.group.me}: {error}")
        total = blake2b(digest_size=16)
        for kind, key, value in machine.queues.all_rows():
            total.update(b"%d %d %d " % (kind, len(key), len(value)) + key + value)
        rows = total.digest()
        self.require(
            self._rows.setdefault((sight.group_id, machine.applied_index), rows) == rows,
            f"group {sight.group_id} at applied index {machine.applied_index}: {sight.group.me} has another state",
        )
