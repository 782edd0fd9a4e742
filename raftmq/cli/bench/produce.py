"""``raftmq bench produce``: as many records as the cluster acknowledges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raftmq.cli.bench import figures
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
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.producing import Produced, Setting, together
from raftmq.cli.bench.result import MEGABYTE, Check, Figure, Latency, Result
from raftmq.cli.bench.stage import Stage, counted
from raftmq.cli.bench.usage import Usage, watching
from raftmq.cli.bench.workers import run_all, working
from raftmq.cli.exits import CommandError
from raftmq.cli.produce import AcksName
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import Acks

WARM_UP_SHARE, WARM_UP_SECONDS_MAX = 0.2, 60.0
"""Caches and buffers fill at first, which says nothing of what comes later."""


def produce(
    cluster: ClusterOption = False,
    seconds: SecondsOption = 20,
    records: RecordsOption = None,
    size: SizeOption = 100,
    acks: AcksOption = AcksName.ALL,
    partitions: PartitionsOption = 3,
    producers: ProducersOption = 1,
    batch: BatchOption = 1000,
    in_flight: InFlightOption = 8,
    chart: ChartOption = None,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """As many records as the cluster acknowledges, with what the nodes use meanwhile."""
    setting = Setting(partitions, producers, size, batch, in_flight, Acks[acks.name], seconds, records)
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json, chart),
        lambda stage, floors: measure(stage, floors, setting),
    )


async def measure(stage: Stage, floors: Floors, setting: Setting) -> Result:
    topic = await stage.create_topic("produce", setting.partitions)
    epochs = await stage.epochs(topic.name)
    produced, usage = await load(stage, setting, topic.name)
    elections = await stage.epochs(topic.name) - epochs
    checks = await checked(stage, topic.name, produced)
    await stage.drop_topic(topic.name)
    return Result(
        benchmark="produce",
        setting=str(setting),
        figures=(*rates(produced, setting.size, floors), Figure("elections meanwhile", elections, "")),
        latencies=(Latency("acknowledgement", figures.spread(produced.samples)),),
        usage=usage,
        checks=checks,
        panels=panels(produced),
        payload_bytes=produced.acknowledged * setting.size,
    )


async def load(
    stage: Stage, setting: Setting, topic: str, others: Mapping[str, int] | None = None
) -> tuple[Produced, Sequence[Usage]]:
    """Produce to a topic, and what it cost; `others` are processes (name and pid) to look at as well.

    Raises CommandError if nothing was acknowledged.
    """
    description = await stage.client.admin.describe_topic(topic)
    async with working(setting.loads(stage.addresses, description)) as workers:
        clients = {f"producer {place}": worker.pid for place, worker in enumerate(workers, 1)}
        processes = {**stage.processes, **clients, **(others or {})}
        async with watching(processes, warm_up(setting)) as watch:
            produced = together(await run_all(workers))
    if not produced.samples:
        raise CommandError(f"nothing was acknowledged; errors: {dict(produced.failures)}")
    return produced, watch.usage()


def warm_up(setting: Setting) -> float:
    """Seconds after which the growth of memory is looked at."""
    return min(WARM_UP_SHARE * (setting.seconds or 0.0), WARM_UP_SECONDS_MAX)


async def checked(stage: Stage, topic: str, produced: Produced) -> tuple[Check, ...]:
    """Of a topic that was empty before."""
    failed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(produced.failures.items()))
    return (
        await counted(stage, topic, produced.acknowledged, produced.unknown),
        Check("none failed", not failed, failed or f"{produced.acknowledged:,} records"),
    )


def rates(produced: Produced, size: int, floors: Floors) -> tuple[Figure, Figure]:
    per_second = figures.rate(produced.samples, produced.began)
    return (
        Figure("acknowledged", per_second, "records/s"),
        Figure("", per_second * size / MEGABYTE, "MB/s", floors.stream_megabytes),
    )


def panels(produced: Produced) -> tuple[Panel, ...]:
    median, tail = figures.latency_over_time(produced.samples, produced.began)
    throughput = Line("acknowledged", figures.throughput(produced.samples, produced.began))
    return (
        Panel("throughput", "records/s", (throughput,)),
        Panel("time to acknowledgement", "ms", (Line("p50", median), Line("p99", tail))),
    )
