"""``raftmq bench all``: the set whose table stands in the README."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from raftmq.cli import output
from raftmq.cli.bench import (
    calls,
    consume,
    end_to_end,
    failover,
    idle,
    latency,
    machine,
    produce,
    queue,
    readme,
    restart,
)
from raftmq.cli.bench.calls import CallsSetting
from raftmq.cli.bench.common import (
    DIRECTORY,
    Benchmark,
    DirectoryOption,
    Setup,
    measure_floor,
    perform,
    where_the_load_is,
)
from raftmq.cli.bench.failover import Victim
from raftmq.cli.bench.producing import Setting
from raftmq.cli.bench.queue import QueueSetting
from raftmq.cli.bench.result import Result
from raftmq.cli.exits import CommandError, ExitCode, explain
from raftmq.cli.runtime import DEFAULT_CONFIG, ConfigOption, JsonOption, Target, run
from raftmq.client import Acks
from raftmq.errors import RaftmqError
from raftmq.version import __version__

FLOOR_SECONDS = 3.0
SUSTAINED = 3
"""Benchmarks of what a cluster can sustain take so many times as long as the others: the disk has to keep up."""
BACKLOG_PER_SECOND = 100_000
"""Records to read, per second that the others get."""

QUEUED_PER_SECOND = 50_000
"""Messages to work on and to hold, per second that the others get."""


def everything(
    seconds: Annotated[
        float,
        typer.Option(min=0.1, help="Of each benchmark that goes by time; produce and end-to-end take thrice as long."),
    ] = 20,
    kills: Annotated[int, typer.Option(min=1, help="Of failover.")] = 30,
    partitions: Annotated[int, typer.Option(min=1, help="Where many are meant.")] = 1000,
    volume: Annotated[int, typer.Option(min=1, metavar="MB", help="Of restart.")] = restart.VOLUME_MEGABYTES,
    document: Annotated[
        Path | None, typer.Option("--readme", metavar="FILE", help="Write the table into it, between its two markers.")
    ] = None,
    directory: DirectoryOption = DIRECTORY,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Run all benchmarks, each on a new cluster of its own. The table is written only if all of them pass."""

    async def command() -> None:
        if document is not None:
            readme.insert(await asyncio.to_thread(document.read_text), "")  # better to know now than at the end
        results, failed = await _run_all(
            selection(seconds, kills, partitions, volume), Setup(Target(None, config), True, directory, as_json)
        )
        if as_json:
            results_json = [result.as_json() for result in results]
            output.show_json({"machine": machine.describe(), "version": __version__, "results": results_json})
        if failed:
            raise CommandError(f"failed: {', '.join(failed)}", code=ExitCode.FAILED)
        if document is not None:
            await asyncio.to_thread(_write, document, results)

    run(command)


def selection(seconds: float, kills: int, partitions: int, volume: int) -> Sequence[tuple[str, Benchmark]]:
    """Name and benchmark, in the order in which they run."""

    def setting(count: int, size: int) -> Setting:
        batch = 1000 if size < 1000 else 500
        return Setting(count, 1, size, batch, 8, Acks.ALL, SUSTAINED * seconds, None)

    backlog = Setting(3, 1, 100, 1000, 8, Acks.ALL, None, max(int(BACKLOG_PER_SECOND * seconds), 1))
    return (
        ("produce 100 B", lambda s, f: produce.measure(s, f, setting(3, 100))),
        ("produce 1 KB", lambda s, f: produce.measure(s, f, setting(3, 1000))),
        (f"produce to {partitions:,} partitions", lambda s, f: produce.measure(s, f, setting(partitions, 100))),
        ("end-to-end", lambda s, f: end_to_end.measure(s, f, setting(3, 100), 1)),
        ("consume", lambda s, f: consume.measure(s, f, backlog, 1)),
        ("latency", lambda s, f: latency.measure(s, f, 100, Acks.ALL, seconds / 2)),
        ("calls", lambda s, f: calls.measure(s, f, CallsSetting(seconds / 2))),
        ("calls on a stream", lambda s, f: calls.measure(s, f, CallsSetting(seconds / 2, stream=True))),
        ("calls, packed", lambda s, f: calls.measure(s, f, CallsSetting(seconds / 2, packed=True))),
        (
            "queue",
            lambda s, f: queue.measure(s, f, QueueSetting(seconds / 2, max(int(QUEUED_PER_SECOND * seconds), 1))),
        ),
        ("failover of the leader", lambda s, f: failover.measure(s, f, kills, Victim.LEADER, size=100, batch=10)),
        ("failover of a follower", lambda s, f: failover.measure(s, f, kills, Victim.FOLLOWER, size=100, batch=10)),
        ("idle", lambda s, f: idle.measure(s, f, partitions, seconds)),
        ("restart", lambda s, f: restart.measure(s, f, volume, size=1000, partitions=3)),
    )


async def _run_all(benchmarks: Sequence[tuple[str, Benchmark]], setup: Setup) -> tuple[list[Result], list[str]]:
    """All results, that of the floor first, and the names of those that failed or have none."""
    output.notice(f"{machine.describe()}; {where_the_load_is(own=True)}")
    floors = await measure_floor(setup.directory, FLOOR_SECONDS)
    results = [floors.result(setup.directory)]
    _show(results[0], setup)
    failed = []
    for name, benchmark in benchmarks:
        output.notice(f"running: {name}")
        try:
            result = await perform(setup, benchmark, floors)
        except (RaftmqError, CommandError) as error:
            output.complain(f"{name}: {explain(error).message}", explain(error).hint)
            failed.append(name)
            continue
        results.append(result)
        _show(result, setup)
        if not result.passed:
            failed.append(name)
    return results, failed


def _show(result: Result, setup: Setup) -> None:
    if not setup.as_json:
        output.show(result.render())


def _write(document: Path, results: Sequence[Result]) -> None:
    today = date.today().isoformat()
    table = readme.document(results, machine.describe(), where_the_load_is(own=True), today, __version__)
    document.write_text(readme.insert(document.read_text(), table))
    output.notice(f"the table is in {document}")
