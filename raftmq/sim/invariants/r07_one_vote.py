"""R7: a replica gives at most one vote a term, over all its processes (Raft, section 5.2). A pre-vote is no vote.

A candidate's vote for itself counts: it asked for the others'. No exception: a disk that lost its vote is suspect,
and comes back in a term above every one in which it can have voted.
"""

from __future__ import annotations

from raftmq.ids import GroupId, ReplicaId, Term
from raftmq.raft.messages import Message, RequestVote, VoteReply
from raftmq.sim.invariants.base import Invariant
from raftmq.sim.node import NodeProcess


class OneVote(Invariant):
    name = "R7 one vote a term"

    def __init__(self) -> None:
        self._votes: dict[tuple[GroupId, ReplicaId, Term], ReplicaId] = {}

    def sent(self, process: NodeProcess, group: GroupId, message: Message) -> None:
        if isinstance(message, VoteReply) and message.granted and not message.pre_vote:
            candidate = message.target
        elif isinstance(message, RequestVote) and not message.pre_vote:
            candidate = message.source
        else:
            return
        first = self._votes.setdefault((group, message.source, message.term), candidate)
        if first != candidate:
            self.violated(
                f"group {group}: {message.source} votes in term {message.term} for {candidate}, after {first}"
            )
