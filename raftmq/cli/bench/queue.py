"""``raftmq bench queue``: messages that are leased, scheduled and held, and what a committed offset costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from raftmq.cli.bench import figures, produce
from raftmq.cli.bench.chart import Line, Panel
from raftmq.cli.bench.common import (
    DIRECTORY,
    ChartOption,
    ClusterOption,
    DirectoryOption,
    PartitionsOption,
    SecondsOption,
    Setup,
    SizeOption,
    run_benchmark,
)
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.producing import Setting, plural
from raftmq.cli.bench.queueing import Committed, ProduceAndCommit, Take, Taken
from raftmq.cli.bench.result import MEGABYTE, Check, Figure, Latency, Result
from raftmq.cli.bench.stage import Stage, counted
from raftmq.cli.bench.usage import Usage, watching
from raftmq.cli.bench.workers import run_all, working
from raftmq.cli.exits import CommandError
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target
from raftmq.client import Acks, TopicDescription
from raftmq.client.queue_admin import QueueCounts

WORK, HOLD = "work", "hold"
"""Two groups of one topic: each gets all of its records."""
SCHEDULED = 10_000
LEAD_SECONDS = 4.0
"""How long after the first of them is written the scheduled records are due: they have to be there by then."""
LATE_SECONDS_MAX = 120.0
HOLD_SECONDS_MAX = 300.0
HOLD_BATCH = 1000
LEASE_MS = 12 * 3600 * 1000
"""The longest: no lease runs out while something is counted."""


@dataclass(frozen=True, slots=True)
class QueueSetting:
    """What the person at the command line chose."""

    seconds: float
    messages: int = 1_000_000
    workers: int = 8
    batch: int = 100
    size: int = 100
    partitions: int = 3

    def __str__(self) -> str:
        return (
            f"{self.seconds:g} s, {self.messages:,} messages of {self.size:,} B, "
            f"{plural(self.partitions, 'partition')}, {plural(self.workers, 'worker')} in one process, each with one "
            f"call in flight, batches of {self.batch:,}, straight at the leaders; held in batches of {HOLD_BATCH:,}; "
            f"{SCHEDULED:,} scheduled for one moment"
        )

    @property
    def backlog(self) -> Setting:
        batch = max(100_000 // self.size, 1)
        return Setting(self.partitions, 1, self.size, batch, 8, Acks.ALL, None, self.messages)


@dataclass(frozen=True, slots=True)
class Part:
    """What one of the four parts has found."""

    figures: Sequence[Figure]
    latencies: Sequence[Latency] = ()
    checks: Sequence[Check] = ()
    usage: Sequence[Usage] = ()
    panels: Sequence[Panel] = ()
    notes: Sequence[str] = ()


def queue(
    cluster: ClusterOption = False,
    seconds: SecondsOption = 10,
    messages: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many wait, and how many are leased at once in the end.")
    ] = 1_000_000,
    workers: Annotated[int, typer.Option(min=1, help="Each with one call under way; all in one process.")] = 8,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Messages of one Receive, and of one Ack.")] = 100,
    size: SizeOption = 100,
    partitions: PartitionsOption = 3,
    chart: ChartOption = None,
    directory: DirectoryOption = DIRECTORY,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Receive and Ack, the memory of leased messages, scheduled records, and committed offsets beside produced records.

    --seconds is for receiving and acknowledging; committing has half of it.
    """
    setting = QueueSetting(seconds, messages, workers, batch, size, partitions)
    run_benchmark(
        Setup(Target(bootstrap, config), cluster, directory, as_json, chart),
        lambda stage, floors: measure(stage, floors, setting),
    )


async def measure(stage: Stage, floors: Floors, setting: QueueSetting) -> Result:
    topic = await stage.create_topic("queue", setting.partitions)
    await produce.load(stage, setting.backlog, topic.name)
    there = sum((await stage.high_watermarks(topic.name)).values())
    parts = [
        await _work(stage, floors, setting, topic),
        await _hold(stage, setting, topic, there),
        await _schedule(stage, setting),
        await _commit(stage, floors, setting),
    ]
    await stage.drop_topic(topic.name)
    return Result(
        benchmark="queue",
        setting=str(setting),
        figures=[figure for part in parts for figure in part.figures],
        latencies=[latency for part in parts for latency in part.latencies],
        usage=parts[0].usage,
        checks=[check for part in parts for check in part.checks],
        panels=parts[0].panels,
        notes=[note for part in parts for note in part.notes],
    )


# -- receive and ack ---------------------------------------------------------------------------------------------


