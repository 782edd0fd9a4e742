"""R6: commit and applied indexes never fall while a process lives; applied <= commit <= last; and what a leader
commits is durable on a majority of the voters at that moment (Raft, figure 2; section 5.3), of both halves where their
configuration is joint. A leader counts by the newest configuration in its log, committed or not (section 6): by the one
in force at the index that is committed, then, or by one that it has appended since.

Exception: a disk that loses what it synced may take an entry away again, also one that it has acknowledged and that is
not committed yet. It counts until then: the suspect does not vote before it has everything again.
"""

from __future__ import annotations

from raftmq.ids import LogIndex
from raftmq.raft.quorum import halves
from raftmq.raft.types import Membership, Role
from raftmq.sim.invariants.base import Invariant, Sight, Violated
from raftmq.sim.node import SimNode


class Commit(Invariant):
    name = "R6 commit"
    sees_only_changes = True

    def __init__(self, nodes: dict[int, SimNode]) -> None:
        self._nodes = nodes

    def saw(self, sight: Sight) -> None:
        applied = sight.group.machine.applied_index
        if not applied <= sight.commit <= sight.last:
            self.violated(f"{_where(sight)}: {applied} <= {sight.commit} <= {sight.last}")
        before = sight.before
        if before is not None and before.process is sight.process and sight.commit < before.commit:
            self.violated(f"{_where(sight)}: commit fell from {before.commit} to {sight.commit}")
        if sight.role is Role.LEADER and before is not None and sight.was_leader and sight.commit > before.commit:
            self._durable_on_majority(sight)

    def _durable_on_majority(self, sight: Sight) -> None:
        known = sight.group.row.memberships
        in_force = sum(index <= sight.commit for index, _ in known) - 1
        lacking = [self._lacking(sight, membership) for _, membership in known[max(in_force, 0) :]]
        if all(lacking):
            raise Violated(
                f"{self.name}: group {sight.group_id}: {sight.group.me} commits {sight.commit}, {lacking[0]}"
            )

    def _lacking(self, sight: Sight, membership: Membership) -> str:
        """Which majority does not have what is committed; empty where all that are asked for do."""
        for voters in halves(membership):
            holders = [voter for voter in sorted(voters) if _holds(self._nodes.get(voter.node), sight, sight.commit)]
            if 2 * len(holders) <= len(voters):
                return (
                    f"which only {[str(holder) for holder in holders]} of {[str(voter) for voter in sorted(voters)]} "
                    "hold durably"
                )
        return ""


def _where(sight: Sight) -> str:
    return f"group {sight.group_id} on {sight.group.me}"


def _holds(node: SimNode | None, sight: Sight, index: LogIndex) -> bool:
    if node is None:
        return False  # its machine has left the cluster
    row = node.durable.rows.get(sight.group_id)
    if node.has_ever_lost and (row is None or row.suspect):
        return True
    return row is not None and node.durable.last.get(row.generation, 0) >= index
