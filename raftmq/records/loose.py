"""Plain records that are not a batch yet, and how those of several requests become one.

A serialised ``RecordSet`` is nothing but its records, one after the other: joining the bytes of two sets joins the
sets. So a leader can make one batch of many small requests without taking any of them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raftmq.ids import ProducerId
from raftmq.records.batch import COUNT_MAX, CheckedBatch, check_records
from raftmq.records.entry import crc32c
from raftmq.v1 import types_pb2

HEADER_BYTES = 48
"""At least what the header of a bound batch takes, whatever is in it."""


class Sized(Protocol):
    """Records as they are counted: a batch, or what is going to share one."""

    @property
    def payload(self) -> bytes: ...
    @property
    def count(self) -> int: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class LooseRecords:
    """The records of one request, every number in range."""

    payload: bytes
    """A serialised ``RecordSet``, not compressed."""
    count: int
    first_timestamp_ms: int
    last_timestamp_ms: int
    priority: int
    """The highest of them."""

    @property
    def size(self) -> int:
        """Bytes that they take in a batch."""
        return len(self.payload)


def loosen(records: Sequence[types_pb2.Record], field: str = "records") -> LooseRecords:
    """`records` (1 to COUNT_MAX), checked. Raises InvalidArgument naming the record where one breaks a limit."""
    assert 1 <= len(records) <= COUNT_MAX
    check_records(records, field)
    payload = types_pb2.RecordSet(records=records).SerializeToString()
    priority = max(record.priority for record in records)
    return LooseRecords(payload, len(records), records[0].timestamp_ms, records[-1].timestamp_ms, priority)


def bind(parts: Sequence[LooseRecords]) -> CheckedBatch:
    """One batch of all records of `parts` (at least one part), in order. Nothing of it needs to be checked again."""
    payload = parts[0].payload if len(parts) == 1 else b"".join([part.payload for part in parts])
    count, crc = sum(part.count for part in parts), crc32c(payload)
    header = types_pb2.BatchHeader(
        count=count,
        raw_size=len(payload),
        crc32c=crc,
        first_timestamp_ms=parts[0].first_timestamp_ms,
        last_timestamp_ms=parts[-1].last_timestamp_ms,
        priority=max(part.priority for part in parts),
    )
    return CheckedBatch(
        header.SerializeToString(), payload, count, crc, ProducerId(0), 0, 0, priority=header.priority
    )  # fmt: skip
