"""``Progress``: its transitions one by one, and its invariants under anything that may come."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.ids import LogIndex, Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.progress import Progress, ProgressState

CONFIG = RaftConfig(1000, 100, max_inflight_messages=3, max_inflight_bytes=30)
LAST, COMMIT = LogIndex(20), LogIndex(10)


def probing(next_index: int = 11) -> Progress:
    return Progress(CONFIG, LogIndex(next_index), Tick(0))


def replicating(match: int = 10) -> Progress:
    progress = probing()
    progress.sent(LogIndex(match), 0, COMMIT, Tick(0))
    progress.accepted(LogIndex(match), LogIndex(1), Tick(0))
    assert progress.state is ProgressState.REPLICATE
    return progress


def test_a_probe_waits_for_its_answer_or_for_its_time() -> None:
    progress = probing()
    assert progress.may_send(LAST, COMMIT, Tick(0))
    progress.sent(LogIndex(12), 5, COMMIT, Tick(7))
    assert not progress.may_send(LAST, COMMIT, Tick(0))
    assert progress.retry_at(COMMIT) == 107
    assert not progress.retry(COMMIT, Tick(106))
    assert progress.retry(COMMIT, Tick(107))
    assert progress.may_send(LAST, COMMIT, Tick(0))
    assert not progress.wants_entries


def test_who_does_not_answer_is_asked_ever_more_seldom_until_it_does() -> None:
    progress = probing()
    now, waits = 0, []
    for _ in range(6):
        progress.sent(LogIndex(10), 0, COMMIT, Tick(now))
        at = progress.retry_at(COMMIT)
        assert at is not None
        waits.append(at - now)
        now = at
        assert progress.retry(COMMIT, at)
    assert waits == [100, 200, 400, 800, 1000, 1000]
    progress.restart()
    progress.sent(LogIndex(10), 0, COMMIT, Tick(now))
    assert progress.retry_at(COMMIT) == now + 100


def test_an_accepted_probe_opens_the_window() -> None:
    progress = replicating()
    assert (progress.match_index, progress.next_index) == (10, 11)
    for last in (11, 12, 13):
        assert progress.may_send(LAST, COMMIT, Tick(0))
        progress.sent(LogIndex(last), 1, COMMIT, Tick(0))
    assert progress.window_full
    assert not progress.may_send(LAST, COMMIT, Tick(0))
    progress.accepted(LogIndex(12), LogIndex(1), Tick(5))
    assert progress.status(False).in_flight == 1
    assert progress.may_send(LAST, COMMIT, Tick(0))


def test_a_rejection_goes_back_to_where_the_logs_may_agree_but_not_below_match() -> None:
    progress = replicating()
    progress.sent(LogIndex(15), 1, COMMIT, Tick(0))
    assert progress.rejected(LogIndex(15), LogIndex(2))
    assert (progress.state, progress.next_index) == (ProgressState.PROBE, 11)
    assert not progress.rejected(LogIndex(15), LogIndex(2)), "the same rejection twice"
    assert not progress.rejected(LogIndex(10), LogIndex(2)), "what is acknowledged cannot be refused"


def test_a_snapshot_holds_everything_back_until_it_is_there() -> None:
    progress = probing(5)
    progress.snapshot_ordered(LogIndex(12), Tick(0))
    assert not progress.may_send(LAST, COMMIT, Tick(0))
    assert not progress.rejected(LogIndex(4), LogIndex(0))
    progress.accepted(LogIndex(3), LogIndex(8), Tick(0))
    assert progress.state is ProgressState.SNAPSHOT
    progress.accepted(LogIndex(12), LogIndex(8), Tick(0))
    assert (progress.state, progress.next_index) == (ProgressState.PROBE, 13)


def test_a_restart_keeps_what_was_acknowledged_and_a_probes_place() -> None:
    progress = replicating()
    progress.sent(LogIndex(15), 1, COMMIT, Tick(0))
    progress.restart()
    assert (progress.state, progress.match_index, progress.next_index) == (ProgressState.PROBE, 10, 11)
    unknown = probing(900)
    unknown.restart()
    assert unknown.next_index == 900


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["send", "accept", "reject", "retry", "snapshot", "restart", "poke", "wait"]),
        st.integers(0, 25),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(EVENTS)
def test_invariants_hold_whatever_comes(events: list[tuple[str, int]]) -> None:
    progress, now, match = probing(), 0, 0
    for verb, number in events:
        if verb == "send" and progress.may_send(LAST, COMMIT, Tick(0)):
            end = min(LAST, progress.next_index + number % 3) if progress.wants_entries else progress.next_index - 1
            progress.sent(LogIndex(end), number, COMMIT, Tick(now))
        elif verb == "accept":
            progress.accepted(LogIndex(min(number, LAST)), LogIndex(1), Tick(now))
            match = max(match, min(number, LAST))
        elif verb == "reject":
            before = progress.next_index
            if progress.rejected(LogIndex(number), LogIndex(max(number - 3, 0))):
                assert progress.next_index <= before
        elif verb == "retry":
            progress.retry(COMMIT, Tick(now))
        elif verb == "snapshot":
            progress.snapshot_ordered(COMMIT, Tick(now))
        elif verb == "restart":
            progress.restart()
        elif verb == "poke":
            progress.poke()
        now += number * 20
        status = progress.status(is_learner=False)
        assert status.match_index == match
        assert status.match_index < status.next_index
        assert status.in_flight <= CONFIG.max_inflight_messages
        assert status.in_flight == 0 or progress.state is ProgressState.REPLICATE


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_nothing_is_ever_stuck(events: list[tuple[str, int]]) -> None:
    """Behind, and nothing may be sent: then there is a moment at which it is tried again."""
    progress, now = probing(), 0
    for verb, number in events:
        if verb == "send" and progress.may_send(LAST, COMMIT, Tick(0)):
            progress.sent(LogIndex(progress.next_index - (not progress.wants_entries)), 12, COMMIT, Tick(now))
        elif verb == "accept":
            progress.accepted(LogIndex(number % 12), LogIndex(1), Tick(now))
        elif verb == "retry":
            progress.retry(COMMIT, Tick(now))
        elif verb == "snapshot":
            progress.snapshot_ordered(COMMIT, Tick(now))
        now += number
        if progress.match_index < LAST and not progress.may_send(LAST, COMMIT, Tick(0)) and not progress.snapshot_due:
            assert progress.retry_at(COMMIT) is not None
