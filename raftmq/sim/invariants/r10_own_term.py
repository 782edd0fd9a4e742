"""R10: a leader commits by counting only when the entry counted is of its own term (Raft, section 5.4.2, figure 8).
Entries of earlier terms are committed along with it. No exception."""

from __future__ import annotations

from raftmq.raft.types import Role
from raftmq.sim.invariants.base import Invariant, Sight


class OwnTerm(Invariant):
    name = "R10 commit by counting"
    sees_only_changes = True

    def saw(self, sight: Sight) -> None:
        before = sight.before
        if sight.role is Role.LEADER and sight.was_leader and before is not None and sight.commit > before.commit:
            term = sight.terms[sight.commit]
            self.require(
                term == sight.term,
                f"group {sight.group_id}: {sight.group.me}, leader of term {sight.term}, commits up to "
                f"{sight.commit}, an entry of term {term}",
            )
