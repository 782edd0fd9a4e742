"""From times to percentiles and series."""

from __future__ import annotations

import pytest

from raftmq.cli.bench import figures
from raftmq.cli.bench.figures import Sample


def sample(at: float, latency: float = 0.0, records: int = 1, partition: int = 0) -> Sample:
    return Sample(partition, at, latency, records)


def test_percentiles_are_over_records_not_batches() -> None:
    spread = figures.spread([sample(1, 0.5, records=1), sample(2, 0.1, records=99)])
    assert spread == (0.1, 0.1, 0.1, 0.5)


def test_percentiles_by_nearest_rank() -> None:
    assert figures.spread_of([float(value) for value in range(100, 0, -1)]) == (50, 95, 99, 100)
    assert figures.spread_of([7.0]) == (7, 7, 7, 7)


def test_the_rate_is_to_the_last_answer() -> None:
    assert figures.rate([sample(12, records=30), sample(14, records=10)], began=10) == 10
    assert figures.rate([], began=10) == 0


def test_throughput_shows_seconds_in_which_nothing_came_and_leaves_the_last_out() -> None:
    samples = [sample(10.5, records=3), sample(10.9, records=4), sample(12.1, records=5), sample(13.2, records=1)]
    assert figures.throughput(samples, began=10) == [(0, 7), (1, 0), (2, 5)]


def test_a_run_of_less_than_a_second_is_one_point() -> None:
    assert figures.throughput([sample(10.5, records=3)], began=10) == [(0, 3)]
    assert figures.throughput([], began=10) == []


def test_latency_over_time_is_in_milliseconds_and_skips_empty_seconds() -> None:
    samples = [sample(0.5, 0.002, records=9), sample(0.6, 0.1), sample(2.5, 0.004), sample(3.5, 1)]
    median, tail = figures.latency_over_time(samples, began=0)
    assert median == [(0, 2), (2, 4)]
    assert tail == [(0, 100), (2, 4)]


@pytest.mark.parametrize(
    ("since", "until", "pause"),
    [
        (1.5, 3.0, 4.0),  # a pause that began before and ends after
        (0.0, 0.5, 1.0),
        (5.5, 9.0, 0.5),
        (7.0, 9.0, 0.0),  # nothing came afterwards that could end one
    ],
)
def test_the_longest_pause_that_touches_an_interval(since: float, until: float, pause: float) -> None:
    assert figures.longest_pause([sample(at) for at in (5.5, 0, 1, 5, 6)], since, until) == pause


def test_the_slope_of_a_line_and_of_nothing() -> None:
    assert figures.slope([(0, 10), (1, 12), (2, 14)]) == pytest.approx(2)
    assert figures.slope([(0, 10), (1, 10)]) == 0
    assert figures.slope([(3, 10), (3, 20)]) == 0
    assert figures.slope([]) == 0


def test_what_has_risen_counts_only_what_was_there_before_and_still_is() -> None:
    assert figures.risen({0: 3, 1: 1, 2: 7}, {0: 5, 1: 1, 9: 4}) == 2
    assert figures.risen({}, {1: 1}) == 0