async def _work(stage: Stage, floors: Floors, setting: QueueSetting, topic: TopicDescription) -> Part:
    load = Take(
        topic=topic.name,
        group=WORK,
        leaders=await stage.leaders(topic),
        workers=setting.workers,
        batch=setting.batch,
        expected=setting.messages,
        seconds=setting.seconds,
        lease_ms=LEASE_MS,
    )
    await _make_group(stage, topic.name, WORK)
    taken, usage = await _run(stage, load)
    if not taken.settled:
        raise CommandError(f"nothing was acknowledged; errors: {dict(taken.failures)}")
    calls = (len(taken.received) + len(taken.settled)) / (taken.settled[-1].at - taken.began)
    return Part(
        figures=(
            Figure("received and acknowledged", figures.rate(taken.settled, taken.began), "messages/s"),
            Figure("Receive and Ack", calls, "calls/s", floors.calls),
        ),
        latencies=(
            Latency("Receive", figures.spread_of([sample.latency for sample in taken.received])),
            Latency("Ack", figures.spread_of([sample.latency for sample in taken.settled]), floors.durable_call),
        ),
        checks=(*_given_once(taken, "worked on"), _acknowledged(taken, await _counts(stage, topic.name, WORK))),
        usage=usage,
        panels=_panels(taken),
    )


def _given_once(taken: Taken, what: str) -> tuple[Check, Check]:
    failed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(taken.failures.items()))
    twice = taken.messages - taken.different
    return (
        Check(f"{what}: none twice", twice == 0, f"{taken.messages:,} received, {twice:,} of them twice"),
        Check(f"{what}: none failed", not failed, failed or f"{taken.messages:,} messages"),
    )


def _acknowledged(taken: Taken, counts: Sequence[QueueCounts]) -> Check:
    """Whether the group counts what was acknowledged, and no more than that and what may have been."""
    done = sum(one.acked for one in counts)
    passed = taken.acknowledged <= done <= taken.acknowledged + taken.unknown
    return Check("worked on: counted", passed, f"{taken.acknowledged:,} acknowledged; the group counts {done:,}")


def _panels(taken: Taken) -> tuple[Panel, ...]:
    panels = [
        Panel(
            "throughput",
            "messages/s",
            (
                Line("received", figures.throughput(taken.received, taken.began)),
                Line("acknowledged", figures.throughput(taken.settled, taken.began)),
            ),
        )
    ]
    for name, samples in (("Receive", taken.received), ("Ack", taken.settled)):
        median, tail = figures.latency_over_time(samples, taken.began)
        panels.append(Panel(f"time of {name}", "ms", (Line("p50", median), Line("p99", tail))))
    return tuple(panels)


# -- messages that are leased and not acknowledged -------------------------------------------------------------------


async def _hold(stage: Stage, setting: QueueSetting, topic: TopicDescription, there: int) -> Part:
    load = Take(
        topic=topic.name,
        group=HOLD,
        leaders=await stage.leaders(topic),
        workers=setting.workers,
        batch=HOLD_BATCH,
        expected=there,
        seconds=HOLD_SECONDS_MAX,
        lease_ms=LEASE_MS,
        acknowledge=False,
    )
    await _make_group(stage, topic.name, HOLD)
    taken, usage = await _run(stage, load)
    leased = sum(one.leased for one in await _counts(stage, topic.name, HOLD))
    found = [Figure(f"leased, {HOLD_BATCH:,} at a time", figures.rate(taken.received, taken.began), "messages/s")]
    nodes = [one for one in usage if one.name.startswith("node ")]
    if nodes:
        growth = max(one.memory_last - one.memory_first for one in nodes) / MEGABYTE
        found.append(Figure(f"memory for {leased:,} leased, of the node that grew most", growth, "MB"))
    sizes = ", ".join(
        f"{one.name} from {one.memory_first / MEGABYTE:,.0f} to {one.memory_last / MEGABYTE:,.0f} MB" for one in nodes
    )
    return Part(
        figures=found,
        checks=(
            Check("held: counted", leased == there, f"{there:,} there; the group counts {leased:,} leased"),
            *_given_once(taken, "held"),
        ),
        notes=(f"memory while they were leased: {sizes}",) if nodes else (),
    )


# -- scheduled records -------------------------------------------------------------------------------------------


