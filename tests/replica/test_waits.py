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
    waits.expire(Tick(99), LogIndex(5))
    assert answers == []
    waits.expire(Tick(100), LogIndex(5))
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
    waits.lose_leadership("node 2 leads now", LogIndex(4))
    assert [type(answer) for answer in answers] == [LeadershipLost] * 3
    assert all(isinstance(a, RaftmqError) and a.outcome is Outcome.UNKNOWN for a in answers)
    waits.expire(Tick(1_000), LogIndex(9))
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


def test_answered_waits_do_not_pile_up_until_their_deadline() -> None:
    waits, answers = AckWaits(), list[Ack | RaftmqError]()
    for index in range(1, 2_000):
        waits.add(wait_for(Acks.QUORUM, index, answers, deadline=1_000_000))
        for wait in waits.reached(Acks.QUORUM, LogIndex(index)):
            wait.end(LeadershipLost("done"))
    assert len(waits._deadlines) <= 65


def test_a_receipt_can_say_when_the_leaders_disk_had_the_entry() -> None:
    waits = AckWaits()
    waits.persisted(LogIndex(3), Tick(10))
    waits.persisted(LogIndex(3), Tick(11))
    waits.persisted(LogIndex(7), Tick(12))
    assert [waits.persisted_at(LogIndex(index), Tick(99)) for index in (1, 3, 4, 7, 8)] == [10, 10, 12, 12, 99]
