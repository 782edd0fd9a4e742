"""``raftmq bench restart``: how long a node with a long log takes to serve again."""

from __future__ import annotations

import time
from collections import Counter
from typing import Annotated

import typer

from raftmq.cli.bench import produce
from raftmq.cli.bench.common import (
    DIRECTORY,
    ClusterOption,
    DirectoryOption,
    PartitionsOption,
    Setup,
    SizeOption,
    need_cluster,
    run_benchmark,
)
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.producing import Setting, plural
from raftmq.cli.bench.result import MEGABYTE, Figure, Floor, Result
from raftmq.cli.bench.stage import Stage
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import Acks
from raftmq.ids import NodeId

BATCH_BYTES = 100_000
VOLUME_MEGABYTES = 1000


def restart(
    cluster: ClusterOption = False,
    volume: Annotated[int, typer.Option(min=1, metavar="MB", help="How much is written first.")] = VOLUME_MEGABYTES,
    size: SizeOption = 1000,
    partitions: PartitionsOption = 3,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write, kill with SIGKILL, start again: one node first, then all of them at once. Needs --cluster."""
    need_cluster(cluster)
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json),
        lambda stage, floors: measure(stage, floors, volume, size=size, partitions=partitions),
    )


async def measure(stage: Stage, _floors: Floors, volume: int, *, size: int, partitions: int) -> Result:
    stage.require_own()
    records = max(volume * MEGABYTE // size, 1)
    setting = Setting(partitions, 1, size, max(BATCH_BYTES // size, 1), 8, Acks.ALL, None, records)
    topic = (await stage.create_topic("restart", partitions)).name
    empty, _ = await _restart_one(stage, topic)
    produced, _ = await produce.load(stage, setting, topic)
    answering, in_sync = await _restart_one(stage, topic)
    everything = await _restart_all(stage, topic)
    checks = await produce.checked(stage, topic, produced)
    floor = Floor("an empty node", empty)
    return Result(
        benchmark="restart",
        setting=f"{volume:,} MB in records of {size:,} B, {plural(partitions, 'partition')}, after SIGKILL",
        figures=(
            Figure("one node answers", answering, "s", floor),
            Figure("one node in sync everywhere", in_sync, "s", floor),
            Figure("all three killed: all partitions led again", everything, "s", floor),
        ),
        checks=checks,
    )


async def _restart_one(stage: Stage, topic: str) -> tuple[float, float]:
    """Seconds from the start of the node that leads most to its first answer, and until it is in sync everywhere."""
    description = await stage.wait_in_sync(topic)
    led = Counter(p.leader for p in description.partitions if p.leader is not None)
    node = NodeId(min(led, key=lambda one: (-led[one], one)))
    await stage.own.kill(node)
    await stage.wait_leaders(topic, without=node)
    began = time.monotonic()
    await stage.own.start(node)
    await stage.own.wait_answering(node)
    answered = time.monotonic()
    await stage.wait_in_sync(topic)
    return answered - began, time.monotonic() - began


async def _restart_all(stage: Stage, topic: str) -> float:
    """Seconds from the start of all nodes until every partition has a leader that answers for its offsets."""
    for node in stage.own.nodes:
        await stage.own.kill(node)
    began = time.monotonic()
    await stage.own.start_all()
    await stage.wait_in_sync(topic)
    await stage.high_watermarks(topic)
    return time.monotonic() - began
