"""``raftmq bench calls``: single records, as a thin client of bare stubs sends them, in unary calls or on a stream; or
handed in by as many callers of the Python client, which packs them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import grpc.aio
import typer

import raftmq
from raftmq.cli.bench import echo, figures, produce
from raftmq.cli.bench.common import (
    DIRECTORY,
    AcksOption,
    ChartOption,
    ClusterOption,
    DirectoryOption,
    PartitionsOption,
    SecondsOption,
    Setup,
    SizeOption,
    run_benchmark,
)
from raftmq.cli.bench.figures import Sample
from raftmq.cli.bench.floor import MANY, Floors
from raftmq.cli.bench.producing import Produced, plural, together
from raftmq.cli.bench.result import Figure, Latency, Result
from raftmq.cli.bench.stage import Stage
from raftmq.cli.bench.usage import watching
from raftmq.cli.bench.workers import Signals, run_all, working
from raftmq.cli.exits import CommandError
from raftmq.cli.produce import AcksName
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import Acks, TopicDescription
from raftmq.v1 import broker_pb2, broker_pb2_grpc, types_pb2

DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class CallsSetting:
    """What the person at the command line chose."""

    seconds: float
    size: int = 100
    acks: Acks = Acks.ALL
    partitions: int = 1
    concurrency: int = MANY
    producers: int = 1
    stream: bool = False
    packed: bool = False

    def __str__(self) -> str:
        return (
            f"{self.seconds:g} s, {self.size:,} B, acks={self.acks.name.lower()}, "
            f"{plural(self.partitions, 'partition')}, {plural(self.producers, 'producer')}, "
            f"{self.concurrency} in flight {self._way}, straight at the leader"
        )

    @property
    def name(self) -> str:
        if self.packed:
            return "calls, packed on a stream"
        return "calls on a stream" if self.stream else "calls"

    @property
    def _way(self) -> str:
        if self.packed:
            return "from as many callers of the client, which packs what they hand in into messages of ProduceStream"
        return "on ProduceStream, a record a message, results joined" if self.stream else "in unary calls"


@dataclass(frozen=True, slots=True)
class Calls:
    """The load: so many callers, each with one record under way, straight at the partitions' leaders."""

    topic: str
    leaders: Mapping[int, str]
    """Partition -> address of its leader."""
    size: int
    acks: Acks
    concurrency: int
    seconds: float
    stream: bool

    async def run(self, signals: Signals) -> Produced:
        produced = Produced()
        channels = {
            address: grpc.aio.insecure_channel(address, options=echo.OPTIONS) for address in set(self.leaders.values())
        }
        await asyncio.gather(*(channel.channel_ready() for channel in channels.values()))
        targets = [
            (partition, broker_pb2_grpc.BrokerStub(channels[address]))
            for partition, address in sorted(self.leaders.items())
        ]
        await signals.started()
        produced.began = time.monotonic()
        if self.stream:
            window = max(self.concurrency // len(targets), 1)
            await asyncio.gather(*(self._stream(*target, produced, window) for target in targets))
        else:
            callers = (self._call(*targets[place % len(targets)], produced) for place in range(self.concurrency))
            await asyncio.gather(*callers)
        for channel in channels.values():
            await channel.close(grace=None)
        return produced

    async def _call(self, partition: int, broker: broker_pb2_grpc.BrokerAsyncStub, produced: Produced) -> None:
        value = os.urandom(self.size)
        while (began := time.monotonic()) - produced.began < self.seconds:
            try:
                await broker.Produce(self._request(partition, value), timeout=DEADLINE_SECONDS)
            except grpc.aio.AioRpcError as error:
                produced.failures[error.code().name] += 1
                produced.unknown += 1
                continue
            _note(produced, partition, began)

    async def _stream(
        self, partition: int, broker: broker_pb2_grpc.BrokerAsyncStub, produced: Produced, window: int
    ) -> None:
        """One stream, on which the results may come in any order; the correlation id is the time of sending."""
        room = asyncio.Semaphore(window)

        async def requests() -> AsyncIterator[broker_pb2.ProduceStreamRequest]:
            value = os.urandom(self.size)
            while time.monotonic() - produced.began < self.seconds:
                await room.acquire()
                request = self._request(partition, value)
                yield broker_pb2.ProduceStreamRequest(
                    correlation_id=time.monotonic_ns(), produce=request, join_results=True
                )

        async for message in broker.ProduceStream(requests()):
            for answer in (message, *message.more):
                room.release()
                self._noted(partition, answer, produced)

    @staticmethod
    def _noted(partition: int, answer: broker_pb2.ProduceStreamResponse, produced: Produced) -> None:
        if answer.HasField("response"):
            _note(produced, partition, answer.correlation_id / 1e9)
        else:
            produced.failures[answer.error.reason] += 1
            produced.unknown += 1

    def _request(self, partition: int, value: bytes) -> broker_pb2.ProduceRequest:
        return broker_pb2.ProduceRequest(
            topic=self.topic,
            partition=partition,
            records=[types_pb2.Record(value=value)],
            acks=self.acks.value,
            no_forward=True,
        )


@dataclass(frozen=True, slots=True)
class Callers:
    """The load: so many callers of one producer of the Python client, each with one record under way. While a batch is
    under way the producer gathers what they hand in; what it has gathered is the next batch, and one message."""

    addresses: str
    topic: str
    partitions: int
    size: int
    acks: Acks
    concurrency: int
    seconds: float

    async def run(self, signals: Signals) -> Produced:
        produced = Produced()
        async with (
            raftmq.connect(self.addresses) as client,
            client.producer(self.topic, acks=self.acks, stream=True) as producer,
        ):
            await signals.started()
            produced.began = time.monotonic()
            places = range(self.concurrency)
            await asyncio.gather(*(self._call(producer, place % self.partitions, produced) for place in places))
        return produced

    async def _call(self, producer: raftmq.Producer, partition: int, produced: Produced) -> None:
        value = os.urandom(self.size)
        while (began := time.monotonic()) - produced.began < self.seconds:
            try:
                receipt = await producer.send(value, partition=partition)
            except raftmq.RaftmqError as error:
                produced.fail(error, 1)
                continue
            produced.messages += receipt.position == 0
            _note(produced, partition, began)


def _note(produced: Produced, partition: int, began: float) -> None:
    now = time.monotonic()
    produced.acknowledged += 1
    produced.samples.append(Sample(partition, now, now - began, 1))


def calls(
    cluster: ClusterOption = False,
    seconds: SecondsOption = 10,
    size: SizeOption = 100,
    acks: AcksOption = AcksName.ALL,
    partitions: PartitionsOption = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls under way from each producer.")] = MANY,
    producers: Annotated[int, typer.Option(min=1, help="Processes that call.")] = 1,
    stream: Annotated[bool, typer.Option("--stream", help="On ProduceStream instead of in unary calls.")] = False,
    packed: Annotated[
        bool,
        typer.Option(
            "--packed", help="By callers of the Python client, which packs what they hand in on ProduceStream."
        ),
    ] = False,
    chart: ChartOption = None,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Single records, straight at the leader: one in each call, which is what a thin client gets, or packed."""
    setting = CallsSetting(seconds, size, Acks[acks.name], partitions, concurrency, producers, stream, packed)
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json, chart),
        lambda stage, floors: measure(stage, floors, setting),
    )


async def _load(stage: Stage, topic: TopicDescription, setting: CallsSetting) -> Calls | Callers:
    if setting.packed:
        return Callers(
            stage.addresses, topic.name, setting.partitions, setting.size, setting.acks, setting.concurrency,
            setting.seconds,
        )  # fmt: skip
    leaders = await stage.leaders(topic)
    return Calls(
        topic.name, leaders, setting.size, setting.acks, setting.concurrency, setting.seconds, setting.stream
    )  # fmt: skip


async def measure(stage: Stage, floors: Floors, setting: CallsSetting) -> Result:
    topic = await stage.create_topic("calls", setting.partitions)
    load = await _load(stage, topic, setting)
    async with working([load] * setting.producers) as workers:
        clients = {f"caller {place}": worker.pid for place, worker in enumerate(workers, 1)}
        async with watching({**stage.processes, **clients}) as watch:
            produced = together(await run_all(workers))
    if not produced.samples:
        raise CommandError(f"nothing was acknowledged; errors: {dict(produced.failures)}")
    checks = await produce.checked(stage, topic.name, produced)
    await stage.drop_topic(topic.name)
    packs = [Figure("packed", produced.acknowledged / produced.messages, "records a message")] if setting.packed else []
    floor = floors.stream if setting.stream or setting.packed else floors.calls
    return Result(
        benchmark=setting.name,
        setting=str(setting),
        figures=(Figure("acknowledged", figures.rate(produced.samples, produced.began), "records/s", floor), *packs),
        latencies=(Latency("acknowledgement", figures.spread(produced.samples)),),
        usage=watch.usage(),
        checks=checks,
        panels=produce.panels(produced),
        payload_bytes=produced.acknowledged * setting.size,
    )
