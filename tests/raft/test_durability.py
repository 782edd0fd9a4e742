"""Marks that come back late claim what is still true, and no more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.ids import LogIndex, Term
from raftmq.raft.durability import Durability


def test_a_late_mark_does_not_vouch_for_entries_that_were_written_anew() -> None:
    """Cut and brought back with the very same index and term (A, B, A): in the log, not yet on disk again."""
    marks = Durability(Term(1), LogIndex(5))
    marks.issue(Term(3), LogIndex(10))
    marks.truncated(LogIndex(8))
    marks.issue(Term(3), LogIndex(10))
    assert marks.persisted(Term(3), LogIndex(10))
    assert marks.index == 7
    assert marks.persisted(Term(3), LogIndex(10))
    assert marks.index == 10


def test_two_marks_that_look_alike_are_two_marks() -> None:
    """An empty Ready between two others must not let the first one's mark stand for the third."""
    marks = Durability(Term(3), LogIndex(0))
    marks.issue(Term(3), LogIndex(10))
    marks.issue(Term(3), LogIndex(10))
    assert marks.persisted(Term(3), LogIndex(10))
    marks.truncated(LogIndex(8))
    marks.issue(Term(3), LogIndex(10))
    assert marks.persisted(Term(3), LogIndex(10))
    assert marks.index == 7


def test_an_idle_group_gathers_no_marks_and_a_host_may_leave_out_the_empty_ones() -> None:
    marks = Durability(Term(3), LogIndex(0))
    for _ in range(1000):
        marks.issue(Term(3), LogIndex(10))
    assert marks.under_way == 1
    marks.issue(Term(3), LogIndex(11))
    assert marks.persisted(Term(3), LogIndex(11))
    assert (marks.index, marks.under_way) == (11, 0)


def test_unknown_marks_are_ignored() -> None:
    marks = Durability(Term(1), LogIndex(5))
    marks.issue(Term(2), LogIndex(6))
    assert not marks.persisted(Term(1), LogIndex(6))
    assert not marks.persisted(Term(2), LogIndex(7))
    assert (marks.term, marks.index) == (1, 5)


STEPS = st.lists(st.tuples(st.sampled_from(["append", "truncate", "issue", "sync", "sync"]), st.integers(1, 4)))


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_nothing_is_called_durable_that_the_disk_does_not_hold(steps: list[tuple[str, int]]) -> None:
    marks = Durability(Term(1), LogIndex(0))
    log: list[int] = []
    disk: list[int] = []
    written: list[list[int]] = []
    version = 0
    for verb, number in steps:
        if verb == "append":
            version += 1
            log = [*log, *([version] * number)]
        elif verb == "truncate" and log:
            at = max(len(log) - number, 0)
            marks.truncated(LogIndex(at + 1))
            log = log[:at]
        elif verb == "issue":
            marks.issue(Term(1), LogIndex(len(log)))
            written.append(log)
        elif verb == "sync" and written:
            disk = written.pop(0)
            assert marks.persisted(Term(1), LogIndex(len(disk)))
        assert disk[: marks.index] == log[: marks.index]
        assert marks.index <= len(disk)
    for rest in written:
        marks.persisted(Term(1), LogIndex(len(rest)))
    marks.issue(Term(1), LogIndex(len(log)))
    marks.persisted(Term(1), LogIndex(len(log)))
    assert marks.index == len(log), "and in the end everything is"


def test_a_mark_that_does_not_come_back_is_not_taken_for_the_one_that_looks_like_it() -> None:
    marks = Durability(Term(2), LogIndex(15))
    marks.issue(Term(2), LogIndex(16))  # of a Ready that has nothing to write
    marks.withdraw()
    marks.truncated(LogIndex(16))
    marks.issue(Term(2), LogIndex(16))  # of the one that writes entry 16 anew
    assert marks.persisted(Term(2), LogIndex(16))
    assert (marks.index, marks.under_way) == (16, 0)


def test_of_marks_that_look_alike_only_the_last_one_is_withdrawn() -> None:
    marks = Durability(Term(3), LogIndex(9))
    for _ in range(2):
        marks.issue(Term(3), LogIndex(10))
    marks.withdraw()
    assert marks.under_way == 1
    assert marks.persisted(Term(3), LogIndex(10))
    assert (marks.index, marks.under_way) == (10, 0)
