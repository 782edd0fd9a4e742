"""Majorities, simple and joint (Raft, section 6): of numbers, and of votes.

A joint configuration decides only what both of its halves decide. An empty half decides nothing; ``outgoing``
is empty exactly when a configuration is not joint, and then there is one half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from enum import Enum

from raftmq.ids import ReplicaId
from raftmq.raft.types import Membership


class VoteResult(Enum):
    """What a set of votes amounts to so far."""

    WON = "won"
    LOST = "lost"
    PENDING = "pending"


def halves(membership: Membership) -> tuple[frozenset[ReplicaId], ...]:
    """The sets of voters each of which must agree."""
    return (membership.voters, membership.outgoing) if membership.is_joint else (membership.voters,)


def majority(voters: Set[ReplicaId]) -> int:
    """How many of `voters` are needed to decide."""
    return len(voters) // 2 + 1


def quorum_value(membership: Membership, value_of: Callable[[ReplicaId], int]) -> int | None:
    """The largest number that a quorum has reached. None: there are no voters.

    Of match indexes this is the index that is safe to commit; of contact ticks, when a quorum was last heard;
    of acknowledged rounds, the last read round that a quorum confirmed.
    """
    lowest: int | None = None
    for voters in halves(membership):
        if not voters:
            return None
        reached = sorted(map(value_of, voters), reverse=True)[majority(voters) - 1]
        lowest = reached if lowest is None else min(lowest, reached)
    return lowest


def vote_result(membership: Membership, votes: Mapping[ReplicaId, bool]) -> VoteResult:
    """WON when every half has a majority of yes, LOST when some half can no longer get one."""
    results = [_half_result(voters, votes) for voters in halves(membership)]
    if VoteResult.LOST in results:
        return VoteResult.LOST
    return VoteResult.PENDING if VoteResult.PENDING in results else VoteResult.WON


def _half_result(voters: frozenset[ReplicaId], votes: Mapping[ReplicaId, bool]) -> VoteResult:
    if not voters:
        return VoteResult.LOST
    yes = sum(votes.get(voter) is True for voter in voters)
    no = sum(votes.get(voter) is False for voter in voters)
    if yes >= majority(voters):
        return VoteResult.WON
    return VoteResult.LOST if len(voters) - no < majority(voters) else VoteResult.PENDING
