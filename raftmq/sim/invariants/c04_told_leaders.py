"""C4: nodes that tell who leads a group in a term all tell the same, and the truth: one leader an epoch. No
exception."""

from __future__ import annotations

from raftmq.ids import GroupId, NodeId, Term
from raftmq.sim.invariants.base import Invariant, Sight


class ToldLeaders(Invariant):
    name = "C4 told leaders"
    sees_only_changes = True

    def __init__(self) -> None:
        self._leaders: dict[tuple[GroupId, Term], NodeId] = {}

    def saw(self, sight: Sight) -> None:
        assembly = sight.process.assembly
        assert assembly is not None
        told = assembly.host.leader_of(sight.group_id)
        if told is not None:
            node, term = told
            first = self._leaders.setdefault((sight.group_id, term), node)
            if first != node:
                self.violated(f"group {sight.group_id}, term {term}: {sight.process.name} says {node}, was {first}")
