"""The load of a producer: so many batches of each partition under way, all the time."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import raftmq
from raftmq.cli.bench.figures import Sample
from raftmq.cli.bench.workers import Signals
from raftmq.client import Acks, BatchReceipt, NewRecord, Producer, RecordReceipt, TopicDescription
from raftmq.errors import Outcome, RaftmqError

STAMP = struct.Struct("!q")
"""How a record begins: nanoseconds of CLOCK_MONOTONIC when it was handed in."""
SIZE_MIN = STAMP.size
VARIANTS = 16
"""Different contents in turn, so that nothing along the way can profit from seeing one again."""
IN_FLIGHT_MAX = 64
"""Batches under way over all partitions of one producer: with a thousand partitions they take turns."""
BUFFER_BYTES = 256 * 1024 * 1024
"""The depth of the loop bounds what waits; the client's buffer is not to do it as well."""


@dataclass(slots=True)
class Produced:
    """What became of the records. Times of CLOCK_MONOTONIC in seconds."""

    began: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    """One per acknowledged batch."""
    acknowledged: int = 0
    unknown: int = 0
    """Records that failed and may be there all the same."""
    failures: Counter[str] = field(default_factory=Counter)
    """Reason of the error -> records."""
    messages: int = 0
    """In which the acknowledged records travelled, where that was up to the client."""

    def fail(self, error: BaseException | None, records: int) -> None:
        assert isinstance(error, RaftmqError), error
        self.failures[error.reason] += records
        if error.outcome is not Outcome.NOT_APPLIED:
            self.unknown += records


@dataclass(frozen=True, slots=True)
class Produce:
    """Produce to some partitions of a topic for a time, or a number of records, or until told to end."""

    addresses: str
    topic: str
    partitions: Sequence[int]
    size: int
    """Bytes of a record's value, at least `SIZE_MIN`."""
    batch: int
    """Records handed in at once; 0: one by one, and the client makes the batches."""
    in_flight: int
    """Batches of a partition under way; with `batch` 0, the client's own number of them."""
    acks: Acks = Acks.ALL
    seconds: float | None = None
    records: int | None = None
    pause_seconds: float = 0.0
    """Between two batches of a partition, for a load that is light on purpose."""

    async def run(self, signals: Signals) -> Produced:
        async with raftmq.connect(self.addresses) as client:
            producer = client.producer(
                self.topic, acks=self.acks, buffer_bytes=BUFFER_BYTES, max_in_flight=self._client_window()
            )
            async with producer:
                feeding = _Feeding(self, producer, signals)
                await signals.started()
                await feeding.feed_all()
        return feeding.produced

    def _client_window(self) -> int | None:
        """Without idempotence the client sends one after the other, lest a retry change the order."""
        return self.in_flight if self.acks in (Acks.ALL, Acks.QUORUM) else None


@dataclass(frozen=True, slots=True)
class Setting:
    """What the person at the command line chose."""

    partitions: int
    producers: int
    size: int
    batch: int
    in_flight: int
    acks: Acks
    seconds: float | None
    records: int | None
    """Of all producers together. None: as many as fit into `seconds`."""

    def __str__(self) -> str:
        how_long = f"{self.records:,} records" if self.records is not None else f"{self.seconds:g} s"
        batches = f"batches of {self.batch:,}, {self.in_flight} a partition in flight" if self.batch else "one by one"
        return (
            f"{how_long}, {self.size:,} B, acks={self.acks.name.lower()}, {plural(self.partitions, 'partition')}, "
            f"{plural(self.producers, 'producer')}, {batches}"
        )

    def loads(self, addresses: str, topic: TopicDescription) -> list[Produce]:
        """One for each producer. The partitions are dealt out; where there are fewer, producers share some."""
        numbers = [partition.partition for partition in topic.partitions]
        loads = []
        for place in range(self.producers):
            records = None if self.records is None else _share(self.records, place, self.producers)
            loads.append(
                Produce(
                    addresses=addresses,
                    topic=topic.name,
                    partitions=numbers[place :: self.producers] or [numbers[place % len(numbers)]],
                    size=self.size,
                    batch=self.batch,
                    in_flight=self.in_flight,
                    acks=self.acks,
                    seconds=self.seconds if self.records is None else None,
                    records=records,
                )
            )
        return loads


