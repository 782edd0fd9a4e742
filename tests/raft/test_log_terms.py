"""``LogTerms`` against a plain list of terms."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.ids import LogIndex, Term
from raftmq.raft.log_terms import LogTerms


class Model:
    """What ``LogTerms`` says, said the long way: a dict of index to term."""

    def __init__(self) -> None:
        self.terms: dict[int, int] = {}
        self.start, self.start_term = 1, 0

    @property
    def last(self) -> int:
        return self.start + len(self.terms) - 1

    def term_at(self, index: int) -> int | None:
        return self.start_term if index == self.start - 1 else self.terms.get(index)

    def hint(self, index: int, term: int) -> int:
        at = min(index, self.last)
        while at >= self.start and self.terms[at] > term:
            at -= 1
        return max(at, self.start - 1)


STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "append", "append", "truncate", "compact", "reset"]), st.integers(0, 5)),
    max_size=60,
)


def play(steps: list[tuple[str, int]]) -> tuple[LogTerms, Model]:
    log, model = LogTerms(), Model()
    for verb, number in steps:
        if verb == "append":
            term = Term(log.last_term + (number == 0) * 2)
            log.append(LogIndex(log.last + 1), max(term, Term(1)))
            model.terms[model.last + 1] = log.last_term
        elif verb == "truncate" and model.terms:
            at = max(model.start, model.last - number)
            log.truncate(LogIndex(at))
            model.terms = {index: term for index, term in model.terms.items() if index < at}
        elif verb == "compact":
            start = min(model.last + 1, model.start + number)
            before = model.term_at(start - 1)
            assert before is not None
            log.compact(LogIndex(start))
            model.terms = {index: term for index, term in model.terms.items() if index >= start}
            model.start, model.start_term = start, before
        elif verb == "reset" and number == 0:
            log.reset(LogIndex(log.last + 3), Term(log.last_term + 1))
            model.start, model.start_term, model.terms = model.last + 4, int(log.start_term), {}
    return log, model


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_it_says_what_a_plain_list_says(steps: list[tuple[str, int]]) -> None:
    log, model = play(steps)
    assert (log.start, log.start_term, log.last) == (model.start, model.start_term, model.last)
    assert log.last_term == model.term_at(model.last)
    for index in range(-1, model.last + 3):
        assert log.term_at(LogIndex(index)) == model.term_at(index)


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 70), st.integers(0, 70))
def test_runs_between_two_indexes_spell_out_every_term(steps: list[tuple[str, int]], low: int, high: int) -> None:
    log, model = play(steps)
    first, last = max(low, model.start), min(high, model.last)
    spelled = []
    runs = log.runs_between(LogIndex(first), LogIndex(last))
    for (term, begin), end in zip(runs, [*(b for _, b in runs[1:]), last + 1], strict=True) if runs else []:
        spelled += [term] * (end - begin)
    assert spelled == [model.terms[index] for index in range(first, last + 1)]
    rebuilt = LogTerms(log.start, log.start_term, log.last, log.runs_between(log.start, log.last))
    assert [rebuilt.term_at(LogIndex(i)) for i in range(model.last + 1)] == [
        log.term_at(LogIndex(i)) for i in range(model.last + 1)
    ]


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 40), st.integers(0, 12))
def test_the_conflict_hint_skips_exactly_what_cannot_agree(steps: list[tuple[str, int]], index: int, term: int) -> None:
    log, model = play(steps)
    at, found = log.conflict_hint(LogIndex(index), Term(term))
    assert (at, found) == (model.hint(index, term), model.term_at(model.hint(index, term)))


TERMS = st.lists(st.integers(0, 2), min_size=1, max_size=20).map(lambda steps: [1 + n for n in accumulate(steps)])


@settings(max_examples=100, deadline=None)
@given(TERMS, TERMS, st.integers(0, 20))
def test_two_logs_find_their_last_agreement_within_one_probe_a_term(
    mine: list[int], theirs: list[int], common: int
) -> None:
    """Leader and follower exchange hints; the number of exchanges is bounded by the terms, not the entries."""
    shared = [1] * common
    leader, follower = LogTerms(), LogTerms()
    for log, terms in ((leader, shared + mine), (follower, shared + [t + 1 for t in theirs])):
        for term in terms:
            log.append(LogIndex(log.last + 1), Term(term))
    prev, probes = leader.last, 0
    while not follower.matches(prev, leader.term_at(prev) or Term(0)):
        hint, hint_term = follower.conflict_hint(prev, leader.term_at(prev) or Term(0))
        agreed, _ = leader.conflict_hint(hint, hint_term)
        assert agreed < prev
        prev, probes = agreed, probes + 1
    assert prev >= common
    assert probes <= len({*mine}) + len({*theirs}) + 1


def test_up_to_date_compares_the_last_term_first() -> None:
    log = LogTerms(runs=[(Term(2), LogIndex(1))], last=LogIndex(3))
    assert log.is_up_to_date(LogIndex(3), Term(2))
    assert log.is_up_to_date(LogIndex(1), Term(3))
    assert not log.is_up_to_date(LogIndex(9), Term(1))
    assert not log.is_up_to_date(LogIndex(2), Term(2))


@pytest.mark.parametrize(
    "break_it",
    [
        lambda log: log.append(LogIndex(5), Term(2)),
        lambda log: log.append(LogIndex(4), Term(1)),
        lambda log: log.truncate(LogIndex(4)),
        lambda log: log.compact(LogIndex(5)),
    ],
    ids=["a hole", "a falling term", "truncate beyond the end", "compact beyond the end"],
)
def test_broken_invariants_crash(break_it: object) -> None:
    log = LogTerms(runs=[(Term(2), LogIndex(1))], last=LogIndex(3))
    with pytest.raises(AssertionError):
        break_it(log)  # type: ignore[operator]
