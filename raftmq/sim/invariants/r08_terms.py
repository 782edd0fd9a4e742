"""R8: a replica's term never falls: not in a process, and not over a restart below what it has told anybody (Raft,
figure 2). No exception: a disk that lost it is suspect, and comes back above it."""

from __future__ import annotations

from raftmq.ids import GroupId, ReplicaId, Term
from raftmq.raft.messages import AppendReply, Message, RequestVote, VoteReply
from raftmq.sim.invariants.base import Invariant, Sight
from raftmq.sim.node import NodeProcess


class TermsNeverFall(Invariant):
    name = "R8 terms never fall"
    sees_only_changes = True

    def __init__(self) -> None:
        self._told: dict[tuple[GroupId, ReplicaId], Term] = {}

    def saw(self, sight: Sight) -> None:
        before = sight.before
        if before is not None and before.process is sight.process and sight.term < before.term:
            self.violated(f"group {sight.group_id}: {before.term} -> {sight.term}")

    def booted(self, process: NodeProcess) -> None:
        assert process.assembly is not None
        for group_id, group in process.assembly.replicas.groups.items():
            told = self._told.get((group_id, group.me), 0)
            self.require(
                group.node.term >= told,
                f"group {group_id}: {group.me} starts in term {group.node.term}, it has spoken in term {told}",
            )

    def sent(self, process: NodeProcess, group: GroupId, message: Message) -> None:
        if isinstance(message, AppendReply) or (isinstance(message, (RequestVote, VoteReply)) and not message.pre_vote):
            key = group, message.source
            self._told[key] = max(self._told.get(key, Term(0)), message.term)
