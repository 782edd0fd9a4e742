"""``raftmq bench end-to-end``: produce, with consumers reading along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from raftmq.cli.bench import figures, produce
from raftmq.cli.bench.chart import Line, Panel
from raftmq.cli.bench.common import (
    DIRECTORY,
    AcksOption,
    BatchOption,
    ChartOption,
    ClusterOption,
    DirectoryOption,
    InFlightOption,
    PartitionsOption,
    ProducersOption,
    RecordsOption,
    SecondsOption,
    Setup,
    SizeOption,
    run_benchmark,
)
from raftmq.cli.bench.consuming import Consume, Consumed
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.producing import Produced, Setting, plural
from raftmq.cli.bench.result import Check, Figure, Latency, Result
from raftmq.cli.bench.stage import Stage
from raftmq.cli.bench.usage import Usage
from raftmq.cli.bench.workers import working
from raftmq.cli.produce import AcksName
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import Acks


def end_to_end(
    cluster: ClusterOption = False,
    seconds: SecondsOption = 20,
    records: RecordsOption = None,
    size: SizeOption = 100,
    acks: AcksOption = AcksName.ALL,
    partitions: PartitionsOption = 3,
    producers: ProducersOption = 1,
    consumers: Annotated[int, typer.Option(min=1, help="Processes that each read the whole topic.")] = 1,
    batch: BatchOption = 1000,
    in_flight: InFlightOption = 8,
    chart: ChartOption = None,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Produce while consumers read along: how fast, and how long from handing in to being read."""
    setting = Setting(partitions, producers, size, batch, in_flight, Acks[acks.name], seconds, records)
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json, chart),
        lambda stage, floors: measure(stage, floors, setting, consumers),
    )


async def measure(stage: Stage, floors: Floors, setting: Setting, consumers: int) -> Result:
    topic = await stage.create_topic("end-to-end", setting.partitions)
    produced, read, usage = await _load(stage, setting, topic.name, consumers)
    first = read[0]
    checks = await produce.checked(stage, topic.name, produced)
    there = sum((await stage.high_watermarks(topic.name)).values())
    await stage.drop_topic(topic.name)
    return Result(
        benchmark="end-to-end",
        setting=f"{setting}, {plural(consumers, 'consumer')} reading along",
        figures=(
            *produce.rates(produced, setting.size, floors),
            Figure("read by each consumer", figures.rate(first.samples, produced.began), "records/s"),
        ),
        latencies=(
            Latency("acknowledgement", figures.spread(produced.samples)),
            Latency("until it was read", figures.spread(first.samples)),
        ),
        usage=usage,
        checks=(*checks, all_read(there, read)),
        panels=_panels(produced, first),
        payload_bytes=produced.acknowledged * setting.size,
    )


def all_read(there: int, read: Sequence[Consumed]) -> Check:
    """Every consumer got every record that the topic holds."""
    counts = [one.records for one in read]
    return Check("all read", all(count == there for count in counts), f"{there:,} there, read: {counts}")


async def _load(
    stage: Stage, setting: Setting, topic: str, consumers: int
) -> tuple[Produced, list[Consumed], Sequence[Usage]]:
    starts = dict.fromkeys(range(setting.partitions), 0)
    async with working([Consume(stage.addresses, topic, starts)] * consumers) as readers:
        for reader in readers:
            reader.begin()
        produced, usage = await produce.load(
            stage, setting, topic, {f"consumer {place}": reader.pid for place, reader in enumerate(readers, 1)}
        )
        ends = await stage.high_watermarks(topic)
        for reader in readers:
            reader.end(ends)
        return produced, [await reader.outcome() for reader in readers], usage


def _panels(produced: Produced, read: Consumed) -> tuple[Panel, ...]:
    began = produced.began
    (throughput, latency) = produce.panels(produced)
    median, tail = figures.latency_over_time(read.samples, began)
    return (
        Panel(
            throughput.title,
            throughput.unit,
            (*throughput.lines, Line("read", figures.throughput(read.samples, began))),
        ),
        latency,
        Panel("time until it was read", "ms", (Line("p50", median), Line("p99", tail))),
    )
