"""``raftmq bench consume``: read a backlog."""

from __future__ import annotations

from typing import Annotated

import typer

from raftmq.cli.bench import figures, produce
from raftmq.cli.bench.chart import Line, Panel
from raftmq.cli.bench.common import (
    DIRECTORY,
    BatchOption,
    ChartOption,
    ClusterOption,
    DirectoryOption,
    PartitionsOption,
    Setup,
    SizeOption,
    run_benchmark,
)
from raftmq.cli.bench.consuming import Consume
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.producing import Setting, plural
from raftmq.cli.bench.result import MEGABYTE, Check, Figure, Result
from raftmq.cli.bench.stage import Stage
from raftmq.cli.bench.usage import watching
from raftmq.cli.bench.workers import run_all, working
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import Acks


def consume(
    cluster: ClusterOption = False,
    records: Annotated[int, typer.Option(min=1, metavar="N", help="How long the backlog is.")] = 2_000_000,
    size: SizeOption = 100,
    partitions: PartitionsOption = 3,
    consumers: Annotated[int, typer.Option(min=1, help="Processes that share the partitions.")] = 1,
    batch: BatchOption = 1000,
    chart: ChartOption = None,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Fill a topic, then read it from the beginning to the end."""
    if consumers > partitions:
        raise typer.BadParameter("each needs a partition at least", param_hint="--consumers")
    setting = Setting(partitions, 1, size, batch, 8, Acks.ALL, None, records)
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json, chart),
        lambda stage, floors: measure(stage, floors, setting, consumers),
    )


async def measure(stage: Stage, floors: Floors, setting: Setting, consumers: int) -> Result:
    topic = await stage.create_topic("consume", setting.partitions)
    await produce.load(stage, setting, topic.name)
    ends = await stage.high_watermarks(topic.name)
    loads = []
    for place in range(consumers):
        mine = {partition: end for partition, end in ends.items() if partition % consumers == place}
        loads.append(Consume(stage.addresses, topic.name, dict.fromkeys(mine, 0), mine))
    async with working(loads) as workers:
        readers = {f"consumer {place}": worker.pid for place, worker in enumerate(workers, 1)}
        async with watching({**stage.processes, **readers}) as watch:
            outcomes = await run_all(workers)
    await stage.drop_topic(topic.name)
    began = min(outcome.began for outcome in outcomes)
    samples = [sample for outcome in outcomes for sample in outcome.samples]
    read = sum(outcome.records for outcome in outcomes)
    there = sum(ends.values())
    rate = figures.rate(samples, began)
    return Result(
        benchmark="consume",
        setting=f"{there:,} records of {setting.size:,} B in batches of {setting.batch:,}, written just before, "
        f"{plural(setting.partitions, 'partition')}, {plural(consumers, 'consumer')}",
        figures=(
            Figure("read", rate, "records/s"),
            Figure("", rate * setting.size / MEGABYTE, "MB/s", floors.stream_megabytes),
        ),
        usage=watch.usage(),
        checks=(Check("all read", read == there, f"{there:,} there, {read:,} read"),),
        panels=(Panel("throughput", "records/s", (Line("read", figures.throughput(samples, began)),)),),
    )
