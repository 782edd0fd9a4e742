"""Raft, section 5.1: terms act as a logical clock."""

from __future__ import annotations

import pytest

from raftmq.ids import LogIndex, Term
from raftmq.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    TimeoutNow,
    VoteReply,
)
from raftmq.raft.types import Role, SnapshotMeta

from ..harness import Solo, append_reply, members, rejection, replica


def test_5_1_a_follower_takes_over_a_higher_term() -> None:
    solo = Solo(term=1)
    assert solo.append(2, term=4) == [append_reply(1, 2, term=4, match=0)]
    assert (solo.node.term, solo.node.leader) == (4, replica(2))


@pytest.mark.parametrize("start", ["pre_candidate", "candidate", "leader"])
def test_5_1_everyone_with_an_older_term_becomes_a_follower(start: str) -> None:
    solo = Solo(term=1)
    if start == "leader":
        solo.lead(2)
    else:
        solo.tick(2000)
        if start == "candidate":
            solo.voted(2, pre_vote=True)
    assert solo.node.role.value == start
    term = solo.node.term + 3
    solo.append(3, term=term)
    assert (solo.node.role, solo.node.term, solo.node.leader) == (Role.FOLLOWER, term, replica(3))
    assert solo.host.synced.hard_state.term == term
    assert solo.host.synced.hard_state.vote is None


def test_5_1_a_leader_of_an_older_term_is_refused_and_told() -> None:
    solo = Solo([1, 2], term=5)
    before = solo.node.status()
    assert solo.append(2, term=4, prev=(2, 2), terms=[4]) == [rejection(1, 2, 5, prev=0, hint=0, hint_term=0)]
    solo.node.step(Heartbeat(replica(2), replica(1), Term(4), LogIndex(2)), solo.now)
    assert solo.take() == [HeartbeatReply(replica(1), replica(2), Term(5))]
    assert solo.node.status() == before


def test_5_1_every_other_message_of_an_older_term_is_dropped() -> None:
    solo = Solo([1], term=1)
    solo.lead(2)
    before, term = solo.node.status(), Term(1)
    two, me = replica(2), replica(1)
    assert solo.step(AppendReply(two, me, term, LogIndex(1))) == []
    assert solo.step(HeartbeatReply(two, me, term)) == []
    assert solo.step(VoteReply(two, me, term, granted=True)) == []
    assert solo.step(TimeoutNow(two, me, term)) == []
    assert solo.node.status() == before


def test_5_1_a_snapshot_order_of_an_older_term_is_refused_and_told() -> None:
    solo = Solo(term=5)
    meta = SnapshotMeta(LogIndex(9), Term(4), members(1, 2, 3))
    answer = solo.step(InstallSnapshot(replica(2), replica(1), Term(4), meta))
    assert answer == [rejection(1, 2, 5, prev=0, hint=0, hint_term=0)]
    assert solo.host.ordered is None


def test_5_1_a_message_for_another_replica_is_dropped() -> None:
    solo = Solo(term=1)
    message = AppendEntries(replica(2), replica(3), Term(9), LogIndex(0), Term(0), (), LogIndex(0))
    assert solo.step(message) == []
    assert solo.node.term == 1
