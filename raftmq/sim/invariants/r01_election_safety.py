"""R1: at most one replica leads a group in a term (Raft, section 5.2: Election Safety). No exception."""

from __future__ import annotations

from raftmq.ids import GroupId, ReplicaId, Term
from raftmq.raft.types import Role
from raftmq.sim.invariants.base import Invariant, Sight


class ElectionSafety(Invariant):
    name = "R1 election safety"
    sees_only_changes = True

    def __init__(self) -> None:
        self._leaders: dict[tuple[GroupId, Term], ReplicaId] = {}

    def saw(self, sight: Sight) -> None:
        if sight.role is Role.LEADER:
            first = self._leaders.setdefault((sight.group_id, sight.term), sight.group.me)
            if first != sight.group.me:
                self.violated(f"group {sight.group_id}, term {sight.term} is led by {first} and by {sight.group.me}")
