"""The consumer: records of some partitions of a topic, each partition in order, without gap or repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Literal, Self

from raftmq.client.fetcher import FetchSettings, PartitionFetcher
from raftmq.client.offsets import list_offsets
from raftmq.client.router import Router
from raftmq.client.types import ConsumedBatch, ConsumedRecord, PartitionOffsets
from raftmq.errors import InvalidArgument, Unimplemented, UnknownPartition

Start = Literal["earliest", "latest"] | datetime | int | Mapping[int, int]
Until = Literal["high_watermark"] | Mapping[int, int]


class Consumer:
    """Reads a topic. Made by `Client.consumer`; an ``async with`` block starts and stops it.

    It keeps its own position and survives changes of leader and deaths of nodes. What it cannot bridge is raised from
    the iteration, after all records that come before it: OffsetOutOfRange (trimmed, or beyond the end), DataLoss (a
    hole), CorruptBatch (bytes that fail their checksum), or the last error after ``unavailable_timeout_ms`` without
    an answer.
    """

    def __init__(
        self,
        topic: str,
        router: Router,
        settings: FetchSettings,
        *,
        partitions: Sequence[int] | None,
        start: Start,
        until: Until | None,
    ) -> None:
        self.topic = topic
        self._router = router
        self._settings = settings
        self._partitions = partitions
        self._start = start
        self._until = until
        self._fetchers: dict[int, PartitionFetcher] = {}
        self._turn: list[PartitionFetcher] = []
        self._changed = asyncio.Event()
        self._records: Iterator[ConsumedRecord] = iter(())
        self._current: PartitionFetcher | None = None

    def position(self, partition: int) -> int:
        """Offset of the next record that the iteration gives for `partition`. Raises UnknownPartition."""
        return self._fetcher(partition).position

    def trimmed(self, partition: int) -> int:
        """How many offsets were skipped because they were gone; 0 unless ``on_trimmed="earliest"``."""
        return self._fetcher(partition).trimmed

    @property
    def partitions(self) -> tuple[int, ...]:
        return tuple(sorted(self._fetchers))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumedRecord:
        record = next(self._records, None)
        while record is None:
            fetcher, batch = await self._next_batch()
            self._current, self._records = fetcher, iter(batch.records)
            record = next(self._records)
        assert self._current is not None
        self._current.position = record.offset + 1
        return record

    async def batches(self) -> AsyncIterator[ConsumedBatch]:
        """The same records, a batch at a time: several times cheaper per record. A batch begun by the plain iteration
        is finished by it; do not mix the two.
        """
        while True:
            try:
                fetcher, batch = await self._next_batch()
            except StopAsyncIteration:
                return
            fetcher.position = batch.next_offset
            yield batch

    async def close(self) -> None:
        for _, fetcher in sorted(self._fetchers.items()):
            await fetcher.stop()

    async def __aenter__(self) -> Self:
        topic = await self._router.metadata.topic(self.topic)
        known = [p.partition for p in topic.partitions]
        wanted = known if self._partitions is None else list(dict.fromkeys(self._partitions))
        for partition in wanted:
            if partition not in known:
                raise UnknownPartition(f"{self.topic} has no partition {partition}", field="partitions")
        starts, ends = await self._bounds(wanted)
        for partition in wanted:
            fetcher = self._fetchers[partition] = PartitionFetcher(
                self.topic,
                partition,
                self._router,
                self._settings,
                start=starts[partition],
                end=ends.get(partition),
                on_change=self._changed.set,
            )
            fetcher.start()
        self._turn = list(self._fetchers.values())
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _next_batch(self) -> tuple[PartitionFetcher, ConsumedBatch]:
        """From the partitions in turn. Raises StopAsyncIteration when all are at their end."""
        while True:
            self._changed.clear()
            for place, fetcher in enumerate(self._turn):
                batch = fetcher.take()
                if batch is not None:
                    self._turn = self._turn[place + 1 :] + self._turn[: place + 1]
                    return fetcher, batch
            if all(fetcher.finished for fetcher in self._turn):
                raise StopAsyncIteration
            await self._changed.wait()

    async def _bounds(self, partitions: Sequence[int]) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Where each partition starts, and where it ends if it does."""
        offsets: Mapping[int, PartitionOffsets] = {}
        time = self._start if isinstance(self._start, datetime) else None
        if isinstance(self._start, str) or time is not None or self._until == "high_watermark":
            timeout_ms = self._settings.unavailable_timeout_ms
            offsets = await list_offsets(self._router, self.topic, partitions, appended_at=time, timeout_ms=timeout_ms)
        if self._until == "high_watermark":
            ends: Mapping[int, int] = {p: offsets[p].high_watermark for p in partitions}
        else:
            ends = self._until or {}
        if isinstance(self._start, int):
            return dict.fromkeys(partitions, self._start), ends
        if isinstance(self._start, datetime):
            return {p: _told(offsets[p]) for p in partitions}, ends
        if self._start == "earliest":
            return {p: offsets[p].log_start_offset for p in partitions}, ends
        if self._start == "latest":
            return {p: offsets[p].high_watermark for p in partitions}, ends
        missing = sorted(set(partitions) - set(self._start))
        if missing:
            raise InvalidArgument(f"no start is given for partitions {missing}", field="start")
        return self._start, ends

    def _fetcher(self, partition: int) -> PartitionFetcher:
        fetcher = self._fetchers.get(partition)
        if fetcher is None:
            raise UnknownPartition(f"this consumer does not read partition {partition}", field="partition")
        return fetcher


def _told(offsets: PartitionOffsets) -> int:
    """The offset for the time that was asked for."""
    if offsets.offset_appended_at is None:
        raise Unimplemented("the node that leads the partition is of a version that knows nothing of times")
    return offsets.offset_appended_at
