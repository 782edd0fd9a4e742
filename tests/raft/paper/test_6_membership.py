"""Raft, section 6, and dissertation, chapter 4: changes of the membership."""

from __future__ import annotations

import pytest

from raftmq.ids import LogIndex
from raftmq.raft.errors import MembershipRefused, NotLeader
from raftmq.raft.messages import TimeoutNow
from raftmq.raft.types import EntryKind, Membership, Role

from ..harness import ELECTION, Cluster, Solo, members, replica


def test_6_one_voter_more_takes_one_entry() -> None:
    cluster = Cluster(3, spares=[4])
    cluster.elect(1)
    assert cluster[1].change_membership(members(1, 2, 3, 4)) == 2
    cluster.settle()
    cluster.exchange()
    assert all(node.membership == members(1, 2, 3, 4) for node in cluster)
    assert cluster[4].commit_index == 2


def test_6_anything_else_goes_through_both_majorities_and_is_left_by_itself() -> None:
    cluster = Cluster(3, spares=[4, 5, 6])
    cluster.elect(1)
    cluster[1].change_membership(members(4, 5, 6))
    assert cluster[1].membership == members(4, 5, 6, outgoing=(1, 2, 3))
    cluster.settle()
    cluster.exchange()
    assert cluster[4].membership == members(4, 5, 6)
    assert cluster.hosts[4].written.memberships[-2][1].is_joint


@pytest.mark.parametrize("silent", [(2, 3), (5, 6)])
def test_6_a_joint_configuration_commits_nothing_without_both_majorities(silent: tuple[int, int]) -> None:
    cluster = Cluster(3, spares=[4, 5, 6])
    cluster.elect(1)
    cluster[1].change_membership(members(4, 5, 6))
    cluster.settle()
    cluster.exchange(cut=silent)
    assert (cluster[1].commit_index, cluster[1].membership.is_joint) == (1, True)
    cluster.run(2 * ELECTION)
    assert not cluster[5].membership.is_joint


def test_4_1_a_configuration_is_in_force_when_appended_and_rolled_back_when_truncated() -> None:
    cluster = Cluster(3, spares=[4])
    cluster.elect(1)
    cluster[1].change_membership(members(1, 2, 3, 4))
    assert cluster[1].membership == members(1, 2, 3, 4)
    cluster.settle()
    cluster.elect_by(2, 3)
    cluster.exchange()
    assert cluster[1].membership == members(1, 2, 3)
    assert cluster[1].status().membership_index == 0


def test_4_1_a_change_is_refused_while_another_is_not_committed() -> None:
    cluster = Cluster(3, spares=[4, 5])
    cluster.elect(1)
    cluster[1].change_membership(members(1, 2, 3, 4))
    before = cluster[1].status()
    with pytest.raises(MembershipRefused):
        cluster[1].change_membership(members(1, 2, 3, 5))
    assert cluster[1].status() == before


@pytest.mark.parametrize(
    "target",
    [members(), members(1, 2, 3), members(1, 2, outgoing=[3]), members(4, 5, learners=[3])],
    ids=["nobody", "no change", "joint", "demotion in a joint change"],
)
def test_4_1_targets_that_make_no_sense_are_refused(target: Membership) -> None:
    cluster = Cluster(3)
    node = cluster.elect(1)
    before = node.status()
    with pytest.raises(MembershipRefused):
        node.change_membership(target)
    assert node.status() == before


def test_4_1_only_a_leader_takes_a_change() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    with pytest.raises(NotLeader):
        cluster[2].change_membership(members(1, 2))


