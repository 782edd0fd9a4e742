"""``raftmq bench idle``: what partitions cost while nothing happens, and what they cost to create and to move."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from raftmq.cli.bench.common import (
    DIRECTORY,
    ClusterOption,
    DirectoryOption,
    SecondsOption,
    Setup,
    run_benchmark,
)
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.result import MEGABYTE, Check, Figure, Result
from raftmq.cli.bench.stage import Stage
from raftmq.cli.bench.usage import Usage, watching
from raftmq.cli.exits import CommandError
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.ids import NodeId

SETTLE_SECONDS = 5.0
"""After creating: what is still going on then is not what idle means."""


def idle(
    cluster: ClusterOption = False,
    partitions: Annotated[int, typer.Option(min=1, max=10_000)] = 1000,
    seconds: SecondsOption = 60,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Create many partitions, leave them alone, and look at the nodes; with --cluster, kill one of them at the end."""
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json),
        lambda stage, floors: measure(stage, floors, partitions, seconds),
    )


async def measure(stage: Stage, _floors: Floors, partitions: int, seconds: float) -> Result:
    """Raises CommandError where the nodes do not run on this machine."""
    if not stage.processes:
        raise CommandError("the nodes do not run on this machine: nothing can be seen of them")
    began = time.monotonic()
    topic = await stage.create_topic("idle", partitions)
    created = time.monotonic() - began
    await asyncio.sleep(SETTLE_SECONDS)
    epochs = await stage.epochs(topic.name)
    async with watching(stage.processes) as watch:
        await asyncio.sleep(seconds)
    usage = watch.usage()
    elections = await stage.epochs(topic.name) - epochs
    figures = [*_figures(usage), Figure("created, all with leaders", created, "s")]
    if stage.is_own:
        figures.append(Figure("all with leaders after SIGKILL of a node", await _fail_one(stage, topic.name), "s"))
    await stage.drop_topic(topic.name)
    return Result(
        benchmark="idle",
        setting=f"{partitions:,} partitions of three replicas, {seconds:g} s without a client",
        figures=figures,
        usage=usage,
        checks=(Check("nobody stood for election", elections == 0, f"{elections} terms passed"),),
    )


def _figures(usage: tuple[Usage, ...]) -> tuple[Figure, Figure]:
    """Of the node that needs most."""
    return (
        Figure("CPU of the busiest node", max(one.cpu_share for one in usage) * 100, "% of a core"),
        Figure("memory of the largest node", max(one.memory_max for one in usage) / MEGABYTE, "MB"),
    )


async def _fail_one(stage: Stage, topic: str) -> float:
    """Seconds from the death of a node until other nodes lead all that it led."""
    node = NodeId(stage.own.nodes[-1])
    began = time.monotonic()
    await stage.own.kill(node)
    await stage.wait_leaders(topic, without=node)
    return time.monotonic() - began
