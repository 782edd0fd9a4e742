"""Reads one partition in order, ahead of its consumer by a bounded number of bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from raftmq.client.retry import may_retry_read
from raftmq.client.router import Router
from raftmq.client.types import ConsumedBatch, ConsumedRecord, Isolation
from raftmq.errors import (
    CorruptBatch,
    DataLoss,
    InternalError,
    OffsetOutOfRange,
    Outcome,
    RaftmqError,
    UnknownPartition,
    UnknownTopic,
)
from raftmq.records.batch import FLAG_CONTROL, decode_records
from raftmq.records.entry import crc32c
from raftmq.v1 import broker_pb2, types_pb2

ANSWER_MARGIN_MS = 5_000
"""How much longer than the long poll itself an answer may take."""


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """See `Client.consumer`. Sizes in bytes, times in milliseconds."""

    max_bytes: int
    max_wait_ms: int
    isolation: Isolation
    prefetch_bytes: int
    unavailable_timeout_ms: int
    skip_trimmed: bool
    rack: str = ""
    """Read from a replica in this rack where one is in sync; empty: from the leader."""


class PartitionFetcher:
    """Fetches from one offset on, until `end` if there is one. `start` before use."""

    def __init__(
        self,
        topic: str,
        partition: int,
        router: Router,
        settings: FetchSettings,
        *,
        start: int,
        end: int | None,
        on_change: Callable[[], None],
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.position = start
        """Offset of the next record that the consumer gets."""
        self.trimmed = 0
        """Offsets skipped because they were gone, where the consumer chose that."""
        self.error: RaftmqError | None = None
        self._router = router
        self._settings = settings
        self._fetch_offset = start
        # Invariant: position <= _fetch_offset; the records between them are in _ready.
        self._end = end
        self._ready: deque[tuple[ConsumedBatch, int]] = deque()
        self._ready_bytes = 0
        self._room = asyncio.Event()
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None

    @property
    def finished(self) -> bool:
        """Everything up to the end has been fetched and taken."""
        return self._end is not None and self._fetch_offset >= self._end and not self._ready

    def take(self) -> ConsumedBatch | None:
        """The next batch if one is here. Raises what ended the fetching once everything before it has been taken."""
        if self._ready:
            batch, size = self._ready.popleft()
            self._ready_bytes -= size
            self._room.set()
            return batch
        if self.error is not None:
            raise self.error
        return None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"raftmq-consumer-{self.topic}-{self.partition}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._end is None or self._fetch_offset < self._end:
                while self._ready_bytes >= self._settings.prefetch_bytes:
                    self._room.clear()
                    await self._room.wait()
                answer = await self._fetch()
                self._accept(answer)
        except RaftmqError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a bug here must reach the consumer, who would wait forever
            self.error = InternalError(f"the consumer failed: {error!r}")
            self.error.__cause__ = error
        self._on_change()

    async def _fetch(self) -> broker_pb2.FetchResponse:
        try:
            return await self._router.policy.call(
                self._fetch_once, self._may_retry, timeout_ms=self._settings.unavailable_timeout_ms
            )
        except OffsetOutOfRange as error:
            return self._after_trim(error)

    async def _fetch_once(self) -> broker_pb2.FetchResponse:
        request = broker_pb2.FetchRequest(
            topic=self.topic,
            partition=self.partition,
            offset=self._fetch_offset,
            max_bytes=self._settings.max_bytes,
            isolation=self._settings.isolation.value,
            any_replica=bool(self._settings.rack),
        )
        request.max_wait.FromMilliseconds(self._settings.max_wait_ms)
        return await self._router.to_partition(
            self.topic,
            self.partition,
            lambda node: node.broker.Fetch,
            request,
            timeout_ms=self._settings.max_wait_ms + ANSWER_MARGIN_MS,
            rack=self._settings.rack,
        )

    def _may_retry(self, error: RaftmqError) -> bool:
        if isinstance(error, (UnknownTopic, UnknownPartition)):
            # Said by a node that is behind, unless a fresh picture of the cluster says the same.
            return self.topic in self._router.metadata.image.topics
        return may_retry_read(error)

    def _after_trim(self, error: OffsetOutOfRange) -> broker_pb2.FetchResponse:
        """Go on at the log's start where the consumer chose so and the offset lies below it; else raise."""
        start = error.metadata.get("log_start_offset", "")
        if not (self._settings.skip_trimmed and start.isdecimal() and self._fetch_offset < int(start)):
            raise error
        self.trimmed += int(start) - self._fetch_offset
        self._fetch_offset = int(start)
        if not self._ready:
            self.position = self._fetch_offset
        return broker_pb2.FetchResponse(next_offset=self._fetch_offset)

    def _accept(self, answer: broker_pb2.FetchResponse) -> None:
        for stored in answer.batches:
            batch = self._decode(stored, answer.high_watermark)
            if batch is not None:
                self._ready.append((batch, len(stored.records)))
                self._ready_bytes += len(stored.records)
        if answer.next_offset != self._fetch_offset:
            raise DataLoss(
                f"{self._name}: the answer ends at offset {self._fetch_offset} but says to go on at "
                f"{answer.next_offset}",
                outcome=Outcome.NOT_APPLIED,
            )
        self._on_change()

    def _decode(self, stored: types_pb2.StoredBatch, high_watermark: int) -> ConsumedBatch | None:
        """The batch from the wanted offset on, checked: right bytes, no hole before it. None: none of it is wanted."""
        header = stored.header
        if crc32c(stored.records) != header.crc32c:
            raise CorruptBatch(f"{self._name}: the batch at offset {stored.base_offset} fails its checksum")
        if stored.base_offset > self._fetch_offset:
            raise DataLoss(
                f"{self._name}: expected offset {self._fetch_offset}, the next batch begins at {stored.base_offset}",
                outcome=Outcome.NOT_APPLIED,
            )
        records = self._records(stored)
        next_offset = stored.base_offset + header.count
        if records:
            next_offset = max(next_offset, records[-1].offset + 1)
        low, high = self._fetch_offset, next_offset if self._end is None else min(next_offset, self._end)
        self._fetch_offset = max(low, next_offset)
        if header.flags & FLAG_CONTROL:
            return None
        wanted = tuple(record for record in records if low <= record.offset < high)
        if not wanted:
            return None
        return ConsumedBatch(self.topic, self.partition, wanted, high, high_watermark)

    def _records(self, stored: types_pb2.StoredBatch) -> list[ConsumedRecord]:
        topic, partition, base = self.topic, self.partition, stored.base_offset
        append_time_ms, leader_epoch = stored.append_time_ms, stored.leader_epoch
        return [
            ConsumedRecord(
                topic,
                partition,
                base + (record.offset_delta if record.HasField("offset_delta") else position),
                record.key if record.HasField("key") else None,
                record.value if record.HasField("value") else None,
                tuple((h.name, h.value) for h in record.headers) if record.headers else (),
                record.timestamp_ms or None,
                append_time_ms,
                leader_epoch,
            )
            for position, record in enumerate(decode_records(stored.header, stored.records))
        ]

    @property
    def _name(self) -> str:
        return f"{self.topic}/{self.partition}"
