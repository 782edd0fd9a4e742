"""``raftmq sim``: whole clusters under virtual time, one a seed, hurt in every way that the seed can think of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raftmq.cli import output
from raftmq.cli.exits import ExitCode
from raftmq.cli.runtime import JsonOption
from raftmq.sim.batch import Summary, clean_so_far, note_clean, run_batch, source_hash
from raftmq.sim.plan import Plan
from raftmq.sim.shrink import shrink
from raftmq.sim.simulation import STORY_EVENTS, Result, run_seed


def sim(
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="How many seeds to run.")] = 100,
    start: Annotated[
        int | None, typer.Option(metavar="S", help="The first seed; else where the last run ended.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="X", help="Run this one seed only.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="With --seed: print every event.")] = False,
    shrunk: Annotated[
        bool, typer.Option("--shrink", help="With --seed: leave out faults for as long as it still fails.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, metavar="J", help="Processes; else one for each core.")] = None,
    results: Annotated[
        Path, typer.Option(metavar="FILE", help="Where clean seeds add up while the code is the same.")
    ] = Path("data/sim.json"),
    as_json: JsonOption = False,
) -> None:
    """Simulate clusters under faults, and check that nothing acknowledged is lost. Exit code 1 if a seed fails."""
    if seed is not None:
        _one(seed, trace=trace, shrunk=shrunk, as_json=as_json)
        return
    source = source_hash()
    first = clean_so_far(results, source) if start is None else start
    summary = Summary(source)
    _run(range(first, first + seeds), jobs or os.cpu_count() or 1, summary)
    clean = note_clean(results, summary)
    if as_json:
        output.show_json({"clean": clean, **summary.as_json()})
    else:
        _show(summary, clean)
    if summary.failures:
        raise typer.Exit(ExitCode.FAILED)


def _run(seeds: range, jobs: int, summary: Summary) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.notices, transient=True) as progress:
        task = progress.add_task("seeds", total=len(seeds))
        for result in run_batch(seeds, jobs, summary):
            progress.advance(task)
            if not result.passed:
                output.notice(f"seed {result.seed}: {result.error}")


def _show(summary: Summary, clean: int) -> None:
    output.show(output.table("Faults fired", ("fault", "#times"), sorted(summary.faults.items())))
    output.show(output.table("States reached", ("state", "#times"), sorted(summary.states.items())))
    if summary.holes:
        output.show(f"never reached: {', '.join(summary.holes)}")
    for failure in summary.failures:
        output.show(f"FAILED seed {failure.seed}: {failure.error}\n    raftmq sim --seed {failure.seed}")
    output.show(
        f"{summary.seeds:,} seeds, {len(summary.failures)} failed; {summary.events:,} events, "
        f"{summary.virtual_ms / 3_600_000:,.1f} hours of virtual time, {summary.speed:,.0f} events/s on a core"
    )
    output.show(f"{clean:,} clean seeds so far on source {summary.source}")


def _one(seed: int, *, trace: bool, shrunk: bool, as_json: bool) -> None:
    if shrunk:
        plan, result = shrink(seed, lambda steps, runs: output.notice(f"{steps} faults left after {runs} runs"))
        _show_plan(plan)
    else:
        result = run_seed(seed, keep_trace=trace)
    if as_json:
        summary = Summary(source_hash())
        summary.add(result, 0.0)
        output.show_json({"trace": result.digest, **summary.as_json()})
    else:
        _show_result(result, everything=trace)
    if not result.passed:
        raise typer.Exit(ExitCode.FAILED)


def _show_plan(plan: Plan) -> None:
    for step in plan.steps:
        print(step)


def _show_result(result: Result, *, everything: bool) -> None:
    events = len(result.trace) if everything else STORY_EVENTS
    if not result.passed:
        print(result.story(events))
        return
    for line in result.trace[-events:]:
        print(line)
    print(f"seed {result.seed} passed: {result.events:,} events, trace {result.digest}")
