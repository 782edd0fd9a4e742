"""Raft, section 8, and dissertation, section 6.4: reads that see every acknowledged write."""

from __future__ import annotations

import pytest

from raftmq.ids import LogIndex, Term
from raftmq.raft.config import RaftConfig
from raftmq.raft.errors import NotLeader
from raftmq.raft.messages import Heartbeat, HeartbeatReply
from raftmq.raft.ready import ReadGrant
from raftmq.raft.types import Role

from ..harness import ELECTION, HEARTBEAT, Cluster, Solo, replica


def answered(solo: Solo, source: int, number: int, term: int | None = None) -> None:
    at = Term(term) if term is not None else solo.node.term
    solo.step(HeartbeatReply(replica(source), replica(1), at, number))


def rounds(sent: list[object]) -> list[tuple[int, int]]:
    return [(int(m.target.node), m.round) for m in sent if isinstance(m, Heartbeat)]


def leader() -> Solo:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.take()
    return solo


def test_8_a_read_needs_a_quorum_that_answers_after_the_request() -> None:
    solo = leader()
    solo.node.read_index(7, solo.now)
    assert rounds(list(solo.take())) == [(2, 1), (3, 1)]
    assert solo.host.reads == []
    answered(solo, 3, 1)
    assert solo.host.reads == [ReadGrant(7, LogIndex(1))]


def test_8_an_answer_to_an_earlier_round_confirms_nothing_newer() -> None:
    solo = leader()
    solo.node.read_index(1, solo.now)
    solo.take()
    solo.node.read_index(2, solo.now)
    solo.take()
    answered(solo, 2, 1)
    assert [grant.request_id for grant in solo.host.reads] == [1]
    answered(solo, 2, 1)
    answered(solo, 2, 0)
    assert [grant.request_id for grant in solo.host.reads] == [1]
    answered(solo, 3, 2)
    assert [grant.request_id for grant in solo.host.reads] == [1, 2]


def test_8_answers_of_another_term_or_to_a_round_never_begun_are_ignored() -> None:
    solo = leader()
    solo.node.read_index(1, solo.now)
    solo.take()
    answered(solo, 2, 1, term=solo.node.term - 1)
    answered(solo, 2, 99)
    assert solo.host.reads == []


def test_8_requests_of_one_pass_share_a_round() -> None:
    solo = leader()
    for request in (1, 2, 3):
        solo.node.read_index(request, solo.now)
    assert rounds(list(solo.take())) == [(2, 1), (3, 1)]
    answered(solo, 2, 1)
    assert [grant.request_id for grant in solo.host.reads] == [1, 2, 3]


def test_8_a_new_leader_asks_only_after_an_entry_of_its_term_is_committed() -> None:
    solo = Solo([1, 1], term=1)
    solo.lead(2)
    solo.node.read_index(5, solo.now)
    assert rounds(list(solo.take())) == []
    assert rounds(list(solo.acked(2, 3))) == [(2, 1), (3, 1)]
    answered(solo, 2, 1)
    assert solo.host.reads == [ReadGrant(5, LogIndex(3))]


def test_8_a_lost_round_is_asked_again() -> None:
    solo = Solo(term=1, config=RaftConfig(ELECTION, HEARTBEAT, group_heartbeats=False))
    solo.lead(2)
    solo.acked(2, 1)
    solo.acked(3, 1)
    solo.take()
    solo.node.read_index(1, solo.now)
    solo.take()
    assert rounds(list(solo.tick(HEARTBEAT))) == [(2, 1), (3, 1)]
    answered(solo, 3, 1)
    assert len(solo.host.reads) == 1
    assert rounds(list(solo.tick(HEARTBEAT))) == []


def test_8_reads_of_a_lost_leadership_fail() -> None:
    solo = leader()
    solo.node.read_index(1, solo.now)
    solo.take()
    solo.node.read_index(2, solo.now)
    solo.append(2, term=9)
    assert (solo.host.reads, solo.host.reads_failed) == ([], [1, 2])
    with pytest.raises(NotLeader):
        solo.node.read_index(3, solo.now)


def test_8_a_single_voter_confirms_at_once() -> None:
    cluster = Cluster(1)
    node = cluster.elect(1)
    node.read_index(1, cluster.now)
    cluster.settle()
    assert cluster.hosts[1].reads == [ReadGrant(1, LogIndex(1))]


def test_8_a_deposed_leader_that_does_not_know_it_serves_no_read() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.elect_by(2, 3)
    cluster.exchange(cut=[1])
    cluster.propose("new", 2)
    cluster.exchange(cut=[1])
    assert cluster[1].role is Role.LEADER
    cluster[1].read_index(1, cluster.now)
    cluster.settle()
    cluster.exchange()
    assert cluster.hosts[1].reads == []
    assert cluster.hosts[1].reads_failed == [1]
