"""The items of the checklist about snapshots and logs that do not begin at their beginning, 32 and 33."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmq.ids import LogIndex, Term
from raftmq.raft.log_terms import LogTerms
from raftmq.raft.messages import InstallSnapshot, Message
from raftmq.raft.types import HardState, Role, SnapshotMeta

from .harness import ELECTION, HEARTBEAT, Cluster, Solo, append_reply, members, rejection, replica


def test_item_32_a_snapshot_never_goes_back_and_two_in_a_row_work() -> None:
    solo = Solo([1, 1], term=2, commit=2)
    first = SnapshotMeta(LogIndex(5), Term(2), members(1, 2, 3))
    second = SnapshotMeta(LogIndex(9), Term(2), members(1, 2))
    for meta in (first, second):
        commit = solo.node.commit_index
        told = solo.step(InstallSnapshot(replica(2), replica(1), Term(2), meta))
        assert told == [append_reply(1, 2, 2, match=commit, commit=commit)], "perhaps the leader's log goes back so far"
        assert solo.host.ordered == meta
        solo.host.install(meta)
        assert solo.take() == [append_reply(1, 2, 2, match=meta.index, commit=meta.index)]
        assert (solo.node.commit_index, solo.node.membership) == (meta.index, meta.membership)
    before = solo.node.status()
    solo.host.install(first)
    assert solo.node.status() == before


def test_item_32_entries_that_came_with_a_snapshot_are_part_of_the_log() -> None:
    solo = Solo([1, 1], term=3, commit=2)
    meta = SnapshotMeta(LogIndex(9), Term(3), members(1, 2, 3))
    solo.step(InstallSnapshot(replica(2), replica(1), Term(3), meta))
    log = LogTerms(LogIndex(6), Term(1), LogIndex(9), [(Term(2), LogIndex(6)), (Term(3), LogIndex(8))])
    solo.node.snapshot_installed(meta, log)
    assert [solo.node.term_at(LogIndex(index)) for index in range(4, 11)] == [None, 1, 2, 2, 3, 3, None]
    assert (solo.node.last_index, solo.node.commit_index, solo.node.applied_index) == (9, 9, 9)
    solo.node.compact(LogIndex(8))
    assert (solo.node.term_at(LogIndex(6)), solo.node.term_at(LogIndex(7))) == (None, 2)


def test_item_33_a_leader_whose_log_reaches_the_member_after_all_goes_on_with_appends() -> None:
    """The news that a snapshot is installed may get lost; the answer to the next order says it again."""
    solo = Solo([1, 1, 1, 1], term=1, commit=4)
    solo.host.compact(4)
    solo.lead(2)
    term = solo.node.term
    orders = [m for m in solo.step(rejection(3, 1, term, 4, 0, 0)) if isinstance(m, InstallSnapshot)]
    assert orders
    states = []
    for match in (1, 2, 3):
        solo.step(append_reply(3, 1, term, match=match, commit=match))
        states.append(solo.node.status().peers[replica(3)].state)
    assert states == ["snapshot", "snapshot", "probe"], "entry 4 is the first that the leader still has"


def test_item_32_a_log_that_has_the_snapshots_end_is_kept() -> None:
    solo = Solo([1, 1, 2, 2], term=2, commit=1)
    meta = SnapshotMeta(LogIndex(3), Term(2), members(1, 2, 3))
    assert not solo.node.wants_snapshot(meta)
    answer = solo.step(InstallSnapshot(replica(2), replica(1), Term(2), meta))
    assert answer == [append_reply(1, 2, 2, match=3, commit=3)]
    assert (solo.host.ordered, solo.log()) == (None, [1, 1, 2, 2])


def test_item_32_a_log_that_conflicts_is_replaced() -> None:
    solo = Solo([1, 1, 1, 1], term=2, commit=1)
    meta = SnapshotMeta(LogIndex(3), Term(2), members(1, 2, 3))
    solo.step(InstallSnapshot(replica(2), replica(1), Term(2), meta))
    solo.host.install(meta)
    assert (solo.node.last_index, solo.node.term_at(LogIndex(3)), solo.log()) == (3, 2, [])
    assert solo.append(2, 2, (3, 2), [2])[-1] == append_reply(1, 2, 2, match=4, commit=3)


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PRE_CANDIDATE, Role.LEADER])
def test_item_32_an_install_enters_the_term_of_its_snapshot(role: Role) -> None:
    """Its bytes may come from somebody who has heard of a leader that this replica has not heard of."""
    solo = Solo([1, 1], term=1, commit=2)
    if role is Role.LEADER:
        solo.lead(2)
    elif role is Role.PRE_CANDIDATE:
        solo.tick(3 * ELECTION)
    assert solo.node.role is role
    term = Term(solo.node.term + 3)
    meta = SnapshotMeta(LogIndex(9), term, members(1, 2, 3))
    assert solo.node.begin_install(meta)
    solo.take()
    assert solo.host.synced.hard_state == HardState(term), "durable before the log is replaced"
    solo.host.install(meta)
    assert (solo.node.role, solo.node.term, solo.node.commit_index) == (Role.FOLLOWER, term, 9)


def test_item_33_a_follower_behind_the_log_start_is_sent_to_a_snapshot_and_resumed() -> None:
    cluster = Cluster(3)
    cluster.elect(1)
    for n in range(5):
        cluster.propose(n)
        cluster.exchange(cut=[3])
    cluster.hosts[1].compact(5)
    cluster.run(ELECTION)
    ordered = cluster.hosts[3].ordered
    assert ordered is not None
    assert (ordered.index, cluster[1].status().peers[replica(3)].state) == (6, "snapshot")
    cluster.hosts[3].install(ordered)
    cluster.exchange()
    cluster.propose("after")
    cluster.exchange()
    assert [node.commit_index for node in cluster] == [7, 7, 7]
    assert cluster[1].status().peers[replica(3)].state == "replicate"


def test_item_32_a_snapshot_from_a_newcomer_that_does_not_know_the_first_configuration() -> None:
    """Found by a storm: such a leader's order was dropped as malformed, and its newcomer never caught up."""
    meta = SnapshotMeta(LogIndex(3), Term(2), members())
    for known in (members(1, 2, 3), members()):
        solo = Solo(term=2, voters=known)
        solo.step(InstallSnapshot(replica(2), replica(1), Term(2), meta))
        assert solo.host.ordered == replace(meta, membership=known)
        solo.host.install(meta)
        assert (solo.node.membership, solo.node.commit_index) == (known, 3)


def test_item_33_a_lost_order_for_a_snapshot_is_repeated() -> None:
    solo = Solo([1, 1, 1, 1], term=1, commit=4)
    solo.host.compact(4)
    solo.lead(2)
    term = solo.node.term
    orders = [m for m in solo.step(rejection(3, 1, term, 4, 0, 0)) if isinstance(m, InstallSnapshot)]
    assert [(m.target, m.snapshot.index) for m in orders] == [(replica(3), 4)]
    repeated: list[Message] = []
    for _ in range(ELECTION // HEARTBEAT):
        solo.acked(2, 5)
        repeated += solo.tick(HEARTBEAT)
    again = SnapshotMeta(LogIndex(5), term, orders[0].snapshot.membership)
    assert [m for m in repeated if isinstance(m, InstallSnapshot)] == [replace(orders[0], snapshot=again)]
