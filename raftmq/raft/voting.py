"""Answering requests for votes: the same in every role.

A vote is refused without a further look while this replica knows a live leader: one that was heard within the
minimum election timeout (dissertation, sections 4.2.3 and 6.4). Neither a replica that was cut off, nor one
that was removed and does not know it, can then depose a working leader. Only the leader's own order to take
over gets past that. A leader is its own live leader: if its quorum were gone it would have stepped down.
"""

from __future__ import annotations

from raftmq.ids import Term
from raftmq.raft.core import Core
from raftmq.raft.messages import RequestVote, VoteReply
from raftmq.raft.types import Role


def answer(core: Core, request: RequestVote) -> None:
    """Grant or refuse. A pre-vote changes nothing here, whatever the answer."""
    if request.pre_vote:
        _answer_pre_vote(core, request)
        return
    if request.term > core.term and (request.transfer or not knows_live_leader(core)):
        core.roles.follow(term=request.term)
    granted = (
        request.term == core.term
        and not core.suspect
        and core.leader is None
        and core.hard_state.vote in (None, request.source)
        and core.log.is_up_to_date(request.last_index, request.last_term)
    )
    if granted:
        core.vote_for(request.source)
        core.roles.follow()
        core.draw_timer()
    _reply(core, request, core.term, granted)


def _answer_pre_vote(core: Core, request: RequestVote) -> None:
    granted = (
        request.term > core.term
        and not core.suspect
        and not knows_live_leader(core)
        and core.log.is_up_to_date(request.last_index, request.last_term)
    )
    _reply(core, request, request.term if granted else core.term, granted)


def knows_live_leader(core: Core) -> bool:
    """Whether a leader was heard within the minimum election timeout, by this replica or by its host."""
    if core.role.role is Role.LEADER:
        return True
    return core.now - core.merge_leader_contact() < core.config.election_timeout


def _reply(core: Core, request: RequestVote, term: Term, granted: bool) -> None:
    """The term and the vote must be durable before the candidate may count on them."""
    reply = VoteReply(core.me, request.source, term, granted, request.pre_vote)
    core.send_after_persist(reply)
