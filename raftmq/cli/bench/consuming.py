"""The load of a consumer: reads partitions to given ends, and notes when each batch came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import raftmq
from raftmq.cli.bench.figures import Sample
from raftmq.cli.bench.producing import STAMP
from raftmq.cli.bench.workers import Signals
from raftmq.client import Consumer


@dataclass(slots=True)
class Consumed:
    began: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    """One per stored batch; its latency is from the stamp of its first record to here."""
    records: int = 0


@dataclass(frozen=True, slots=True)
class Consume:
    """Read from given offsets on. The client itself raises where a record is missing or comes twice."""

    addresses: str
    topic: str
    starts: Mapping[int, int]
    """Partition -> offset of the first record to read."""
    ends: Mapping[int, int] | None = None
    """Exclusive. None: they come with the word to end, and whoever reads waits for more until then."""

    async def run(self, signals: Signals) -> Consumed:
        consumed = Consumed()
        async with raftmq.connect(self.addresses) as client:
            await signals.started()
            consumed.began = time.monotonic()
            consumer = client.consumer(self.topic, start=self.starts, partitions=sorted(self.starts), until=self.ends)
            async with consumer:
                reading = asyncio.ensure_future(_read(consumer, consumed))
                if self.ends is None:
                    await _until_told(reading, signals, consumed, sum(self.starts.values()))
                else:
                    await reading
        return consumed


async def _read(consumer: Consumer, consumed: Consumed) -> None:
    async for batch in consumer.batches():
        now = time.monotonic()
        (stamp,) = STAMP.unpack_from(batch.records[0].value or b"")
        consumed.records += len(batch.records)
        consumed.samples.append(Sample(batch.partition, now, now - stamp / 1e9, len(batch.records)))


async def _until_told(reading: asyncio.Task[None], signals: Signals, consumed: Consumed, already: int) -> None:
    """Returns when all records below the ends that came with the word are read. Raises what `reading` raises."""
    told = asyncio.ensure_future(signals.ending.wait())
    await asyncio.wait((reading, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    while not reading.done():
        if consumed.records >= sum(signals.payload.values()) - already:
            reading.cancel()
            await asyncio.wait((reading,))
            return
        await asyncio.wait((reading,), timeout=0.01)
    await reading
