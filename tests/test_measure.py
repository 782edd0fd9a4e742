"""Distributions: each value in its bucket, once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.measure import SECONDS, Distribution


@settings(max_examples=50)
@given(st.lists(st.floats(0, 100)))
def test_every_value_is_counted_in_the_first_bucket_that_holds_it(values: list[float]) -> None:
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    spread = distribution.spread()
    assert spread.bounds == SECONDS
    lower = -1.0
    for bound, count in zip((*SECONDS, float("inf")), spread.counts, strict=True):
        assert count == sum(lower < value <= bound for value in values)
        lower = bound
    assert spread.total == sum(values)


def test_a_spread_does_not_change_afterwards() -> None:
    distribution = Distribution((1, 2))
    before = distribution.spread()
    distribution.add(1.5)
    assert (before.counts, distribution.spread().counts) == ((0, 0, 0), (0, 1, 0))
