"""Raft, section 5.3: log replication."""

from __future__ import annotations

import pytest

from raftmq.ids import LogIndex, Term
from raftmq.raft.config import RaftConfig
from raftmq.raft.messages import AppendEntries, Heartbeat
from raftmq.raft.types import EntryKind

from ..harness import ELECTION, HEARTBEAT, Cluster, Disk, Solo, append_reply, members, rejection, replica


def appends(sent: list[object]) -> list[tuple[int, int, list[int], int]]:
    """(target, prev_index, terms, commit_index) of every append."""
    return [
        (int(m.target.node), int(m.prev_index), [int(e.term) for e in m.entries], int(m.commit_index))
        for m in sent
        if isinstance(m, AppendEntries)
    ]


def test_5_3_the_leader_appends_and_replicates_to_all() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.acked(3, 1)
    assert solo.node.propose(EntryKind.DATA, "x", 1) == 2
    sent = solo.take()
    assert appends(list(sent)) == [(2, 1, [2], 1), (3, 1, [2], 1)]


def test_5_3_an_entry_is_committed_by_a_majority_and_everyone_is_told() -> None:
    solo = Solo(term=1, voters=5)
    solo.lead(2, 3)
    for peer in (2, 3, 4, 5):
        solo.acked(peer, 1)
    solo.node.propose(EntryKind.DATA, "x", 1)
    solo.take()
    assert appends(list(solo.acked(2, 2))) == []
    assert solo.node.commit_index == 1
    assert appends(list(solo.acked(3, 2))) == [(peer, 2, [], 2) for peer in (2, 3, 4, 5)]
    assert solo.node.commit_index == 2


def test_5_3_committing_an_entry_commits_all_before_it() -> None:
    solo = Solo([1, 2, 2], term=3)
    solo.lead(2)
    solo.acked(2, 4)
    assert solo.node.commit_index == 4
    assert solo.host.written.applied == 4


def test_5_3_a_follower_commits_what_the_leader_has_committed() -> None:
    solo = Solo(term=1)
    assert solo.append(2, 1, (0, 0), [1, 1, 1], commit=2) == [append_reply(1, 2, 1, match=3, commit=2)]
    assert solo.host.written.applied == 2
    assert solo.append(2, 1, (3, 1), [], commit=3) == [append_reply(1, 2, 1, match=3, commit=3)]


@pytest.mark.parametrize(
    ("log", "prev", "hint"),
    [
        ([], (1, 1), (0, 0)),
        ([1, 1], (5, 2), (2, 1)),
        ([1, 1, 3, 3], (4, 2), (2, 1)),
        ([1, 2, 2, 2], (4, 3), (4, 2)),
        ([4, 4, 4], (3, 1), (0, 0)),
    ],
)
def test_5_3_the_consistency_check_refuses_and_hints(
    log: list[int], prev: tuple[int, int], hint: tuple[int, int]
) -> None:
    solo = Solo(log, term=5)
    answer = solo.append(2, 5, prev, [5])
    assert answer == [rejection(1, 2, 5, prev=prev[0], hint=hint[0], hint_term=hint[1])]
    assert solo.log() == log


@pytest.mark.parametrize(
    ("prev", "terms", "after"),
    [
        ((2, 2), [3], [1, 2, 3]),
        ((1, 1), [3, 4], [1, 3, 4]),
        ((0, 0), [1], [1, 2, 2]),
        ((0, 0), [3], [3]),
        ((3, 2), [4], [1, 2, 2, 4]),
        ((1, 1), [2, 2, 4], [1, 2, 2, 4]),
    ],
)
def test_5_3_only_conflicting_entries_are_removed(prev: tuple[int, int], terms: list[int], after: list[int]) -> None:
    solo = Solo([1, 2, 2], term=4)
    assert solo.append(2, 4, prev, terms) == [append_reply(1, 2, 4, match=prev[0] + len(terms))]
    assert solo.log() == after
    assert [entry.term for entry in solo.host.synced.entries] == after


