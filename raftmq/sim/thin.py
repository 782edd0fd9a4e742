"""Thin clients: stubs and nothing else, any node at random. Nothing is tried again, but under a message id.

They reach what the real client avoids: nodes that are behind, leaders that have been deposed and do not know it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from raftmq.client import convert
from raftmq.client.types import Acks, ConsumedRecord, PartitionOffsets, RecordReceipt
from raftmq.errors import OffsetOutOfRange, Outcome, RaftmqError, UnknownTopic
from raftmq.records.batch import decode_records
from raftmq.sim.client import SimChannel
from raftmq.sim.oracle import Partition, Told
from raftmq.sim.workload import Task
from raftmq.v1 import broker_pb2, types_pb2


@dataclass(frozen=True, slots=True)
class ThinPlan:
    """How one thin client behaves. Times in milliseconds."""

    topic: str
    partitions: int
    acks: Acks
    pause_ms: float
    timeout_ms: int


async def call_anybody(task: Task, plan: ThinPlan, channels: Sequence[SimChannel]) -> None:
    """Send, ask and read, until told to stop. Questions go on while a record waits for its answer."""
    client = _ThinClient(task, plan)
    await asyncio.gather(
        _again_and_again(task, plan, channels, (client.send,)),
        _again_and_again(task, plan, channels, (client.ask, client.ask, client.fetch)),
    )


async def call_under_ids(task: Task, plan: ThinPlan, channels: Sequence[SimChannel]) -> None:
    """Send one record after the other, each again and again until it is acknowledged, and some even then."""
    number = 0
    while not task.stopping():
        number += 1
        partition = Partition(plan.topic, task.rng.randrange(plan.partitions))
        await _send_under_id(task, plan, channels, partition, f"{task.name}:{number}")
        await task.rest(task.rng.expovariate(1.0) * plan.pause_ms / 1000)


async def _send_under_id(
    task: Task, plan: ThinPlan, channels: Sequence[SimChannel], partition: Partition, message_id: str
) -> None:
    send = task.oracle.sending(message_id.encode(), partition, plan.acks)
    request = broker_pb2.ProduceRequest(
        topic=partition.topic,
        partition=partition.number,
        records=[types_pb2.Record(value=send.value)],
        acks=plan.acks.value,
        message_id=message_id,
    )
    attempts, worst = 0, None
    while send.told is not Told.OK or task.rng.random() < 0.2:
        attempts += 1
        channel = task.rng.choice(channels)
        try:
            answer = await channel.call(channel.broker.Produce, request, timeout_ms=plan.timeout_ms)
        except RaftmqError as error:
            task.oracle.counts[f"named {error.reason}"] += 1
            worst = error if worst is None or error.outcome is not Outcome.NOT_APPLIED else worst
            if task.stopping():
                break
            await task.rest(task.rng.expovariate(1.0) * plan.pause_ms / 1000)
            continue
        receipt = RecordReceipt(convert.receipt(answer.receipt, latency_us=0, attempts=attempts), 0)
        if send.told is Told.OK:
            assert (receipt.duplicate, receipt.offset) == (True, send.offset), f"{message_id}: {send}, then {receipt}"
        else:
            task.oracle.sent(send, receipt)
    if send.told is not Told.OK:
        assert worst is not None
        task.oracle.unsent(send, worst)


_Work = Callable[[SimChannel, Partition], Awaitable[None]]


async def _again_and_again(task: Task, plan: ThinPlan, channels: Sequence[SimChannel], works: Sequence[_Work]) -> None:
    while not task.stopping():
        channel = task.rng.choice(channels)
        partition = Partition(plan.topic, task.rng.randrange(plan.partitions))
        boot = channel.boot
        try:
            await task.rng.choice(works)(channel, partition)
        except RaftmqError as error:
            # All topics are older than any process but the first, which may still hear of them.
            if boot > 1 and isinstance(error, UnknownTopic):
                raise AssertionError(f"a node that has started {boot} times denies {partition}: {error}") from error
            task.oracle.counts[f"thin {error.reason}"] += 1
        await task.rest(task.rng.expovariate(1.0) * plan.pause_ms / 1000)


class _ThinClient:
    def __init__(self, task: Task, plan: ThinPlan) -> None:
        self._task = task
        self._oracle = task.oracle
        self._plan = plan
        self._number = 0
        self._entry: tuple[Partition, int, int] | None = None
        """Where the last record went."""

    async def send(self, channel: SimChannel, partition: Partition) -> None:
        """One record or several, in calls of their own at the same moment, without a producer id."""
        calls = self._task.rng.choice((1, 1, 2, 5))
        ended = await asyncio.gather(
            *(self._send_one(channel, partition) for _ in range(calls)), return_exceptions=True
        )
        for error in ended:
            if error is not None:
                raise error

    async def _send_one(self, channel: SimChannel, partition: Partition) -> None:
        self._number += 1
        send = self._oracle.sending(f"{self._task.name}:{self._number}".encode(), partition, self._plan.acks)
        request = broker_pb2.ProduceRequest(
            topic=partition.topic,
            partition=partition.number,
            records=[types_pb2.Record(value=send.value)],
            acks=self._plan.acks.value,
            no_forward=self._task.rng.random() < 0.1,
        )
        try:
            answer = await channel.call(channel.broker.Produce, request, timeout_ms=self._plan.timeout_ms)
        except RaftmqError as error:
            self._oracle.unsent(send, error)
        else:
            self._oracle.sent(send, RecordReceipt(convert.receipt(answer.receipt, latency_us=0, attempts=1), 0))
            entry = (partition, answer.receipt.leader_epoch, answer.receipt.log_index)
            self._oracle.counts["entries shared by requests"] += entry == self._entry
            self._entry = entry

    async def ask(self, channel: SimChannel, partition: Partition) -> None:
        """Where does the partition end? Linearizable, whoever is asked."""
        floor = self._oracle.bounds_floor(partition)
        request = broker_pb2.ListOffsetsRequest(topic=partition.topic, partitions=[partition.number])
        answer = await channel.call(channel.broker.ListOffsets, request, timeout_ms=self._plan.timeout_ms)
        self._oracle.bounds(partition, floor, convert.offsets(answer.partitions[0]))

    async def fetch(self, channel: SimChannel, partition: Partition) -> None:
        """Read a little below the end, every other time only from somebody who knows of that end; and from a replica
        that follows, where the number of the offset says so."""
        end = self._oracle.ends.get(partition, 0)
        offset = self._task.rng.randint(max(0, end - 20), end)
        least = end if self._task.rng.random() < 0.5 else 0
        request = broker_pb2.FetchRequest(
            topic=partition.topic,
            partition=partition.number,
            offset=offset,
            max_bytes=500,
            min_offset=least,
            any_replica=offset % 2 == 0,
        )
        try:
            answer = await channel.call(channel.broker.Fetch, request, timeout_ms=self._plan.timeout_ms)
        except OffsetOutOfRange as error:
            if int(error.metadata["log_start_offset"]) > offset:
                self._oracle.out_of_range(partition, offset, error)
                return
            raise AssertionError(f"{partition}: {end} records are acknowledged, offset {offset}: {error}") from error
        bounds = PartitionOffsets(partition.number, answer.log_start_offset, answer.high_watermark, 0)
        self._oracle.bounds(partition, least, bounds)
        for stored in answer.batches:
            for position, record in enumerate(decode_records(stored.header, stored.records)):
                at = stored.base_offset + position
                consumed = ConsumedRecord(partition.topic, partition.number, at, None, record.value, (), None, 0, 0)
                self._oracle.polled(self._task.name, partition, at, consumed)
