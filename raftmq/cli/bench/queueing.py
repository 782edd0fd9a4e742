"""The loads of queues and of committed offsets: bare stubs, straight at the leaders, as a thin client sends them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc.aio

from raftmq.cli.bench import echo
from raftmq.cli.bench.figures import Sample
from raftmq.cli.bench.workers import Signals
from raftmq.v1 import broker_pb2, broker_pb2_grpc, groups_pb2, groups_pb2_grpc, queue_pb2, queue_pb2_grpc, types_pb2

DEADLINE_SECONDS = 30.0
WAIT_MS = 250
"""How long a call waits at a partition that has nothing, before its worker tries the next."""
BYTES_MAX = 4 * 1024 * 1024
PARTITION_SHIFT = 48


@dataclass(slots=True)
class Taken:
    """What workers were given, and what was acknowledged of it. Times of CLOCK_MONOTONIC in seconds."""

    began: float = 0.0
    received: list[Sample] = field(default_factory=list)
    """One per answer that had messages; its latency is that of the call."""
    settled: list[Sample] = field(default_factory=list)
    """One per answered Ack."""
    different: int = 0
    """Messages received, each counted once however often it came."""
    unknown: int = 0
    """Messages whose Ack failed, and may have been taken all the same."""
    failures: Counter[str] = field(default_factory=Counter)
    """Status or reason of an error -> messages, or calls that would have brought some."""

    @property
    def messages(self) -> int:
        return sum(sample.records for sample in self.received)

    @property
    def acknowledged(self) -> int:
        return sum(sample.records for sample in self.settled)


@dataclass(frozen=True, slots=True)
class Take:
    """So many workers, each with one call under way: Receive, and Ack of what came, unless it is to be held.

    A worker goes on to the next partition where one has nothing. All end with the time, or when `expected` messages
    have come.
    """

    topic: str
    group: str
    leaders: Mapping[int, str]
    """Partition -> address of its leader."""
    workers: int
    batch: int
    expected: int
    seconds: float
    lease_ms: int
    acknowledge: bool = True

    async def run(self, signals: Signals) -> Taken:
        return await _Taking(self).run(signals)


class _Taking:
    def __init__(self, plan: Take) -> None:
        self._plan = plan
        self._taken = Taken()
        self._seen: set[int] = set()

    async def run(self, signals: Signals) -> Taken:
        channels = await _channels(self._plan.leaders)
        stubs = [
            (partition, queue_pb2_grpc.QueueStub(channels[address]))
            for partition, address in sorted(self._plan.leaders.items())
        ]
        await signals.started()
        self._taken.began = time.monotonic()
        await asyncio.gather(*(self._work(stubs, place) for place in range(self._plan.workers)))
        await _close(channels)
        self._taken.different = len(self._seen)
        return self._taken

    async def _work(self, stubs: list[tuple[int, queue_pb2_grpc.QueueAsyncStub]], place: int) -> None:
        turn = place
        while self._goes_on():
            partition, queue = stubs[turn % len(stubs)]
            tokens = await self._receive(partition, queue, place)
            if not tokens:
                turn += 1
            elif self._plan.acknowledge:
                await self._ack(partition, queue, tokens)

    def _goes_on(self) -> bool:
        over = time.monotonic() - self._taken.began >= self._plan.seconds
        return not over and len(self._seen) < self._plan.expected

    async def _receive(self, partition: int, queue: queue_pb2_grpc.QueueAsyncStub, place: int) -> list[bytes]:
        request = queue_pb2.ReceiveRequest(
            topic=self._plan.topic,
            group=self._plan.group,
            partition=partition,
            max_messages=self._plan.batch,
            max_bytes=BYTES_MAX,
            worker=f"worker {place}",
            no_forward=True,
        )
        request.lease.FromMilliseconds(self._plan.lease_ms)
        request.max_wait.FromMilliseconds(WAIT_MS)
        began = time.monotonic()
        try:
            answer = await queue.Receive(request, timeout=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._taken.failures[error.code().name] += 1
            return []
        now = time.monotonic()
        if answer.messages:
            self._taken.received.append(Sample(partition, now, now - began, len(answer.messages)))
        self._seen.update(partition << PARTITION_SHIFT | message.offset for message in answer.messages)
        return [message.token for message in answer.messages]

    async def _ack(self, partition: int, queue: queue_pb2_grpc.QueueAsyncStub, tokens: list[bytes]) -> None:
        request = queue_pb2.AckRequest(topic=self._plan.topic, group=self._plan.group, tokens=tokens)
        began = time.monotonic()
        try:
            answer = await queue.Ack(request, timeout=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._taken.failures[error.code().name] += len(tokens)
            self._taken.unknown += len(tokens)
            return
        now = time.monotonic()
        self._taken.failures.update(failure.error.reason for failure in answer.failures)
        self._taken.settled.append(Sample(partition, now, now - began, len(tokens) - len(answer.failures)))


@dataclass(slots=True)
class Committed:
    """Latencies in seconds of the two calls, in turns."""

    produced: list[float] = field(default_factory=list)
    committed: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProduceAndCommit:
    """One record is produced, then one offset is committed, and so on: both meet the same machine."""

    topic: str
    group: str
    leader: str
    """Address of the leader of partition 0."""
    coordinator: str
    size: int
    seconds: float

    async def run(self, signals: Signals) -> Committed:
        """Raises AioRpcError."""
        outcome = Committed()
        channels = await _channels({0: self.leader, 1: self.coordinator})
        broker = broker_pb2_grpc.BrokerStub(channels[self.leader])
        groups = groups_pb2_grpc.GroupsStub(channels[self.coordinator])
        request = broker_pb2.ProduceRequest(
            topic=self.topic,
            partition=0,
            records=[types_pb2.Record(value=bytes(self.size))],
            acks=types_pb2.ACKS_ALL,
            no_forward=True,
        )
        await signals.started()
        began = now = time.monotonic()
        while now - began < self.seconds:
            await broker.Produce(request, timeout=DEADLINE_SECONDS)
            before, now = now, time.monotonic()
            outcome.produced.append(now - before)
            await groups.CommitOffsets(commit(self.group, self.topic, len(outcome.produced)), timeout=DEADLINE_SECONDS)
            before, now = now, time.monotonic()
            outcome.committed.append(now - before)
        await _close(channels)
        return outcome


def commit(group: str, topic: str, offset: int) -> groups_pb2.CommitOffsetsRequest:
    """Of partition 0, by somebody outside of the group's membership."""
    position = groups_pb2.OffsetToCommit(topic=topic, partition=0, offset=offset)
    return groups_pb2.CommitOffsetsRequest(group=group, offsets=[position])


async def _channels(addresses: Mapping[int, str]) -> dict[str, grpc.aio.Channel]:
    """All connected, by address."""
    channels = {
        address: grpc.aio.insecure_channel(address, options=echo.OPTIONS) for address in sorted(set(addresses.values()))
    }
    await asyncio.gather(*(channel.channel_ready() for channel in channels.values()))
    return channels


async def _close(channels: Mapping[str, grpc.aio.Channel]) -> None:
    for channel in channels.values():
        await channel.close(grace=None)
