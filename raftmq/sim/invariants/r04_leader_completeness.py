"""R4: an entry that is committed in a term is in the log of every leader of a later term (Raft, section 5.4: Leader
Completeness). No exception: a replica whose disk may have lost something never leads."""

from __future__ import annotations

from raftmq.ids import GroupId, LogIndex, Term
from raftmq.raft.types import Role
from raftmq.sim.invariants.base import Invariant, Sight


class LeaderCompleteness(Invariant):
    name = "R4 leader completeness"
    sees_only_changes = True

    def __init__(self) -> None:
        self._newest: dict[GroupId, dict[Term, tuple[LogIndex, bytes]]] = {}
        """By term: the highest commit that was seen by then, and the chain up to there."""

    def saw(self, sight: Sight) -> None:
        commits = self._newest.setdefault(sight.group_id, {})
        known = commits.get(sight.term)
        if sight.commit and (known is None or known[0] < sight.commit) and sight.commit < len(sight.chains):
            commits[sight.term] = (sight.commit, sight.chains[sight.commit])
        if sight.role is Role.LEADER and not sight.was_leader:
            for term, (index, chain) in commits.items():
                if term < sight.term:
                    self.require(
                        index <= sight.last and sight.chains[index] == chain,
                        f"{sight.group.me} leads group {sight.group_id} in term {sight.term} without entry {index}, "
                        f"which was committed by term {term}",
                    )
