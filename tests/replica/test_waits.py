"""Waits for acknowledgement end exactly once, with what is known."""

from raftmq.errors import DeadlineExceeded, LeadershipLost, Outcome, RaftmqError
from raftmq.ids import LogIndex, Offset, Term, Tick
from raftmq.replica.waits import Ack, Acks, AckWaits, Wait


def wait_for(acks: Acks, index: int, answers: list[Ack | RaftmqError], deadline: int = 100) -> Wait:
    return Wait(LogIndex(index), Term(3), Offset(index * 10), 1, acks, Tick(deadline), answers.append, Tick(0))


def test_levels_are_kept_apart_and_taken_in_log_order() -> None:
    waits, answers = AckWaits(), list[Ack | RaftmqError]()
    for index in (7, 5, 6):
        waits.add(wait_for(Acks.QUORUM, index, answers))
    waits.add(wait_for(Acks.ALL, 5, answers))
    assert [wait.index for wait in waits.reached(Acks.QUORUM, LogIndex(6))] == [5, 6]
    assert len(waits) == 2
    assert waits.waits_for_all


def test_an_expired_wait_says_unknown_before_the_commit_and_applied_after_it() -> None:
    waits, answers = AckWaits(), list[Ack | RaftmqError]()
    waits.add(wait_for(Acks.ALL, 5, answers))
    waits.add(wait_for(Acks.ALL, 6, answers))
    waits.mark(LogIndex(6), LogIndex(5), Tick(50))
    waits.expire(Tick(99))
    assert answers == []
    waits.expire(Tick(100))
    committed, unknown = answers
    assert isinstance(committed, DeadlineExceeded)
    assert committed.outcome is Outcome.APPLIED
    assert committed.metadata == {"base_offset": "50"}
    assert isinstance(unknown, DeadlineExceeded)
    assert unknown.outcome is Outcome.UNKNOWN


def test_lost_leadership_ends_every_wait_as_unknown_and_only_once() -> None:
    waits, answers = AckWaits(), list[Ack | RaftmqError]()
    for acks in (Acks.LEADER, Acks.QUORUM, Acks.ALL):
        waits.add(wait_for(acks, 5, answers))
    waits.lose_leadership("node 2 leads now")
    assert [type(answer) for answer in answers] == [LeadershipLost] * 3
    assert all(isinstance(a, RaftmqError) and a.outcome is Outcome.UNKNOWN for a in answers)
    waits.expire(Tick(1_000))
    assert len(answers) == 3
    assert len(waits) == 0


def test_the_next_deadline_skips_waits_that_have_ended() -> None:
    waits, answers = AckWaits(), list[Ack | RaftmqError]()
    first = wait_for(Acks.QUORUM, 5, answers, deadline=10)
    waits.add(first)
    waits.add(wait_for(Acks.QUORUM, 6, answers, deadline=20))
    assert waits.deadline() == 10
    first.end(LeadershipLost("gone"))
    assert waits.deadline() == 20