async def _schedule(stage: Stage, setting: QueueSetting) -> Part:
    topic = await stage.create_topic("scheduled", setting.partitions)
    load = Take(
        topic=topic.name,
        group=WORK,
        leaders=await stage.leaders(topic),
        workers=setting.workers,
        batch=setting.batch,
        expected=SCHEDULED,
        seconds=LATE_SECONDS_MAX,
        lease_ms=LEASE_MS,
    )
    await _make_group(stage, topic.name, WORK)
    async with working([load]) as workers:
        due, spare = await _write_scheduled(stage, topic, setting.size)
        (taken,) = await run_all(workers)
    there = await counted(stage, topic.name, SCHEDULED, 0)
    await stage.drop_topic(topic.name)
    if not taken.received:
        raise CommandError(f"no scheduled record was delivered; errors: {dict(taken.failures)}")
    late = [sample._replace(latency=sample.at - due) for sample in taken.received]
    earliest = min(sample.latency for sample in late)
    return Part(
        figures=(Figure(f"{SCHEDULED:,} scheduled: the last delivered, after due", late[-1].latency, "s"),),
        latencies=(Latency("scheduled, delivered after due", figures.spread(late)),),
        checks=(
            Check("scheduled: all delivered", taken.different == SCHEDULED, f"{taken.different:,} of {SCHEDULED:,}"),
            Check("scheduled: written in time", spare > 0, f"{spare * 1000:,.0f} ms before they were due"),
            Check("scheduled: none too early", earliest >= 0, f"the first {earliest * 1000:,.0f} ms after it was due"),
            *_given_once(taken, "scheduled"),
            there._replace(name="scheduled: counted"),
        ),
    )


async def _write_scheduled(stage: Stage, topic: TopicDescription, size: int) -> tuple[float, float]:
    """When they are due, in seconds of CLOCK_MONOTONIC, and how long before that the last one was acknowledged."""
    deliver_at_ms = int((time.time() + LEAD_SECONDS) * 1000) + 1
    due = time.monotonic() + deliver_at_ms / 1000 - time.time()
    partitions = len(topic.partitions)
    async with stage.client.producer(topic.name) as producer:
        receipts = [
            await producer.enqueue(bytes(size), partition=place % partitions, deliver_at_ms=deliver_at_ms)
            for place in range(SCHEDULED)
        ]
        await asyncio.gather(*receipts)
    return due, due - time.monotonic()


# -- committed offsets -------------------------------------------------------------------------------------------


async def _commit(stage: Stage, floors: Floors, setting: QueueSetting) -> Part:
    topic = await stage.create_topic("commit", 1)
    group = topic.name
    await stage.client.groups.reset(group, topic.name, 0)  # the group is there, and somebody coordinates it
    coordinator = (await stage.client.groups.describe(group)).coordinator
    if coordinator is None:
        raise CommandError("nobody says who coordinates the group")
    nodes = await stage.addresses_of_nodes()
    leader = (await stage.leaders(topic))[0]
    load = ProduceAndCommit(topic.name, group, leader, nodes[coordinator], setting.size, setting.seconds / 2)
    async with working([load]) as workers:
        (outcome,) = await run_all(workers)
    there = await counted(stage, topic.name, len(outcome.produced), 0)
    committed = (await stage.client.groups.committed(group))[(topic.name, 0)]
    await stage.client.groups.delete(group)
    await stage.drop_topic(topic.name)
    return _compared(outcome, floors, there, committed)


def _compared(outcome: Committed, floors: Floors, there: Check, committed: int) -> Part:
    produced, commits = figures.spread_of(outcome.produced), figures.spread_of(outcome.committed)
    last = len(outcome.committed)
    return Part(
        figures=(Figure("committing an offset: its median to that of producing", commits.p50 / produced.p50, "times"),),
        latencies=(
            Latency("produce of one record", produced, floors.durable_call),
            Latency("commit of one offset", commits, floors.durable_call),
        ),
        checks=(
            there._replace(name="produced: counted"),
            Check("committed: the last one holds", committed == last, f"{last:,} sent last, {committed:,} is there"),
        ),
    )


# -- what they share ---------------------------------------------------------------------------------------------


async def _make_group(stage: Stage, topic: str, group: str) -> None:
    await stage.client.queues.set_group(topic, group)


async def _run(stage: Stage, load: Take) -> tuple[Taken, Sequence[Usage]]:
    async with working([load]) as workers, watching({**stage.processes, "workers": workers[0].pid}) as watch:
        (taken,) = await run_all(workers)
    return taken, watch.usage()


async def _counts(stage: Stage, topic: str, group: str) -> Sequence[QueueCounts]:
    return (await stage.client.queues.describe_group(topic, group))[1]
