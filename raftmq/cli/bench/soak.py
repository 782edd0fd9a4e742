"""``raftmq bench soak``: full load for long: who is elected meanwhile, and what becomes of the nodes' memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from raftmq.cli.bench import figures, produce
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
    Setup,
    SizeOption,
    run_benchmark,
)
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.producing import Setting
from raftmq.cli.bench.result import MEGABYTE, Check, Figure, Latency, Result
from raftmq.cli.bench.stage import Stage
from raftmq.cli.bench.usage import Usage
from raftmq.cli.produce import AcksName
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import Acks

MINUTES = 10.0
KEPT_MEGABYTES = 500
"""Of each partition: ten minutes of all that a cluster takes would fill many a disk."""


def soak(
    cluster: ClusterOption = False,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="How long.")] = MINUTES,
    keep: Annotated[
        int, typer.Option("--keep", min=0, metavar="MB", help="What the topic keeps of each partition; 0: everything.")
    ] = KEPT_MEGABYTES,
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
    """All that the cluster takes, for minutes: elections in all groups, memory of each node and its growth. Exit code 1
    also if there was an election."""
    setting = Setting(partitions, producers, size, batch, in_flight, Acks[acks.name], minutes * 60, None)
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json, chart),
        lambda stage, floors: measure(stage, floors, setting, keep * MEGABYTE),
    )


async def measure(stage: Stage, floors: Floors, setting: Setting, keep: int = 0) -> Result:
    """`keep`: bytes of each partition; 0: everything."""
    topic = await stage.create_topic("soak", setting.partitions, keep)
    before = await stage.terms()
    produced, usage = await produce.load(stage, setting, topic.name)
    elections = figures.risen(before, await stage.terms())
    checks = await produce.checked(stage, topic.name, produced)
    await stage.drop_topic(topic.name)
    nodes = [one for one in usage if one.name in stage.processes]
    kept = f"the newest {keep / MEGABYTE:,g} MB of a partition kept" if keep else "all of it kept"
    return Result(
        benchmark="soak",
        setting=f"{setting}, {kept}",
        figures=(
            *produce.rates(produced, setting.size, floors),
            Figure("elections in all groups", elections, ""),
            *_memory(nodes),
        ),
        latencies=(Latency("acknowledgement", figures.spread(produced.samples)),),
        usage=usage,
        checks=(*checks, Check("nobody stood for election", elections == 0, f"{elections:,} terms passed")),
        panels=produce.panels(produced),
        payload_bytes=produced.acknowledged * setting.size,
        notes=(f"growth, MB a minute: least squares, without the first {produce.warm_up(setting):g} s",),
    )


def _memory(nodes: Sequence[Usage]) -> tuple[Figure, ...]:
    """Of the nodes that run on this machine; the table has each of them."""
    if not nodes:
        return ()
    return (
        Figure("memory of the largest node", max(one.memory_max for one in nodes) / MEGABYTE, "MB"),
        Figure("growth of the node that grows fastest", max(one.memory_slope for one in nodes) / MEGABYTE, "MB/min"),
    )
