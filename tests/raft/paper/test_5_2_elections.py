"""Raft, section 5.2: leader election."""

from __future__ import annotations

from raftmq.ids import LogIndex, Term
from raftmq.raft.messages import AppendEntries, Heartbeat, RequestVote
from raftmq.raft.types import EntryKind, Role

from ..harness import ELECTION, HEARTBEAT, Cluster, Solo, members, replica, vote_reply


def request(source: int, target: int, term: int, last: tuple[int, int], pre_vote: bool = False) -> RequestVote:
    return RequestVote(replica(source), replica(target), Term(term), LogIndex(last[0]), Term(last[1]), pre_vote)


def test_5_2_everyone_starts_as_a_follower() -> None:
    solo = Solo([1, 2], term=3)
    assert (solo.node.role, solo.node.leader, solo.take()) == (Role.FOLLOWER, None, [])


def test_5_2_a_follower_that_hears_its_leader_stays_one() -> None:
    solo = Solo(term=1)
    for _ in range(50):
        solo.append(2, term=1)
        assert solo.tick(ELECTION - 1) == []
    assert (solo.node.role, solo.node.term) == (Role.FOLLOWER, 1)


def test_5_2_a_follower_without_a_leader_stands_for_election() -> None:
    """It asks for pre-votes first (dissertation, 9.6), then enters a new term, votes for itself, asks the others."""
    solo = Solo([1, 1], term=2)
    deadline = solo.node.deadline()
    assert deadline is not None
    assert ELECTION <= deadline < 2 * ELECTION
    assert solo.tick(deadline - 1) == []
    assert solo.tick(1) == [request(1, 2, 3, (2, 1), True), request(1, 3, 3, (2, 1), True)]
    assert solo.node.term == 2
    assert solo.voted(2, pre_vote=True) == [request(1, 2, 3, (2, 1)), request(1, 3, 3, (2, 1))]
    assert solo.node.role is Role.CANDIDATE
    assert (solo.host.synced.hard_state.term, solo.host.synced.hard_state.vote) == (3, replica(1))


def test_5_2_a_majority_of_votes_makes_a_leader_which_says_so_at_once() -> None:
    solo = Solo([1], term=1, voters=5)
    solo.tick(2 * ELECTION)
    solo.voted(2, pre_vote=True)
    solo.voted(3, pre_vote=True)
    assert solo.voted(4) == []
    sent = solo.voted(5)
    assert solo.node.role is Role.LEADER
    assert [type(message) for message in sent] == [AppendEntries] * 4
    assert [message.target for message in sent] == [replica(n) for n in (2, 3, 4, 5)]
    first = sent[0]
    assert isinstance(first, AppendEntries)
    assert (first.prev_index, first.prev_term, [e.kind for e in first.entries]) == (1, 1, [EntryKind.NOOP])


def test_5_2_half_the_votes_are_not_a_majority() -> None:
    solo = Solo(term=1, voters=4)
    solo.tick(2 * ELECTION)
    solo.voted(2, pre_vote=True)
    assert solo.node.role.value == "pre_candidate"
    solo.voted(3, pre_vote=True)
    assert solo.node.role.value == "candidate"
    solo.voted(2)
    assert solo.node.role.value == "candidate"


def test_5_2_the_same_vote_counts_once() -> None:
    solo = Solo(term=1, voters=5)
    solo.tick(2 * ELECTION)
    for _ in range(5):
        solo.voted(2, pre_vote=True)
    assert solo.node.role is Role.PRE_CANDIDATE


def test_5_2_a_majority_of_refusals_ends_the_candidacy() -> None:
    solo = Solo(term=1)
    solo.tick(2 * ELECTION)
    solo.voted(2, pre_vote=True)
    solo.voted(2, granted=False)
    assert solo.node.role is Role.CANDIDATE
    solo.voted(3, granted=False)
    assert (solo.node.role, solo.node.leader) == (Role.FOLLOWER, None)


def test_5_2_at_most_one_vote_a_term_first_come_first_served() -> None:
    solo = Solo(term=1)
    assert solo.ask(2, term=2) == [vote_reply(1, 2, 2, True)]
    assert solo.ask(3, term=2) == [vote_reply(1, 3, 2, False)]
    assert solo.ask(2, term=2) == [vote_reply(1, 2, 2, True)]
    assert solo.ask(3, term=3) == [vote_reply(1, 3, 3, True)]


def test_5_2_a_vote_survives_a_restart() -> None:
    solo = Solo(term=1)
    solo.ask(2, term=2)
    solo.host.crash(solo.now)
    assert solo.ask(3, term=2) == [vote_reply(1, 3, 2, False)]


def test_5_2_a_candidate_gives_way_to_a_leader_of_its_own_term() -> None:
    solo = Solo(term=1)
    solo.tick(2 * ELECTION)
    solo.voted(2, pre_vote=True)
    assert solo.node.role is Role.CANDIDATE
    solo.append(3, term=2)
    assert (solo.node.role, solo.node.term, solo.node.leader) == (Role.FOLLOWER, 2, replica(3))


def test_5_2_a_candidate_does_not_give_way_to_a_leader_of_an_older_term() -> None:
    solo = Solo(term=1)
    solo.tick(2 * ELECTION)
    solo.voted(2, pre_vote=True)
    solo.append(3, term=1)
    assert (solo.node.role, solo.node.term) == (Role.CANDIDATE, 2)


def test_5_2_a_split_vote_is_tried_again_in_a_new_term() -> None:
    solo = Solo(term=1)
    solo.tick(2 * ELECTION)
    solo.voted(2, pre_vote=True)
    solo.tick(2 * ELECTION)
    assert (solo.node.role, solo.node.term) == (Role.PRE_CANDIDATE, 2)
    solo.voted(2, pre_vote=True)
    assert (solo.node.role, solo.node.term) == (Role.CANDIDATE, 3)


def test_5_2_a_leader_sends_heartbeats_to_everyone() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.take()
    beats = [message for message in solo.tick(HEARTBEAT) if isinstance(message, Heartbeat)]
    assert [(beat.target, beat.commit_index) for beat in beats] == [(replica(2), 1), (replica(3), 0)]


def test_5_2_a_single_voter_elects_itself_once_its_vote_is_durable() -> None:
    cluster = Cluster(1)
    node, host = cluster[1], cluster.hosts[1]
    cluster.now = type(cluster.now)(2 * ELECTION)
    node.tick(cluster.now)
    host.pump()
    assert node.role is Role.CANDIDATE
    host.sync()
    assert (node.role, node.term) == (Role.LEADER, 1)


def test_5_2_three_and_five_replicas_elect_one_leader() -> None:
    for size in (3, 5):
        cluster = Cluster(size)
        cluster.run(5 * ELECTION)
        assert [node.role for node in cluster].count(Role.LEADER) == 1
        assert len({node.leader for node in cluster}) == 1


def test_5_2_a_replica_without_a_configuration_never_campaigns() -> None:
    solo = Solo(voters=members())
    assert solo.node.deadline() is None
    assert solo.tick(100 * ELECTION) == []
    assert solo.node.role is Role.FOLLOWER
