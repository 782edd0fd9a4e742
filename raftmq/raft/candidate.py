"""Standing for election: first asking whether it could be won (pre-vote), then for real (Raft, section 5.2)."""

from __future__ import annotations

from typing import ClassVar

from raftmq.ids import ReplicaId, Term, Tick
from raftmq.raft.core import Core
from raftmq.raft.messages import AppendEntries, Heartbeat, InstallSnapshot, Message, RequestVote, VoteReply
from raftmq.raft.quorum import VoteResult, vote_result
from raftmq.raft.roles import RoleBehaviour
from raftmq.raft.types import Role


class _Standing(RoleBehaviour):
    """What both kinds of candidate share: a tally, a timer, and giving way to a leader of their term."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._votes: dict[ReplicaId, bool] = {}
        core.forget_leader()
        core.draw_timer()

    def tick(self) -> None:
        """Undecided for a whole timeout: try again, with a new random timer (a split vote, a lost message)."""
        if self.core.now >= self.core.election_deadline:
            if self.core.may_campaign:
                self.core.roles.pre_campaign()
            else:
                self.core.roles.follow()

    def deadline(self) -> Tick | None:
        return self.core.election_deadline

    def _requests(self, term: Term, pre_vote: bool, transfer: bool = False) -> list[Message]:
        core = self.core
        return [
            RequestVote(core.me, voter, term, core.log.last, core.log.last_term, pre_vote, transfer)
            for voter in core.others(core.membership.all_voters)
        ]

    def _count(self, voter: ReplicaId, granted: bool) -> VoteResult:
        self._votes.setdefault(voter, granted)
        return vote_result(self.core.membership, self._votes)

    def on_leader(self, message: Message) -> None:
        """Somebody else leads this term: what it says is for a follower."""
        self.core.roles.follow(leader=message.source)
        self.core.role.step(message)

    handlers: ClassVar = {AppendEntries: on_leader, Heartbeat: on_leader, InstallSnapshot: on_leader}


class PreCandidate(_Standing):
    """Asks for the term it would take. Nothing is written and the term stays: it may ask for ever, harmlessly."""

    role: ClassVar[Role] = Role.PRE_CANDIDATE

    def start(self) -> None:
        for request in self._requests(Term(self.core.term + 1), pre_vote=True):
            self.core.send_now(request)
        self._decide(self._count(self.core.me, True))

    def on_vote_reply(self, message: VoteReply) -> None:
        expected = self.core.term + 1 if message.granted else self.core.term
        if message.pre_vote and message.term == expected:
            self._decide(self._count(message.source, message.granted))

    def _decide(self, result: VoteResult) -> None:
        if result is VoteResult.WON:
            self.core.roles.campaign()
        elif result is VoteResult.LOST:
            self.core.roles.follow()

    handlers: ClassVar = {**_Standing.handlers, VoteReply: on_vote_reply}


class Candidate(_Standing):
    """Has entered a new term and voted for itself; that vote counts from when it is durable, like any other."""

    role: ClassVar[Role] = Role.CANDIDATE

    def start(self, transfer: bool) -> None:
        core = self.core
        core.set_term(Term(core.term + 1), vote=core.me)
        for request in self._requests(core.term, pre_vote=False, transfer=transfer):
            core.send_after_persist(request)

    def persisted(self) -> None:
        if self.core.durability.term == self.core.term:
            self._decide(self._count(self.core.me, True))

    def on_vote_reply(self, message: VoteReply) -> None:
        if not message.pre_vote:
            self._decide(self._count(message.source, message.granted))

    def _decide(self, result: VoteResult) -> None:
        if result is VoteResult.WON:
            self.core.roles.lead()
        elif result is VoteResult.LOST:
            self.core.roles.follow()

    handlers: ClassVar = {**_Standing.handlers, VoteReply: on_vote_reply}
