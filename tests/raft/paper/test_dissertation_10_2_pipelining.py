"""Dissertation, section 10.2: appends follow each other without waiting, and leave while the disk writes."""

from __future__ import annotations

from raftmq.ids import LogIndex
from raftmq.raft.config import RaftConfig
from raftmq.raft.messages import AppendEntries
from raftmq.raft.types import EntryKind

from ..harness import ELECTION, HEARTBEAT, Solo, append_reply, rejection, replica


def led(**limits: int) -> Solo:
    """A leader of two followers, of which 2 replicates; 3 never answers."""
    solo = Solo(term=1, config=RaftConfig(ELECTION, HEARTBEAT, **limits))  # type: ignore[arg-type]
    solo.lead(2)
    solo.acked(2, 1)
    solo.take()
    return solo


def to_two(sent: list[object]) -> list[list[int]]:
    return [[int(e.index) for e in m.entries] for m in sent if isinstance(m, AppendEntries) and m.target == replica(2)]


def propose(solo: Solo, size: int = 1) -> list[list[int]]:
    solo.node.propose(EntryKind.DATA, "x", size)
    return to_two(list(solo.take()))


def test_10_2_1_messages_follow_each_other_up_to_the_window_in_messages() -> None:
    solo = led(max_inflight_messages=2)
    assert propose(solo) == [[2]]
    assert propose(solo) == [[3]]
    assert propose(solo) == []
    assert propose(solo) == []
    assert to_two(list(solo.acked(2, 2)))[0] == [4, 5]


def test_10_2_1_and_up_to_the_window_in_bytes() -> None:
    solo = led(max_inflight_bytes=10)
    assert propose(solo, 6) == [[2]]
    assert propose(solo, 6) == [[3]]
    assert propose(solo, 6) == []
    assert to_two(list(solo.acked(2, 2)))[0] == [4]


def test_10_2_1_a_message_is_cut_at_its_size_but_holds_one_entry_at_least() -> None:
    solo = led(max_append_bytes=10, max_inflight_messages=1)
    propose(solo)
    for size in (4, 4, 4, 50, 1):
        assert propose(solo, size) == []
    assert to_two(list(solo.acked(2, 2)))[0] == [3, 4]
    assert to_two(list(solo.acked(2, 4)))[0] == [5]
    assert to_two(list(solo.acked(2, 5)))[0] == [6]
    assert to_two(list(solo.acked(2, 6)))[0] == [7]


def test_10_2_1_a_lost_window_is_noticed_and_sent_again_from_what_was_acknowledged() -> None:
    solo = led()
    propose(solo)
    propose(solo)
    solo.tick(ELECTION // 2 - 1)
    assert solo.node.status().peers[replica(2)].state == "replicate"
    sent = to_two(list(solo.tick(1)))
    assert sent == [[2, 3]]
    assert solo.node.status().peers[replica(2)].state == "probe"


def test_10_2_1_a_gap_is_noticed_at_once() -> None:
    solo = led()
    propose(solo)
    propose(solo)
    term = solo.node.term
    sent = solo.step(rejection(2, 1, term, prev=2, hint=1, hint_term=term))
    assert to_two(list(sent)) == [[2, 3]]
    assert to_two(list(solo.step(rejection(2, 1, term, prev=2, hint=1, hint_term=term)))) == []


def test_10_2_1_an_unanswered_probe_is_repeated_without_entries() -> None:
    solo = Solo([1] * 5, term=1)
    first = [m for m in solo.lead(2) if isinstance(m, AppendEntries) and m.target == replica(3)]
    assert [len(m.entries) for m in first] == [1]
    for wait in (1, 2, 4):
        again = [m for m in solo.tick(wait * HEARTBEAT) if isinstance(m, AppendEntries) and m.target == replica(3)]
        assert [(m.prev_index, len(m.entries)) for m in again] == [(5, 0)]


def test_10_2_1_appends_leave_before_the_leaders_own_disk_has_synced() -> None:
    solo = led()
    solo.node.propose(EntryKind.DATA, "x", 1)
    solo.host.pump()
    assert to_two(list(solo.out)) == [[2]]
    assert solo.host.synced.last == 1


def test_10_2_1_a_majority_of_followers_commits_before_the_leaders_disk() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.acked(3, 1)
    solo.take()
    solo.node.propose(EntryKind.DATA, "x", 1)
    solo.host.pump()
    for peer in (2, 3):
        solo.node.step(append_reply(peer, 1, solo.node.term, 2), solo.now)
    assert solo.node.commit_index == 2
    assert solo.node.persisted_index == LogIndex(1)
