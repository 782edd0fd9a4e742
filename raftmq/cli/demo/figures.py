"""What a run of the demo measured, from the times of its acknowledgements. Pure; all times in seconds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One acknowledged batch."""

    partition: int
    at: float
    latency: float
    """From its first record entering the producer to the answer."""
    records: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Of records, each counted with the latency of its batch."""

    p50: float
    p99: float
    maximum: float


def latency(batches: Sequence[Acknowledged]) -> Latency:
    """Percentiles by nearest rank. `batches` must not be empty."""
    ordered = sorted(batches, key=lambda batch: batch.latency)
    total = sum(batch.records for batch in ordered)

    def at_rank(share: float) -> float:
        wanted, seen = share * total, 0
        for batch in ordered:
            seen += batch.records
            if seen >= wanted:
                return batch.latency
        return ordered[-1].latency

    return Latency(at_rank(0.50), at_rank(0.99), ordered[-1].latency)


def standstill(batches: Sequence[Acknowledged], since: float, until: float) -> Mapping[int, float]:
    """Longest time without an acknowledgement per partition, among the pauses that touch [since, until].

    A pause begins at an acknowledgement, even one before `since`, and ends at the partition's next one.
    """
    times: dict[int, list[float]] = {}
    for batch in sorted(batches, key=lambda batch: batch.at):
        times.setdefault(batch.partition, []).append(batch.at)
    return {
        partition: max(
            (end - begin for begin, end in itertools.pairwise(at) if end >= since and begin <= until),
            default=0.0,
        )
        for partition, at in sorted(times.items())
    }
