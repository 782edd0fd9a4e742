"""What all subcommands share: options, the order of things, and what is printed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from raftmq.cli import output
from raftmq.cli.bench import chart, floor
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.result import Result
from raftmq.cli.bench.stage import Stage, on_stage
from raftmq.cli.exits import ExitCode
from raftmq.cli.produce import AcksName
from raftmq.cli.runtime import Target, run
from raftmq.config import load

DIRECTORY = Path("data/bench")
FLOOR_SECONDS = 1.0

ClusterOption = Annotated[
    bool, typer.Option("--cluster", help="Start three nodes for it in a new directory, and remove them afterwards.")
]
DirectoryOption = Annotated[
    Path, typer.Option("--directory", metavar="DIR", help="Where the nodes of --cluster keep their data.")
]
ChartOption = Annotated[
    Path | None, typer.Option("--chart", metavar="FILE.svg", help="Draw throughput and latency over time.")
]
SecondsOption = Annotated[float, typer.Option("--seconds", min=0.1, help="How long.")]
RecordsOption = Annotated[
    int | None, typer.Option("--records", min=1, metavar="N", help="End after N records instead of by time.")
]
SizeOption = Annotated[int, typer.Option("--size", min=8, max=1_000_000, help="Bytes of a record's value.")]
PartitionsOption = Annotated[int, typer.Option("--partitions", min=1)]
ProducersOption = Annotated[int, typer.Option("--producers", min=1, help="Processes that produce.")]
BatchOption = Annotated[
    int, typer.Option("--batch", min=0, help="Records handed in at once; 0: one by one, the client gathers them.")
]
InFlightOption = Annotated[
    int, typer.Option("--in-flight", min=1, max=64, help="Batches of a partition under way from each producer.")
]
AcksOption = Annotated[AcksName, typer.Option("--acks", help="Which acknowledgement is waited for.")]

Benchmark = Callable[[Stage, Floors], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Setup:
    """Where a benchmark runs and where its result goes."""

    target: Target
    cluster: bool
    directory: Path
    as_json: bool
    chart: Path | None = None

    @property
    def own_directory(self) -> Path | None:
        return self.directory if self.cluster else None

    @property
    def disk(self) -> Path:
        """Where files lie on the same disk as the nodes' data; with nodes elsewhere, the working directory."""
        if self.cluster:
            return self.directory
        beside = Path() if self.target.bootstrap else load(self.target.config).nodes[0].data.parent
        return beside if beside.is_dir() else Path()


def run_benchmark(setup: Setup, benchmark: Benchmark) -> None:
    """Measure the floor, then run `benchmark`, print its result. Exit code 1 if a check failed."""

    async def command() -> None:
        with output.notices.status("measuring the bare machine"):
            floors = await measure_floor(setup.disk, FLOOR_SECONDS)
        result = await perform(setup, benchmark, floors)
        if setup.as_json:
            output.show_json(result.as_json())
        else:
            output.show(result.render())
            output.notice(where_the_load_is(own=setup.cluster))
        if setup.chart is not None:
            drawing = chart.render(f"raftmq bench {result.benchmark}", result.setting, result.panels)
            await asyncio.to_thread(setup.chart.write_text, drawing)
        if not result.passed:
            raise typer.Exit(ExitCode.FAILED)

    run(command)


def need_cluster(cluster: bool) -> None:
    """Raises BadParameter. A benchmark that kills nodes does so only to its own; say so before anything is measured."""
    if not cluster:
        raise typer.BadParameter("nodes are killed, which is done only to a cluster of its own", param_hint="--cluster")


async def measure_floor(directory: Path, seconds: float) -> Floors:
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    return await floor.measure(directory, seconds)


async def perform(setup: Setup, benchmark: Benchmark, floors: Floors) -> Result:
    """One benchmark on its stage."""
    with output.notices.status("running"):
        async with on_stage(setup.target, setup.own_directory) as stage:
            result = await benchmark(stage, floors)
            stage.keep = not result.passed
    return result


def where_the_load_is(*, own: bool) -> str:
    """What a reader of any figure has to know."""
    cores = len(os.sched_getaffinity(0))
    nodes = "the three nodes, the load and the measuring itself" if own else "the load and the measuring itself"
    return f"{nodes} share {cores} core{'' if cores == 1 else 's'} of this machine"
