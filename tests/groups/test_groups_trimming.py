"""The log of consumer groups stays bounded: what it led to is in the state, so all of it may go."""

from __future__ import annotations

from raftmq.groups import commands
from raftmq.groups.commands import Changes, Commit, Trim
from raftmq.groups.machine import GroupsMachine
from raftmq.groups.types import Position
from raftmq.ids import LogIndex, Offset
from raftmq.replica.retention import RECLAIM_BYTES, Extents, Retention, plan_trim
from raftmq.replica.upkeep import trim_draft
from tests.coordinator.fakes import entry
from tests.groups.build import GROUP, key


def test_commits_without_end_leave_a_log_of_bounded_size() -> None:
    machine, extents = GroupsMachine(), Extents()
    largest = 0
    for number in range(3_000):
        change = Commit("", 0, ((key(0), Position(number, "x" * 4_000)),))
        made = entry(machine, commands.encode(Changes(((GROUP, change),))), tick=number)
        machine.apply(made)
        extents.add(made)
        command = plan_trim(
            extents,
            Retention(),
            log_start=Offset(0),
            raft_start=machine.raft_start,
            wall_ms=made.wall_ms,
            needed_from=LogIndex(machine.applied_index + 1),
            held_bytes_max=0,
        )
        if command is not None:
            draft = trim_draft(machine, command, (number, made.wall_ms))
            assert isinstance(commands.decode(draft.inline, draft.version), Trim)
            machine.apply(entry(machine, draft.inline, tick=number))
            extents.drop_below(machine.raft_start)
        largest = max(largest, extents.size)
    assert machine.raft_start > 2_000
    assert largest < 2 * RECLAIM_BYTES
    again = GroupsMachine()
    again.restore(machine.all_rows())
    assert again.groups[GROUP].offsets[key(0)].position.offset == 2_999
