"""The memory of a node: what is left to calls, and when they are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import MemoryPressure, Outcome
from raftmq.replica.budget import LEAST_SHARE, Budget, MemoryWatch, resident_bytes

MIB = 1024 * 1024


def test_what_is_fixed_leaves_less_to_calls() -> None:
    budget = Budget(100 * MIB)
    budget.take(10 * MIB)
    budget.observe(70 * MIB)
    assert (budget.used, budget.allowed) == (10 * MIB, 40 * MIB)
    budget.check(30 * MIB)
    with pytest.raises(MemoryPressure) as refused:
        budget.check(30 * MIB + 1)
    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert refused.value.retriable
    assert refused.value.retry_after_ms > 0
    budget.give(10 * MIB)
    budget.check(90 * MIB)


def test_what_others_hold_counts() -> None:
    held = [0]
    budget = Budget(100 * MIB, lambda: held[0])
    budget.check(200 * MIB)
    held[0] = 1
    with pytest.raises(MemoryPressure):
        budget.check(100 * MIB)


def test_without_a_limit_nothing_is_refused() -> None:
    budget = Budget(0)
    budget.take(1 << 50)
    assert not budget.observe(1 << 50)
    budget.check(1 << 50)
    assert budget.refused == 0


def test_a_process_that_becomes_tight_says_so_once() -> None:
    readings = iter([10, 90, 95, 40])
    budget = Budget(100)
    watch = MemoryWatch(budget, lambda: next(readings))
    tight = []
    for _ in range(4):
        watch.look()
        tight.append(budget.is_tight)
    assert tight == [False, True, True, False]


@given(
    limit=st.integers(LEAST_SHARE, 1 << 40),
    resident=st.integers(0, 1 << 41),
    steps=st.lists(st.integers(0, 1 << 36), max_size=40),
)
def test_what_is_admitted_stays_within_the_limit_and_something_always_is(
    limit: int, resident: int, steps: list[int]
) -> None:
    budget = Budget(limit)
    budget.observe(resident)
    for size in steps:
        try:
            budget.check(size)
        except MemoryPressure:
            continue
        budget.take(size)
        assert budget.used == size or resident + budget.used <= max(limit, resident + limit // LEAST_SHARE)
    budget.give(budget.used)
    budget.check(1 << 41)


def test_the_process_knows_its_size() -> None:
    assert 5 * MIB < resident_bytes() < 1 << 40
