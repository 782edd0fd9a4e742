"""``raftmq chaos``: list, run, check."""

from __future__ import annotations

import json
import random
import shutil
import sys
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from raftmq.chaos import engine, experiment, verdict
from raftmq.chaos.engine import Settings
from raftmq.chaos.experiment import Experiment, ExperimentError
from raftmq.chaos.live import View
from raftmq.chaos.report import page, summary
from raftmq.chaos.verdict import REPORT_FILE, VERDICT_FILE, Level, Verdict
from raftmq.cli import output
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.runtime import JsonOption, run
from raftmq.cli.supervisor import LocalCluster
from raftmq.config import load as load_config

RUNS = Path("data/chaos")


class ChaosExit(IntEnum):
    """Beside those of all commands."""

    PASS = 0
    FAIL = 1
    INVALID = 5
    UNAVAILABLE = 6


EXITS_HELP = """\b
Exit codes:
  0  PASS: every property was examined and holds, every fault fired
  1  FAIL: a property does not hold
  2  wrong usage, or an experiment that cannot be read
  5  INVALID: the run shows nothing (a fault did not fire, too few operations)
  6  UNAVAILABLE: this machine cannot inject what the experiment asks for
"""
_EXIT = {level: ChaosExit[level.name] for level in Level}

app = typer.Typer(help="Experiments on real processes that end in a verdict.", epilog=EXITS_HELP, no_args_is_help=True)


@app.command("list")
def list_experiments(as_json: JsonOption = False) -> None:
    """List the experiments, their faults and what a PASS of each shows."""

    async def command() -> None:
        found = [_load(path) for path in sorted(experiment.folder().glob("*.yml"))]
        if as_json:
            output.show_json([one.model_dump(mode="json") for one in found])
            return
        table = Table("EXPERIMENT", "SECONDS", "SHOWS", box=None, pad_edge=False)
        for one in found:
            table.add_row(one.name, f"{one.duration + one.settle:.0f}", one.shows)
        output.show(table)

    run(command)


@app.command("run", epilog=EXITS_HELP)
def run_experiment(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="An experiment's name, or its file.")],
    seed: Annotated[int | None, typer.Option(help="Decides the random schedule; drawn and shown without it.")] = None,
    duration: Annotated[float | None, typer.Option(min=1, metavar="SECONDS", help="Of the load with faults.")] = None,
    directory: Annotated[
        Path | None, typer.Option("--directory", metavar="DIR", help="The run's folder; it must not exist.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Number of nodes and timeouts of this cluster.yml.")
    ] = None,
    keep_data: Annotated[bool, typer.Option("--keep-data", help="Keep the nodes' data after a PASS, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment on nodes of its own, and judge it."""

    async def command() -> None:
        plan = _load(_find(name))
        if config is not None:
            plan = _changed(plan, {"cluster": plan.cluster.like(load_config(config)).model_dump()})
        if duration is not None:
            plan = _with_duration(plan, duration)
        chosen = seed if seed is not None else random.randrange(1_000_000)
        folder = directory or RUNS / f"{plan.name}-{datetime.now():%Y%m%d-%H%M%S}"
        if folder.exists():
            raise CommandError(f"{folder} exists already", hint="name another one", code=ExitCode.USAGE)
        view = View(output.notices, f"{plan.name}: {plan.shows}")
        settings = Settings(folder, chosen, sys.executable, LocalCluster)
        with view.shown():
            found, events = await engine.run(plan, settings, view)
        page.write(folder / REPORT_FILE, plan, found, events, seed=chosen)
        if found.level is Level.PASS and not keep_data:
            _drop_data(folder, plan)
        _show(found, folder, as_json=as_json)

    run(command)


@app.command("check", epilog=EXITS_HELP)
def check_folder(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What an earlier run left.")],
    as_json: JsonOption = False,
) -> None:
    """Judge an earlier run again, with the checks of today, and draw its report anew."""

    async def command() -> None:
        try:
            plan = Experiment.model_validate_json((folder / verdict.EXPERIMENT_FILE).read_text())
            seed = json.loads((folder / verdict.RUN_FILE).read_text())["seed"]
            found, events = verdict.judge_folder(folder)
        except (OSError, ValueError, KeyError) as error:
            raise CommandError(f"{folder} is no run that can be judged: {error}", code=ExitCode.USAGE) from error
        (folder / VERDICT_FILE).write_text(json.dumps(found.as_json(), indent=1) + "\n")
        page.write(folder / REPORT_FILE, plan, found, events, seed=seed)
        _show(found, folder, as_json=as_json)

    run(command)


def _find(name: str) -> Path:
    try:
        return experiment.find(name)
    except ExperimentError as error:
        raise CommandError(str(error), code=ExitCode.USAGE) from error


def _load(path: Path) -> Experiment:
    try:
        return experiment.load(path)
    except ExperimentError as error:
        raise CommandError(str(error), code=ExitCode.USAGE) from error


def _with_duration(plan: Experiment, seconds: float) -> Experiment:
    """The same for another time: faults that repeat go on to its end."""
    faults = plan.model_dump(mode="json")["faults"]
    for fault in faults:
        if fault["repeat"] is not None:
            fault["repeat"]["end"] = seconds
    return _changed(plan, {"duration": seconds, "faults": faults})


def _changed(plan: Experiment, changes: dict[str, object]) -> Experiment:
    try:
        return experiment.changed(plan, changes)
    except ExperimentError as error:
        raise CommandError(str(error), code=ExitCode.USAGE) from error


def _drop_data(folder: Path, plan: Experiment) -> None:
    """What the nodes stored is of no use after a PASS; the history and the logs stay."""
    for node in range(1, plan.cluster.nodes + 1):
        shutil.rmtree(folder / f"n{node}", ignore_errors=True)


def _show(found: Verdict, folder: Path, *, as_json: bool) -> None:
    if as_json:
        output.show_json(found.as_json() | {"folder": str(folder)})
    else:
        output.show(summary.render(found, folder))
    if found.level is not Level.PASS:
        raise typer.Exit(_EXIT[found.level])