def together(outcomes: Sequence[Produced]) -> Produced:
    """What all producers did, from the first that began."""
    return Produced(
        began=min(outcome.began for outcome in outcomes),
        samples=[sample for outcome in outcomes for sample in outcome.samples],
        acknowledged=sum(outcome.acknowledged for outcome in outcomes),
        unknown=sum(outcome.unknown for outcome in outcomes),
        failures=sum((outcome.failures for outcome in outcomes), Counter()),
        messages=sum(outcome.messages for outcome in outcomes),
    )


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _share(total: int, place: int, shares: int) -> int:
    return total // shares + (place < total % shares)


class _Feeding:
    def __init__(self, plan: Produce, producer: Producer, signals: Signals) -> None:
        self.produced = Produced()
        self._plan = plan
        self._producer = producer
        self._signals = signals
        self._left = plan.records
        self._last_batch: BatchReceipt | None = None
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        per_batch = max(plan.batch, 1)
        fill = plan.size - STAMP.size
        self._heads = [os.urandom(fill) for _ in range(VARIANTS)]
        self._tails = [[NewRecord(os.urandom(plan.size)) for _ in range(per_batch - 1)] for _ in range(VARIANTS)]

    async def feed_all(self) -> None:
        self.produced.began = time.monotonic()
        feed = self._feed_batches if self._plan.batch else self._feed_records
        await asyncio.gather(*(feed(partition) for partition in self._plan.partitions))
        await self._producer.flush()
        await asyncio.sleep(0)  # receipts settle in callbacks, which come one turn of the loop later

    def _take(self, wanted: int) -> int:
        """How many records may be sent now; 0: it is over."""
        plan = self._plan
        over = plan.seconds is not None and time.monotonic() - self.produced.began >= plan.seconds
        if over or self._signals.ending.is_set():
            return 0
        if self._left is None:
            return wanted
        taken = min(wanted, self._left)
        self._left -= taken
        return taken

    async def _feed_batches(self, partition: int) -> None:
        room = asyncio.Semaphore(self._plan.in_flight)
        turn = partition
        while True:
            await room.acquire()
            await self._room.acquire()
            count = self._take(self._plan.batch)
            if not count:
                self._room.release()
                return
            turn += 1
            handed_in = time.monotonic_ns()
            head = NewRecord(STAMP.pack(handed_in) + self._heads[turn % VARIANTS])
            records = [head, *self._tails[turn % VARIANTS][: count - 1]]
            future = await self._producer.enqueue_batch(records, partition)
            future.add_done_callback(partial(self._batch_settled, partition, count, handed_in / 1e9, room))
            if self._plan.pause_seconds:
                await asyncio.sleep(self._plan.pause_seconds)

    def _batch_settled(
        self,
        partition: int,
        count: int,
        handed_in: float,
        room: asyncio.Semaphore,
        future: asyncio.Future[BatchReceipt],
    ) -> None:
        room.release()
        self._room.release()
        if future.cancelled() or future.exception() is not None:
            self.produced.fail(None if future.cancelled() else future.exception(), count)
            return
        now = time.monotonic()
        self.produced.acknowledged += count
        self.produced.samples.append(Sample(partition, now, now - handed_in, count))

    async def _feed_records(self, partition: int) -> None:
        turn = partition
        while self._take(1):
            turn += 1
            value = STAMP.pack(time.monotonic_ns()) + self._heads[turn % VARIANTS]
            future = await self._producer.enqueue(value, partition=partition)
            future.add_done_callback(self._record_settled)
            if turn % 64 == 0:
                await asyncio.sleep(self._plan.pause_seconds)

    def _record_settled(self, future: asyncio.Future[RecordReceipt]) -> None:
        if future.cancelled() or future.exception() is not None:
            self.produced.fail(None if future.cancelled() else future.exception(), 1)
            return
        self.produced.acknowledged += 1
        batch = future.result().batch
        if batch is not self._last_batch:
            self._last_batch = batch
            now = time.monotonic()
            self.produced.samples.append(Sample(batch.partition, now, batch.latency_us / 1e6, batch.count))
