"""Consumers that read every partition from the beginning, and questions where the partitions end."""

from __future__ import annotations

import asyncio

from raftmq.chaos.experiment import AskLatest, Consume
from raftmq.chaos.workloads.base import BACK_OFF_S, Load, decode, outcome_of, reason_of
from raftmq.client import ConsumedBatch
from raftmq.errors import RaftmqError

UNAVAILABLE_TIMEOUT_MS = 20_000
LATEST_TIMEOUT_MS = 5_000


def start_consumers(plan: Consume, load: Load, number: int) -> None:
    for i in range(plan.consumers):
        load.start_endless(f"consume-{number}-{i}", _consume(load, f"consumer-{number + 1}.{i + 1}"))


async def _consume(load: Load, name: str) -> None:
    """Session after session, each going on where the one before ended."""
    positions = load.positions[name] = dict.fromkeys(range(load.partitions), 0)
    session = 0
    async with load.client() as client:
        while True:
            session += 1
            try:
                async with client.consumer(
                    load.topic,
                    start=positions,
                    on_trimmed="earliest",
                    max_wait_ms=500,
                    prefetch_bytes=64 * 1024,
                    unavailable_timeout_ms=UNAVAILABLE_TIMEOUT_MS,
                ) as consumer:
                    async for batch in consumer.batches():
                        positions[batch.partition] = batch.next_offset
                        record(load, "poll", batch, client=name, session=session)
            except RaftmqError as error:
                load.recorder.write("died", client=name, error=error.reason, message=error.message)
                await asyncio.sleep(BACK_OFF_S)


def record(load: Load, f: str, batch: ConsumedBatch, **fields: object) -> None:
    """Write a batch that was read; where its offsets have holes, a line for each stretch without."""
    load.recorder.counts[f"{f} ok"] += len(batch.records)
    stretch: list[int] = []
    first = batch.records[0].offset
    for one in batch.records:
        if one.offset != first + len(stretch):
            _write(load, f, batch, first, stretch, fields)
            first, stretch = one.offset, []
        stretch.append(decode(one.value))
    _write(load, f, batch, first, stretch, fields)


def _write(load: Load, f: str, batch: ConsumedBatch, offset: int, values: list[int], fields: dict[str, object]) -> None:
    load.recorder.write(
        f, **fields, partition=load.partition_name(batch.partition), offset=offset,
        epoch=batch.records[0].leader_epoch, values=values,
    )  # fmt: skip


def start_latest(plan: AskLatest, load: Load, number: int) -> None:
    load.start(f"latest-{number}", _ask(plan, load))


async def _ask(plan: AskLatest, load: Load) -> None:
    async with load.client() as client:
        while await load.pause(plan.every_ms / 1000):
            op = load.recorder.invoke("latest")
            try:
                bounds = await client.list_offsets(load.topic, timeout_ms=LATEST_TIMEOUT_MS)
            except RaftmqError as error:
                load.recorder.settle("latest", op, outcome_of(error), error=reason_of(error))
            except asyncio.CancelledError:
                load.recorder.settle("latest", op, "info", error="CANCELLED")
                raise
            else:
                told = {load.partition_name(b.partition): (b.log_start_offset, b.high_watermark) for b in bounds}
                load.recorder.settle("latest", op, "ok", bounds=told)
