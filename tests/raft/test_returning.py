"""A replica that is removed and comes back to the same disk within one leader's term. It has the name of the one
before, which had acknowledged what this one does not hold."""

from __future__ import annotations

from dataclasses import replace

from raftmq.ids import LogIndex
from raftmq.raft.messages import AppendReply, InstallSnapshot
from raftmq.raft.types import Membership

from .harness import ELECTION, Cluster, members, replica


def change(cluster: Cluster, membership: Membership) -> None:
    """Of a group led by 1, to which 3 is lost throughout."""
    cluster[1].change_membership(membership)
    cluster.settle()
    for _ in range(5):
        cluster.exchange(cut=[3])


def moved_away_and_back() -> tuple[Cluster, AppendReply]:
    """2 has been moved to 4, and is admitted again, empty and suspect; and an answer of the one before it is still on
    the wire."""
    cluster = Cluster(3, spares=[4])
    leader = cluster.elect(1)
    for number in range(5):
        cluster.propose(number)
        cluster.exchange()
    held = AppendReply(replica(2), replica(1), leader.term, leader.match_index(replica(2)))
    change(cluster, members(1, 2, 3, learners=[4]))
    change(cluster, members(1, 3, 4))
    assert not leader.membership.is_joint
    cluster.add(2, Membership(frozenset()))
    leader.change_membership(members(1, 3, 4, learners=[2]))
    cluster.settle()
    return cluster, held


def test_what_the_one_before_acknowledged_says_nothing_about_the_newcomer() -> None:
    cluster, held = moved_away_and_back()
    leader = cluster[1]
    leader.step(held, cluster.now)
    assert leader.match_index(replica(2)) == 0, "the newcomer holds nothing"
    for _ in range(40):
        cluster.run(50, cut=[3])
        assert leader.match_index(replica(2)) <= cluster[2].last_index
    assert cluster[2].last_index == leader.last_index, "it is brought up to date"


def test_a_false_answer_never_counts_towards_a_commit() -> None:
    """Three of four are needed: 1 and 4, and one that has not been heard of."""
    cluster, held = moved_away_and_back()
    leader = cluster[1]
    cluster.exchange(cut=[2, 3])
    joint = leader.change_membership(members(1, 2, 3, 4))
    cluster.settle()
    cluster.exchange(cut=[2, 3])
    leader.step(replace(held, match_index=joint), cluster.now)
    assert leader.commit_index < joint
    cluster.run(ELECTION, cut=[3])
    assert leader.commit_index == leader.last_index >= joint, "2 holds it now, and has said so"


def test_a_newcomer_is_brought_up_to_date_by_a_snapshot_all_the_same() -> None:
    cluster, held = moved_away_and_back()
    leader, host = cluster[1], cluster.hosts[1]
    host.compact(LogIndex(4))
    orders: list[InstallSnapshot] = []
    for _ in range(40):
        orders += [m for m in cluster.network if isinstance(m, InstallSnapshot) and m.target == replica(2)]
        cluster.tick(50)
        for _ in range(20):
            cluster.drop(lambda m: 3 in (m.source.node, m.target.node))
            orders += [m for m in cluster.network if isinstance(m, InstallSnapshot) and m.target == replica(2)]
            cluster.deliver()
            ordered = cluster.hosts[2].ordered
            if ordered is not None:
                cluster.hosts[2].install(ordered)
    leader.step(held, cluster.now)
    assert orders, "what it lacks is no more to be had from the log"
    assert leader.match_index(replica(2)) == cluster[2].last_index == leader.last_index
