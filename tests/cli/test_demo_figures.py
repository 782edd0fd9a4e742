"""Percentiles and pauses."""

from __future__ import annotations

from raftmq.cli.demo import figures
from raftmq.cli.demo.figures import Acknowledged, Latency


def test_latency_counts_records_not_batches() -> None:
    batches = [Acknowledged(0, 1.0, 0.5, 1), Acknowledged(0, 2.0, 0.1, 98), Acknowledged(0, 3.0, 0.9, 1)]
    assert figures.latency(batches) == Latency(p50=0.1, p99=0.5, maximum=0.9)


def test_latency_of_one_batch() -> None:
    assert figures.latency([Acknowledged(0, 1.0, 0.25, 3)]) == Latency(0.25, 0.25, 0.25)


def at(partition: int, *times: float) -> list[Acknowledged]:
    return [Acknowledged(partition, time, 0.0, 1) for time in times]


def test_a_standstill_is_the_longest_pause_around_the_kill_in_each_partition() -> None:
    batches = at(0, 1.0, 2.0, 5.0, 5.5) + at(1, 1.0, 3.0, 4.5)
    assert figures.standstill(batches, since=2.5, until=6.0) == {0: 3.0, 1: 2.0}


def test_pauses_before_the_kill_and_after_recovery_do_not_count() -> None:
    batches = at(0, 0.0, 4.0, 5.0, 6.0, 16.0)
    assert figures.standstill(batches, since=4.5, until=5.5) == {0: 1.0}


def test_a_partition_with_a_single_acknowledgement_has_no_pause() -> None:
    assert figures.standstill(at(0, 1.0), since=0.0, until=2.0) == {0: 0.0}
