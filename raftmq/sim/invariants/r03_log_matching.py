"""R3: two logs that have an entry with the same index and term are equal up to it (Raft, section 5.3: Log Matching).

Entries carry a chain hash over everything before them, so it is enough that (index, term) determines the hash. No
exception.
"""

from __future__ import annotations

from raftmq.ids import GroupId, LogIndex, Term
from raftmq.sim.invariants.base import Invariant, Sight


class LogMatching(Invariant):
    name = "R3 log matching"
    sees_only_changes = True

    def __init__(self) -> None:
        self._chains: dict[tuple[GroupId, LogIndex, Term], bytes] = {}

    def saw(self, sight: Sight) -> None:
        for entry in sight.entries:
            chain = self._chains.setdefault((sight.group_id, entry.index, entry.term), entry.chain)
            if chain != entry.chain:
                self.violated(
                    f"group {sight.group_id}: entry {entry.index} of term {entry.term} differs on {sight.group.me}"
                )
