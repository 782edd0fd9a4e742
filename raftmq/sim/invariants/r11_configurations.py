"""R11: any majority of a configuration and any majority of the next one have a member in common, so that two leaders
cannot be elected past each other (dissertation, sections 4.1 and 4.3). A joint configuration needs both majorities.
No exception."""

from __future__ import annotations

from itertools import combinations, pairwise

from raftmq.ids import GroupId, ReplicaId
from raftmq.raft.types import Membership
from raftmq.sim.invariants.base import Invariant, Sight


class Configurations(Invariant):
    name = "R11 configurations overlap"
    sees_only_changes = True

    def __init__(self) -> None:
        self._seen: dict[GroupId, list[Membership]] = {}

    def saw(self, sight: Sight) -> None:
        memberships = [membership for _, membership in sight.group.row.memberships]
        if memberships == self._seen.get(sight.group_id):
            return
        self._seen[sight.group_id] = memberships
        for one, other in pairwise(memberships):
            for quorum in _quorums(one):
                self.require(
                    all(quorum & rival for rival in _quorums(other)),
                    f"group {sight.group_id}: {one} and {other} have majorities without a common member",
                )


def _quorums(membership: Membership) -> list[frozenset[ReplicaId]]:
    """The smallest sets that can decide."""
    incoming = _majorities(membership.voters)
    if not membership.outgoing:
        return incoming
    return [one | other for one in incoming for other in _majorities(membership.outgoing)]


def _majorities(voters: frozenset[ReplicaId]) -> list[frozenset[ReplicaId]]:
    return [frozenset(chosen) for chosen in combinations(sorted(voters), len(voters) // 2 + 1)]
