"""R2: a leader never removes or rewrites an entry of its own log; it only appends (Raft, section 5.3: Leader
Append-Only). No exception."""

from __future__ import annotations

from raftmq.raft.types import Role
from raftmq.sim.invariants.base import Invariant, Sight


class LeaderAppendOnly(Invariant):
    name = "R2 leader append-only"
    sees_only_changes = True

    def saw(self, sight: Sight) -> None:
        if sight.role is Role.LEADER and sight.was_leader:
            assert sight.before is not None
            if sight.kept < sight.before.last:
                self.violated(
                    f"{sight.group.me} leads group {sight.group_id} in term {sight.term}, and its log, which ended at "
                    f"{sight.before.last}, is the same only up to {sight.kept}"
                )
