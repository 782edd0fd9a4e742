"""Raft, section 5.4: safety."""

from __future__ import annotations

import pytest

from raftmq.ids import LogIndex
from raftmq.raft.leader import Leader
from raftmq.raft.quorum import quorum_value
from raftmq.raft.types import Role

from ..harness import Cluster, Solo, replica, vote_reply


@pytest.mark.parametrize("pre_vote", [False, True])
@pytest.mark.parametrize(
    ("mine", "theirs", "granted"),
    [
        ([1], (1, 1), True),
        ([1], (2, 1), True),
        ([1, 1], (1, 1), False),
        ([1], (1, 2), True),
        ([1], (5, 2), True),
        ([1, 1, 1], (1, 2), True),
        ([1, 2], (1, 1), False),
        ([1, 2], (9, 1), False),
        ([], (0, 0), True),
        ([1], (0, 0), False),
    ],
)
def test_5_4_1_a_vote_goes_only_to_a_log_that_is_as_up_to_date(
    mine: list[int], theirs: tuple[int, int], granted: bool, pre_vote: bool
) -> None:
    """Compared by the last term first, by length second."""
    solo = Solo(mine, term=4)
    answered_in = 5 if granted or not pre_vote else 4
    assert solo.ask(2, 5, theirs, pre_vote) == [vote_reply(1, 2, answered_in, granted, pre_vote)]


def test_5_4_1_a_refused_candidate_still_brings_its_term() -> None:
    solo = Solo([1, 2], term=2)
    assert solo.ask(2, 7, (1, 1)) == [vote_reply(1, 2, 7, False)]
    assert (solo.node.term, solo.host.synced.hard_state.vote) == (7, None)


def test_5_4_2_leader_commits_only_entries_of_its_own_term() -> None:
    solo = Solo([1, 2], term=2)
    solo.lead(2)
    assert solo.node.term == 3
    solo.acked(2, 1)
    solo.acked(2, 2)
    assert solo.node.commit_index == 0
    solo.acked(2, 3)
    assert solo.node.commit_index == 3


class Figure8:
    """The schedule of figure 8, step by step, with real replicas. S1 to S5 are 1 to 5."""

    def __init__(self) -> None:
        self.cluster = Cluster(5)
        self.elect(1, 2, 3)  # everybody starts with the no-op of term 1
        self.cluster.exchange()

    def elect(self, number: int, *voters: int) -> None:
        self.cluster.elect_by(number, *voters)

    def crash(self, number: int) -> None:
        self.cluster.hosts[number].crash(self.cluster.now)
        self.cluster.drop()

    def replicate(self, leader: int, to: int) -> None:
        """Only these two talk, until nothing is left to say."""
        for _ in range(20):
            self.cluster.drop(lambda m: {m.source.node, m.target.node} != {leader, to})
            if not self.cluster.deliver():
                self.cluster.tick(100)
                self.cluster.drop(lambda m: {m.source.node, m.target.node} != {leader, to})
                self.cluster.deliver()
            self.cluster.settle()

    def to_c(self) -> None:
        """(a) S1 leads term 2 and reaches only S2; (b) S5 leads term 3, elected by S3 and S4, and reaches nobody;
        (c) S1 leads term 4 and replicates index 2 of term 2 to S3: it is on a majority, and not committed."""
        self.crash(1)
        self.elect(1, 2, 3)
        self.replicate(1, 2)
        self.crash(1)
        self.elect(5, 3, 4)
        self.crash(5)
        self.elect(1, 2, 3)

    def spread_old_entry(self) -> None:
        """S3 gets index 2 (term 2) from the leader of term 4, but not yet the no-op of term 4; S2 has it already.
        Both acknowledge."""
        leader = self.cluster.hosts[1]
        self.cluster.drop()
        for follower in (self.cluster.hosts[2], self.cluster.hosts[3]):
            for message in Solo.appends_up_to(leader, follower, 2):
                follower.node.step(message, self.cluster.now)
            follower.pump()
            follower.sync()
        self.cluster.deliver()
        assert [leader.node.match_index(replica(n)) for n in (1, 2, 3)] == [3, 2, 2]


def test_5_4_2_figure_8_an_old_entry_on_a_majority_is_not_committed_by_counting() -> None:
    run = Figure8()
    run.to_c()
    run.spread_old_entry()
    cluster = run.cluster
    holders = [n for n in cluster.hosts if cluster.hosts[n].synced.term_at(2) == 2]
    assert holders == [1, 2, 3]
    assert cluster[1].role is Role.LEADER
    assert cluster[1].commit_index == 1


def test_5_4_2_figure_8_d_the_old_entry_can_still_be_overwritten() -> None:
    run = Figure8()
    run.to_c()
    run.spread_old_entry()
    run.crash(1)
    run.elect(5, 2, 3, 4)
    run.cluster.exchange(cut=[1])
    assert all(run.cluster.hosts[n].synced.term_at(2) == 3 for n in (2, 3, 4, 5))


def test_5_4_2_figure_8_e_once_an_entry_of_the_new_term_is_on_a_majority_the_old_one_is_safe() -> None:
    run = Figure8()
    run.to_c()
    run.replicate(1, 3)
    run.replicate(1, 2)
    cluster = run.cluster
    assert cluster[1].commit_index == 3
    run.crash(1)
    cluster[5].campaign(cluster.now)
    cluster.settle()
    cluster.exchange(cut=[1])
    assert cluster[5].role is not Role.LEADER


def test_5_4_2_figure_8_breaks_a_leader_that_forgets_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script proves something: without the rule the entry is committed, and then overwritten."""

    def commit_any_term(leader: Leader) -> None:
        reached = quorum_value(leader.core.membership, leader.match_index)
        if reached is not None and reached > leader.core.commit_index:
            leader.core.commit_to(LogIndex(reached))

    monkeypatch.setattr(Leader, "_advance_commit", commit_any_term)
    run = Figure8()
    run.to_c()
    run.spread_old_entry()
    assert run.cluster[1].commit_index >= 2
