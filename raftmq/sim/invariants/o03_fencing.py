"""O3: who has lost a partition commits nothing for it: once another member was told to have it, or has committed for it
under a newer epoch, no commit counts that is asked for afterwards (KIP-447, KIP-848: fencing by member epoch). A
member that is told late, under an older epoch than the commit's, has taken nothing from anybody. No exception: sessions
decide when a member is fenced, never whether."""

from __future__ import annotations

from raftmq.sim.group_history import GroupCommit
from raftmq.sim.invariants.base import Invariant
from raftmq.sim.oracle import Operation, Told


class Fencing(Invariant):
    name = "O3 fencing of members"

    def ended(self, operation: Operation) -> None:
        if not isinstance(operation, GroupCommit) or operation.told is not Told.OK:
            return
        commit, owner, newest = operation, operation.owner, operation.newest
        self.require(
            owner is not None and (owner.who == commit.who or owner.epoch < commit.epoch),
            f"{commit.partition}: {commit.who} commits {commit.offset} under epoch {commit.epoch}, and {owner} has it",
        )
        self.require(
            newest is None or commit.epoch >= newest.epoch or commit.who == newest.who,
            f"{commit.partition}: {commit.who} committed {commit.offset} under epoch {commit.epoch}, after {newest}",
        )
