"""Dissertation, section 3.10: handing leadership over."""

from __future__ import annotations

import pytest

from raftmq.raft.errors import NotLeader, TransferRefused
from raftmq.raft.messages import RequestVote, TimeoutNow
from raftmq.raft.types import EntryKind, Role

from ..harness import ELECTION, Cluster, Solo, members, replica


def test_3_10_the_target_takes_over_at_once_though_the_leader_is_alive() -> None:
    cluster = Cluster(3)
    node = cluster.elect(1)
    node.transfer_leadership(replica(3), cluster.now)
    cluster.settle()
    cluster.exchange()
    assert (cluster.leader, cluster[3].term) == (3, 2)
    assert cluster[1].role is Role.FOLLOWER


def test_3_10_a_target_that_lags_is_brought_up_to_date_first() -> None:
    cluster = Cluster(3)
    node = cluster.elect(1)
    for n in range(5):
        cluster.propose(n)
        cluster.exchange(cut=[3])
    node.transfer_leadership(replica(3), cluster.now)
    cluster.settle()
    assert not [m for m in cluster.network if isinstance(m, TimeoutNow)]
    cluster.run(ELECTION)
    assert cluster.leader == 3
    assert cluster[3].commit_index == 7


def test_3_10_proposals_are_refused_meanwhile_and_taken_again_when_it_fails() -> None:
    cluster = Cluster(3)
    node = cluster.elect(1)
    node.transfer_leadership(replica(3), cluster.now)
    with pytest.raises(NotLeader):
        node.propose(EntryKind.DATA, "x", 1)
    with pytest.raises(NotLeader):
        node.change_membership(members(1, 2))
    cluster.run(ELECTION - 50, cut=[3])
    assert node.status().transfer_target == replica(3)
    cluster.run(100, cut=[3])
    assert node.status().transfer_target is None
    assert node.propose(EntryKind.DATA, "x", 1) == 2
    assert node.role is Role.LEADER


@pytest.mark.parametrize("target", [1, 4, 9], ids=["itself", "a learner", "a stranger"])
def test_3_10_never_to_itself_a_learner_or_a_stranger(target: int) -> None:
    cluster = Cluster(members(1, 2, 3, learners=[4]))
    node = cluster.elect(1)
    before = node.status()
    with pytest.raises(TransferRefused):
        node.transfer_leadership(replica(target), cluster.now)
    assert node.status() == before


def test_3_10_only_the_leaders_word_starts_an_election_and_only_in_its_term() -> None:
    solo = Solo(term=3)
    solo.append(2, term=3)
    assert solo.step(TimeoutNow(replica(3), replica(1), solo.node.term)) == []
    assert solo.step(TimeoutNow(replica(2), replica(1), type(solo.node.term)(2))) == []
    sent = solo.step(TimeoutNow(replica(2), replica(1), solo.node.term))
    assert [(type(m), m.term) for m in sent] == [(RequestVote, 4), (RequestVote, 4)]
    assert all(isinstance(m, RequestVote) and m.transfer and not m.pre_vote for m in sent)


def test_3_10_a_learner_does_not_campaign_even_when_told() -> None:
    solo = Solo(term=3, voters=members(2, 3, learners=[1]))
    solo.append(2, term=3)
    assert solo.step(TimeoutNow(replica(2), replica(1), solo.node.term)) == []
    assert solo.node.role is Role.FOLLOWER
