"""``raftmq bench failover``: kill a node, again and again, and see how long produce stands still."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import typer

from raftmq.cli.bench import figures, produce
from raftmq.cli.bench.common import (
    DIRECTORY,
    BatchOption,
    ChartOption,
    ClusterOption,
    DirectoryOption,
    Setup,
    SizeOption,
    need_cluster,
    run_benchmark,
)
from raftmq.cli.bench.figures import Spread
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.producing import Produce, Produced
from raftmq.cli.bench.result import Check, Figure, Latency, Result
from raftmq.cli.bench.stage import Stage
from raftmq.cli.bench.workers import Worker, working
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import TopicDescription
from raftmq.ids import NodeId

PAUSE_SECONDS = 0.005
"""Between two batches: a pause of produce is to be seen to some milliseconds, and the machine not to be busy."""
IN_FLIGHT = 4
DOWN_SECONDS = 2.0
"""How long a killed node stays away: long enough that its return is not taken for its death."""
QUIET_SECONDS = 1.0
"""Before the next kill, and up to as much again, so that kills do not fall into step with heartbeats."""


class Victim(Enum):
    LEADER = "leader"
    FOLLOWER = "follower"


@dataclass(frozen=True, slots=True)
class Kill:
    """Times of CLOCK_MONOTONIC in seconds."""

    killed_at: float
    restarted_at: float
    settled_at: float
    """All replicas in sync again."""


def failover(
    cluster: ClusterOption = False,
    kills: Annotated[int, typer.Option(min=1, help="How often.")] = 30,
    victim: Annotated[Victim, typer.Option(help="Whether the partition's leader dies, or one of its followers.")] = (
        Victim.LEADER
    ),
    size: SizeOption = 100,
    batch: BatchOption = 10,
    chart: ChartOption = None,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """SIGKILL a node under produce with acks=all, and measure how long no acknowledgement came. Needs --cluster."""
    need_cluster(cluster)
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json, chart),
        lambda stage, floors: measure(stage, floors, kills, victim, size=size, batch=batch),
    )


async def measure(stage: Stage, _floors: Floors, kills: int, victim: Victim, *, size: int, batch: int) -> Result:
    stage.require_own()
    topic = await stage.create_topic("failover", 1)
    load = Produce(
        stage.addresses, topic.name, (0,), size=size, batch=batch, in_flight=IN_FLIGHT, pause_seconds=PAUSE_SECONDS
    )
    async with working([load]) as (worker,):
        worker.begin()
        events = await _kill_often(stage, topic.name, kills, victim, worker)
        worker.end()
        produced = await worker.outcome()
    checks = await produce.checked(stage, topic.name, produced)
    at_kill, at_return = pauses(produced, events)
    recovery = figures.spread_of([event.settled_at - event.restarted_at for event in events])
    return Result(
        benchmark="failover",
        setting=f"{kills} times SIGKILL to the {victim.value} of the one partition, {size:,} B, batches of {batch}, "
        f"{1 / PAUSE_SECONDS:.0f} a second at most, acks=all, three nodes",
        figures=(
            Figure("produce stood still, median", at_kill.p50 * 1000, "ms"),
            Figure("produce stood still, 95th percentile", at_kill.p95 * 1000, "ms"),
            Figure("restarted node in sync again, median", recovery.p50, "s"),
        ),
        latencies=(
            Latency("stood still at the kill", at_kill),
            Latency("stood still at the return", at_return),
            Latency("acknowledgement, kills and all", figures.spread(produced.samples)),
        ),
        checks=(*checks, Check("each kill was survived", len(events) == kills, f"{len(events)} kills")),
        panels=produce.panels(produced),
    )


def pauses(produced: Produced, events: Sequence[Kill]) -> tuple[Spread, Spread]:
    """Longest pauses of produce, from each kill to the restart, and from each restart until all was well again."""
    at_kill = [figures.longest_pause(produced.samples, event.killed_at, event.restarted_at) for event in events]
    at_return = [figures.longest_pause(produced.samples, event.restarted_at, event.settled_at) for event in events]
    return figures.spread_of(at_kill), figures.spread_of(at_return)


async def _kill_often(stage: Stage, topic: str, kills: int, victim: Victim, worker: Worker[Produced]) -> list[Kill]:
    generator = random.Random(kills)
    events = []
    for _ in range(kills):
        description = await stage.wait_in_sync(topic)
        await asyncio.sleep(QUIET_SECONDS + generator.random())
        node = _choose(description, victim)
        killed_at = time.monotonic()
        await stage.own.kill(node)
        await asyncio.sleep(DOWN_SECONDS)
        restarted_at = time.monotonic()
        await stage.own.start(node)
        await stage.wait_in_sync(topic)
        events.append(Kill(killed_at, restarted_at, time.monotonic()))
        worker.raise_if_dead()
    return events


def _choose(topic: TopicDescription, victim: Victim) -> NodeId:
    partition = topic.partitions[0]
    assert partition.leader is not None
    if victim is Victim.LEADER:
        return NodeId(partition.leader)
    return NodeId(min(set(partition.replicas) - {partition.leader}))
