"""``raftmq bench latency``: one record after the other."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

import raftmq
from raftmq.cli.bench import figures
from raftmq.cli.bench.chart import Line, Panel
from raftmq.cli.bench.common import (
    DIRECTORY,
    AcksOption,
    ChartOption,
    ClusterOption,
    DirectoryOption,
    SecondsOption,
    Setup,
    SizeOption,
    run_benchmark,
)
from raftmq.cli.bench.figures import Sample
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.result import Figure, Latency, Result
from raftmq.cli.bench.stage import Stage, counted
from raftmq.cli.bench.usage import watching
from raftmq.cli.bench.workers import Signals, run_all, working
from raftmq.cli.produce import AcksName
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import Acks


@dataclass(slots=True)
class Answered:
    """Latencies in seconds, one per record; what the leader says of its part of each."""

    began: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)
    sync: list[float] = field(default_factory=list)
    replication: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OneByOne:
    """The load: the next record leaves when the last one is acknowledged."""

    addresses: str
    topic: str
    size: int
    acks: Acks
    seconds: float

    async def run(self, signals: Signals) -> Answered:
        answered = Answered()
        value = os.urandom(self.size)
        async with (
            raftmq.connect(self.addresses) as client,
            client.producer(self.topic, acks=self.acks, linger_ms=0) as producer,
        ):
            await signals.started()
            answered.began = now = time.monotonic()
            while now - answered.began < self.seconds:
                receipt = await producer.send(value, partition=0)
                before, now = now, time.monotonic()
                answered.samples.append(Sample(0, now, now - before, 1))
                answered.queue.append(receipt.batch.queue_us / 1e6)
                answered.sync.append(receipt.batch.sync_us / 1e6)
                answered.replication.append(receipt.batch.replication_us / 1e6)
        return answered


def latency(
    cluster: ClusterOption = False,
    seconds: SecondsOption = 10,
    size: SizeOption = 100,
    acks: AcksOption = AcksName.ALL,
    chart: ChartOption = None,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """One record in flight: the time from handing it in to its receipt."""
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json, chart),
        lambda stage, floors: measure(stage, floors, size, Acks[acks.name], seconds),
    )


async def measure(stage: Stage, floors: Floors, size: int, acks: Acks, seconds: float) -> Result:
    topic = await stage.create_topic("latency", 1)
    load = OneByOne(stage.addresses, topic.name, size, acks, seconds)
    async with (
        working([load]) as workers,
        watching({**stage.processes, "producer": workers[0].pid}) as watch,
    ):
        (answered,) = await run_all(workers)
    check = await counted(stage, topic.name, len(answered.samples), 0)
    await stage.drop_topic(topic.name)
    median, tail = figures.latency_over_time(answered.samples, answered.began)
    return Result(
        benchmark="latency",
        setting=f"{seconds:g} s, {size:,} B, acks={acks.name.lower()}, one record in flight",
        figures=(Figure("acknowledged", figures.rate(answered.samples, answered.began), "records/s"),),
        latencies=(
            Latency("acknowledgement", figures.spread(answered.samples), floors.durable_call),
            Latency("of it in the leader's queue", figures.spread_of(answered.queue)),
            Latency("of it until the leader's sync", figures.spread_of(answered.sync)),
            Latency("of it until the others have it", figures.spread_of(answered.replication)),
        ),
        usage=watch.usage(),
        checks=(check,),
        panels=(Panel("time to acknowledgement", "ms", (Line("p50", median), Line("p99", tail))),),
        payload_bytes=len(answered.samples) * size,
    )
