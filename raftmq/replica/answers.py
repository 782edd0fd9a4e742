"""What readers of a partition are given, and who reads it from disk for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from raftmq.ids import Generation, Offset, Term
from raftmq.ports import BatchRow
from raftmq.records.entry import LogEntry


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a partition's leader knows of it: ``high_watermark`` is the first offset not visible to consumers."""

    log_start_offset: Offset
    high_watermark: Offset
    term: Term


@dataclass(frozen=True, slots=True)
class Fetched:
    """Batches read, with the bounds as of then."""

    batches: list[BatchRow]
    bounds: Bounds


class BatchReader(Protocol):
    """Reads batches off the loop."""

    async def read_batches(
        self, generation: Generation, offset: Offset, end: Offset, max_bytes: int
    ) -> list[BatchRow]: ...

    async def offset_at(self, generation: Generation, wall_ms: int) -> Offset | None: ...


def row_of(entry: LogEntry) -> BatchRow:
    """An entry of the log as a reader gets it."""
    return BatchRow(entry.base_offset, entry.count, entry.index, entry.term, entry.wall_ms, entry.inline, entry.payload)