SCHEDULES = {
    "one add, one remove": (members(1, 2, 3, 4, 5), members(2, 3, 4)),
    "two adds": (members(1, 2, 3, 4, 5), members(1, 2, 3, 4, 6)),
    "two removes": (members(1, 3, 4), members(2, 3, 4)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_4_1_the_published_bug_of_single_server_changes_does_not_happen(name: str) -> None:
    """Two leaders in turn each change one server, the first without a quorum; their majorities would not meet.

    The second leader has to commit an entry of its own term before it may change anything, and that entry shuts
    the first one out: nobody in the second majority votes for it again.
    """
    first, second = SCHEDULES[name]
    cluster = Cluster(4, spares=[5, 6])
    cluster.elect(1)
    cluster[1].change_membership(first)
    cluster.settle()
    cluster.deliver(lambda m: m.target.node == 5)
    cluster.elect_by(2, 3, 4)
    with pytest.raises(MembershipRefused):
        cluster[2].change_membership(second)
    cluster.exchange(cut=[1, 5])
    cluster[2].change_membership(second)
    cluster.settle()
    cluster.exchange(cut=[1, 4, 5])
    assert cluster[2].membership == second
    assert cluster[2].commit_index == cluster[2].last_index
    for _ in range(8):
        cluster[4].leader_lost(cluster.now)
        cluster.run(ELECTION, cut=[2, 3, 6])
        assert cluster[1].role is not Role.LEADER


def test_4_2_1_a_learner_gets_the_log_and_counts_for_nothing() -> None:
    cluster = Cluster(members(1, 2, learners=[3]))
    cluster.elect(1)
    cluster.propose("x")
    cluster.exchange(cut=[2])
    assert cluster[3].last_index == 2
    assert cluster[1].commit_index == 1
    assert cluster[3].deadline() is None
    cluster.run(5 * ELECTION, cut=[1, 2])
    assert cluster[3].role is Role.FOLLOWER


def test_4_2_2_a_removed_leader_commits_its_removal_then_steps_down_and_hands_over() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster[1].change_membership(members(2, 3))
    cluster.settle()
    cluster.deliver()
    assert cluster.leader == 1
    while cluster.leader == 1:
        assert cluster.deliver() > 0
    assert cluster[1].commit_index == 2
    assert [type(m) for m in cluster.network if m.source == replica(1)].count(TimeoutNow) == 1
    cluster.exchange()
    assert cluster.leader in (2, 3)
    assert cluster[2].term == 2


def test_4_2_2_a_leader_does_not_count_itself_in_a_configuration_without_it() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.node.change_membership(members(2, 3))
    solo.take()
    solo.acked(2, 2)
    assert solo.node.commit_index == 1
    solo.acked(3, 2)
    assert solo.node.commit_index == 2


def test_4_2_3_a_removed_server_that_does_not_know_it_disturbs_nobody() -> None:
    cluster = Cluster(4)
    cluster.elect(1)
    cluster[1].change_membership(members(1, 2, 3))
    cluster.settle()
    cluster.exchange(cut=[4])
    term = cluster[1].term
    for _ in range(10):
        cluster.run(ELECTION)
        assert (cluster[1].role, cluster[1].term) == (Role.LEADER, term)
    assert cluster[4].membership == members(1, 2, 3, 4)


def test_4_4_data_keeps_flowing_through_a_replacement_of_everybody() -> None:
    cluster = Cluster(3, spares=[4, 5, 6])
    node = cluster.elect(1)
    node.change_membership(members(4, 5, 6))
    for n in range(10):
        while cluster.leader is None:
            cluster.deliver()
        cluster.propose(n)
        cluster.deliver()
    cluster.run(3 * ELECTION)
    leader = cluster.leader
    assert leader in (4, 5, 6)
    payloads = [entry.payload for entry in cluster.hosts[leader].written.entries if entry.kind is EntryKind.DATA]
    assert payloads == list(range(10))


def test_6_a_snapshot_brings_its_configuration() -> None:
    cluster = Cluster(3, spares=[4])
    cluster.elect(1)
    for n in range(5):
        cluster.propose(n)
    cluster.exchange()
    cluster.hosts[1].compact(6)
    cluster[1].change_membership(members(1, 2, 3, learners=[4]))
    cluster.settle()
    cluster.exchange()
    ordered = cluster.hosts[4].ordered
    assert ordered is not None
    cluster.hosts[4].install(ordered)
    cluster.exchange()
    assert cluster[4].membership == members(1, 2, 3, learners=[4])
    assert cluster[4].last_index == cluster[1].last_index
    assert cluster[4].term_at(LogIndex(ordered.index)) == ordered.term
