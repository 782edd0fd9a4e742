"""Dissertation, sections 4.2.3, 6.2 and 9.6: who may disturb a leader, and when a leader must go."""

from __future__ import annotations

from raftmq.ids import ReplicaId, Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.types import Role

from ..harness import ELECTION, HEARTBEAT, Cluster, Solo, vote_reply


def test_9_6_a_pre_vote_changes_nothing_at_the_voter() -> None:
    solo = Solo([1], term=1)
    before, deadline = solo.node.status(), solo.node.deadline()
    assert solo.ask(2, 2, (1, 1), pre_vote=True) == [vote_reply(1, 2, 2, True, True)]
    assert solo.ask(3, 2, (1, 1), pre_vote=True) == [vote_reply(1, 3, 2, True, True)]
    assert (solo.node.status(), solo.node.deadline()) == (before, deadline)


def test_9_6_a_replica_that_was_cut_off_does_not_raise_the_term() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.run(20 * ELECTION, cut=[3])
    assert [node.term for node in cluster] == [1, 1, 1]
    cluster.run(5 * ELECTION)
    assert [node.term for node in cluster] == [1, 1, 1]
    assert cluster[1].role is Role.LEADER


def test_9_6_a_pre_candidate_learns_a_newer_term_from_a_refusal() -> None:
    solo = Solo([1], term=1)
    solo.tick(2 * ELECTION)
    assert solo.step(vote_reply(2, 1, 5, False, True)) == []
    assert (solo.node.role, solo.node.term) == (Role.FOLLOWER, 5)


def test_4_2_3_votes_are_refused_while_a_leader_is_alive() -> None:
    solo = Solo([1], term=1)
    solo.append(2, term=1)
    solo.tick(ELECTION - 1)
    before = solo.node.status()
    assert solo.ask(3, 9, (5, 5), pre_vote=True) == [vote_reply(1, 3, 1, False, True)]
    assert solo.ask(3, 9, (5, 5)) == [vote_reply(1, 3, 1, False)]
    assert solo.node.status() == before
    solo.tick(1)
    assert solo.ask(3, 9, (5, 5)) == [vote_reply(1, 3, 9, True)]


def test_4_2_3_a_transfer_is_the_only_way_around() -> None:
    solo = Solo([1], term=1)
    solo.append(2, term=1)
    assert solo.ask(3, 2, (1, 1), transfer=True) == [vote_reply(1, 3, 2, True)]


def test_4_2_3_what_the_host_knows_of_the_leader_counts_too() -> None:
    """Heartbeats from node to node keep a silent group's leader alive: no vote, no election."""
    alive: dict[ReplicaId, Tick] = {}
    config = RaftConfig(ELECTION, HEARTBEAT, group_heartbeats=False)
    solo = Solo([1], term=1, config=config)
    solo.host.contact = lambda member: alive.get(member, Tick(-(10**6)))
    solo.host.start(solo.now)
    solo.append(2, term=1)
    for _ in range(20):
        solo.tick(ELECTION // 2)
        alive[solo.node.leader or solo.me] = solo.now
        assert solo.ask(3, 9, (5, 5), pre_vote=True) == [vote_reply(1, 3, 1, False, True)]
    assert solo.node.role is Role.FOLLOWER
    deadline = solo.node.deadline()
    assert deadline is not None
    assert deadline > solo.now
    solo.tick(2 * ELECTION)
    assert solo.node.role.value == "pre_candidate"


def test_6_2_a_leader_without_a_quorum_steps_down_within_one_election_timeout() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    for _ in range(ELECTION // HEARTBEAT - 1):
        solo.tick(HEARTBEAT)
        assert solo.node.role is Role.LEADER
    solo.tick(HEARTBEAT)
    assert (solo.node.role.value, solo.node.leader, solo.node.term) == ("follower", None, 2)


def test_6_2_a_leader_that_is_heard_but_hears_nobody_goes() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for _ in range(40):
        cluster.tick(HEARTBEAT)
        while cluster.network:
            cluster.drop(lambda m: m.target.node == 1)
            cluster.deliver()
    assert cluster[1].role is not Role.LEADER
    assert cluster.leader in (2, 3)


def test_9_6_a_group_without_a_leader_elects_one_though_everybody_asks_first() -> None:
    for seed in range(20):
        cluster = Cluster(5, seed=seed)
        cluster.run(6 * ELECTION, cut=[1, 2])
        assert cluster.leader in (3, 4, 5)


def test_a_leader_that_is_lost_for_certain_is_followed_at_once() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for number in (2, 3):
        cluster[number].leader_lost(cluster.now)
        deadline = cluster[number].deadline()
        assert deadline is not None
        assert deadline <= cluster.now + 150
    cluster.run(300, cut=[1], step=10)
    assert cluster.leader in (2, 3)
    assert cluster[2].term == 2


def test_a_leader_that_shows_itself_again_is_believed_again() -> None:
    solo = Solo([1], term=1)
    solo.append(2, term=1)
    solo.node.leader_lost(solo.now)
    solo.append(2, term=1)
    deadline = solo.node.deadline()
    assert deadline is not None
    assert deadline >= solo.now + ELECTION


def test_an_election_that_comes_to_nothing_after_a_certain_loss_is_tried_again_soon() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for number in (2, 3):
        cluster[number].leader_lost(cluster.now)
    cluster.run(400, cut=[1, 2, 3], step=10)  # every vote is lost
    for number in (2, 3):
        deadline = cluster[number].deadline()
        assert deadline is not None
        assert deadline <= cluster.now + 300, "nobody is waited for, so nothing is gained by a full timeout"
    cluster.run(700, cut=[1], step=10)
    assert cluster.leader in (2, 3)


def test_a_group_that_cannot_elect_stops_hurrying() -> None:
    solo = Solo([1], term=1)
    solo.append(2, term=1)
    solo.node.leader_lost(solo.now)
    waits = []
    for _ in range(20):
        deadline = solo.node.deadline()
        assert deadline is not None
        waits.append(deadline - solo.now)
        solo.tick(deadline - solo.now)
    assert max(waits[:8]) <= 300
    assert min(waits[12:]) >= ELECTION
