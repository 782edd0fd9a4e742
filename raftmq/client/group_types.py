"""What a group consumer is made of, and where it begins to read."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from raftmq.client.fetcher import PartitionFetcher
from raftmq.client.membership import Partition
from raftmq.client.offsets import list_offsets
from raftmq.client.router import Router
from raftmq.client.types import ConsumedBatch, ConsumedRecord
from raftmq.errors import OffsetOutOfRange

CommitMode = Literal["after", "before", "manual", "none"]
GroupStart = Literal["earliest", "latest", "error"]
RebalanceCallback = Callable[[Sequence[Partition]], object]
"""Given (topic, partition) pairs; may be asynchronous."""


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """See `Client.consumer`."""

    commit: CommitMode
    commit_interval_ms: int
    start: GroupStart
    timeout_ms: int
    revoke_wait_ms: int
    """How long a partition that is to be given up waits for the record in hand."""
    on_assigned: RebalanceCallback | None = None
    on_revoked: RebalanceCallback | None = None
    on_lost: RebalanceCallback | None = None


@dataclass(slots=True)
class Owned:
    """A partition that this member reads."""

    key: Partition
    fetcher: PartitionFetcher
    done: int
    """The offset after the last record that is done with."""
    is_leaving: bool = False
    """Nothing more of it is given."""
    is_lost: bool = False
    """It may be others' already: no commit of it counts."""
    batch: ConsumedBatch | None = None
    pending: deque[ConsumedRecord] = field(default_factory=deque)
    """What is left of the batch."""
    pending_end: int = 0
    """The offset after the batch."""
    is_begun: bool = True
    """Its batch may be given: it is committed, where that comes first."""


async def starting_offsets(
    router: Router, settings: GroupSettings, committed: Mapping[Partition, int], wanted: Collection[Partition]
) -> dict[Partition, int]:
    """What is `committed`; where nothing is, as ``settings.start`` says. Raises OffsetOutOfRange where that is
    an error, and the last error after the timeout."""
    starts = {key: committed[key] for key in sorted(wanted) if key in committed}
    missing = sorted(set(wanted) - starts.keys())
    if missing and settings.start == "error":
        raise OffsetOutOfRange(f"nothing is committed for {missing}, and start is 'error'", field="start")
    for topic in sorted({topic for topic, _ in missing}):
        numbers = [number for name, number in missing if name == topic]
        bounds = await list_offsets(router, topic, numbers, timeout_ms=settings.timeout_ms)
        for number in numbers:
            one = bounds[number]
            starts[topic, number] = one.log_start_offset if settings.start == "earliest" else one.high_watermark
    return starts


async def tell(callback: RebalanceCallback | None, partitions: Sequence[Partition]) -> None:
    if callback is not None and partitions:
        answer = callback(partitions)
        if inspect.isawaitable(answer):
            await answer
