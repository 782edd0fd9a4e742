"""Which messages are looked at. Peers may be old, removed, misled or hostile: what cannot come from a correct
replica is dropped here, so that the roles may rely on the rest.

Requests for votes and appends do not consult the configuration: a replica that is behind may not know yet that
their sender is a member (Raft, section 6). Replies do: only members are counted.
"""

from __future__ import annotations

from raftmq.ids import Term
from raftmq.raft.core import Core
from raftmq.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from raftmq.raft.types import EntryKind

LIMIT = 2**62
"""No term or index of an honest cluster comes anywhere near."""
TERM_JUMP_MAX = 2**32
"""A term may be higher than the replica's own by so much: an election a second takes a century to get there. Without
this one forged message could use up the terms that there are, and the group would never elect again."""

FROM_LEADER = (AppendEntries, Heartbeat, InstallSnapshot, TimeoutNow)
REPLIES = (VoteReply, AppendReply, HeartbeatReply)


def admits(core: Core, message: Message) -> bool:
    """Whether `message` is for this replica, well formed, and from somebody who may send it."""
    if message.target != core.me or message.source == core.me or not 0 <= message.term < LIMIT:
        return False
    if message.term > core.term + TERM_JUMP_MAX:
        core.terms_refused += 1
        return False
    if isinstance(message, REPLIES) and message.source not in core.membership.all:
        return False
    one_leader = core.leader in (None, message.source)
    if isinstance(message, FROM_LEADER) and message.term == core.term and not one_leader:
        return False
    return _well_formed(message)


def _well_formed(message: Message) -> bool:
    match message:
        case AppendEntries():
            return _entries_fit(message)
        case RequestVote(term=term):
            return _indexes(message.last_index) and 0 <= message.last_term < max(term, 1)
        case AppendReply():
            return _indexes(
                message.match_index, message.prev_index, message.commit_index, message.hint_term, message.admission
            )
        case Heartbeat():
            return _indexes(message.commit_index, message.round)
        case HeartbeatReply():
            return _indexes(message.round)
        case InstallSnapshot(term=term, snapshot=meta):
            return _indexes(meta.index, message.admission) and 0 < meta.term <= term
        case _:
            return isinstance(message, (VoteReply, TimeoutNow))


def _indexes(*numbers: int) -> bool:
    return all(0 <= number < LIMIT for number in numbers)


def _entries_fit(message: AppendEntries) -> bool:
    """Contiguous after ``prev_index``, terms that never fall nor exceed the leader's, configurations complete."""
    if (
        not _indexes(message.prev_index, message.commit_index, message.admission)
        or not 0 <= message.prev_term <= message.term
    ):
        return False
    term: Term = message.prev_term
    for index, entry in enumerate(message.entries, message.prev_index + 1):
        if entry.index != index or not term <= entry.term <= message.term or entry.size < 0:
            return False
        if (entry.kind is EntryKind.MEMBERSHIP) != (entry.membership is not None):
            return False
        if entry.membership is not None and not entry.membership.voters:
            return False
        term = entry.term
    return message.prev_index + len(message.entries) < LIMIT