LEADER = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
FIGURE_7 = {
    "a": LEADER[:9],
    "b": LEADER[:4],
    "c": [*LEADER, 6],
    "d": [*LEADER, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("name", FIGURE_7)
def test_5_3_figure_7_every_follower_is_brought_to_the_leaders_log(name: str) -> None:
    """The leader of term 8 finds the last agreement by one probe per conflicting term at most."""
    cluster = Cluster(3)
    logs = {1: LEADER, 2: FIGURE_7[name], 3: LEADER}
    for number, log in logs.items():
        disk = Solo(log, term=7).host.synced
        cluster.add(number, members(1, 2, 3), Disk(disk.memberships, disk.hard_state, entries=disk.entries))
    cluster.elect(1)
    assert cluster.log(2) == cluster.log(1)
    assert cluster.log(1)[-1] == (11, 8)


def test_5_3_a_follower_that_was_away_catches_up() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for n in range(20):
        cluster.propose(n)
        cluster.exchange(cut=[3])
    assert cluster[3].last_index == 1
    cluster.run(ELECTION)
    assert cluster[3].commit_index == cluster[1].commit_index == 21


def test_5_3_lost_messages_are_sent_again() -> None:
    """Without heartbeats of the group's own, too: the leader remembers what was not answered."""
    config = RaftConfig(ELECTION, HEARTBEAT, group_heartbeats=False)
    cluster = Cluster(3, config)
    cluster.elect(1)
    cluster.propose("x")
    cluster.drop()
    cluster.propose("y")
    cluster.drop()
    cluster.tick(ELECTION // 2)
    cluster.exchange()
    assert [node.commit_index for node in cluster] == [3, 3, 3]


def test_5_3_a_lost_news_of_a_commit_is_told_again_and_then_nothing_more_is_said() -> None:
    config = RaftConfig(ELECTION, HEARTBEAT, group_heartbeats=False)
    cluster = Cluster(3, config)
    cluster.elect(1)
    cluster.propose("x")
    cluster.deliver()
    cluster.deliver()
    cluster.drop()
    assert [node.commit_index for node in cluster] == [2, 1, 1]
    cluster.tick(HEARTBEAT)
    cluster.exchange()
    assert [node.commit_index for node in cluster] == [2, 2, 2]
    for _ in range(5):
        cluster.tick(HEARTBEAT)
        assert cluster.network == []


def test_5_3_news_of_a_commit_waits_a_while_for_entries_to_travel_with() -> None:
    config = RaftConfig(ELECTION, HEARTBEAT, group_heartbeats=False, commit_news_delay=10)
    solo = Solo(term=1, config=config)
    solo.lead(2)
    solo.acked(2, 1)
    solo.acked(3, 1)
    solo.tick(10)
    for value in ("x", "y"):
        index = solo.node.propose(EntryKind.DATA, value, 1)
        solo.take()
        assert appends([*solo.acked(2, index), *solo.acked(3, index)]) == []
        assert solo.node.commit_index == index, "nobody is answered later for it"
    solo.node.propose(EntryKind.DATA, "z", 1)
    assert appends(list(solo.take())) == [(2, 3, [2], 3), (3, 3, [2], 3)], "the news travels with the entry"
    solo.acked(2, 4)
    solo.acked(3, 4)
    assert appends(list(solo.tick(9))) == []
    assert solo.node.deadline() == solo.now + 1
    assert appends(list(solo.tick(1))) == [(2, 4, [], 4), (3, 4, [], 4)], "and alone when nothing follows"


def test_5_3_a_heartbeat_never_names_a_commit_beyond_what_its_target_acknowledged() -> None:
    solo = Solo([1], term=1)
    solo.lead(2)
    solo.acked(2, 2)
    beats = {m.target.node: m.commit_index for m in solo.tick(HEARTBEAT) if isinstance(m, Heartbeat)}
    assert beats == {2: 2, 3: 0}


def test_5_3_an_append_that_reaches_below_the_start_of_a_compacted_log_is_taken() -> None:
    solo = Solo([1, 1, 1], term=1, commit=3)
    solo.host.compact(3)
    assert solo.append(2, 1, (0, 0), [1, 1, 1, 1]) == [append_reply(1, 2, 1, match=4, commit=3)]
    assert solo.host.written.last == 4
    assert solo.node.term_at(LogIndex(4)) == Term(1)
    assert solo.node.leader == replica(2)
