"""``raftmq sim``: whole clusters under virtual time, one a seed, hurt in every way that the seed can think of."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raftmq.cli import output
from raftmq.cli.exits import ExitCode
from raftmq.cli.runtime import JsonOption
from raftmq.sim.batch import Summary, run_batch, source_hash
from raftmq.sim.plan import Plan
from raftmq.sim.results import Recorded, Results
from raftmq.sim.shrink import shrink
from raftmq.sim.simulation import STORY_EVENTS, Result, run_seed


def sim(
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="How many seeds to run.")] = 100,
    start: Annotated[
        int | None,
        typer.Option(metavar="S", help="The first seed; else those that have not run on this code yet, from 0 on."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Of N seeds from S (else 0) on, leave out those that have run on this code, and sum up all.",
        ),
    ] = False,
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
    """Simulate clusters under faults, and check that nothing acknowledged is lost. Exit code 1 if a seed fails.

    Ctrl-C ends a batch after the seeds that are running, with a summary; what has run is in FILE, and --resume goes on.
    """
    if seed is not None:
        _one(seed, trace=trace, shrunk=shrunk, as_json=as_json)
        return
    source = source_hash()
    file = Results(results, source)
    chosen = _choose(file.read(), seeds, start, resume=resume)
    summary = Summary(source)
    try:
        is_whole = _run(chosen, jobs or os.cpu_count() or 1, summary, file)
    finally:
        recorded = file.write()
    shown = recorded.summary if resume else summary
    if as_json:
        output.show_json({"clean": len(recorded.clean), **shown.as_json()})
    else:
        _show(shown, recorded)
    if not is_whole:
        output.notice(f"interrupted: {summary.seeds:,} of {len(chosen):,} seeds were run; --resume goes on")
    if shown.failures:
        raise typer.Exit(ExitCode.FAILED)
    if not is_whole:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _choose(known: Recorded, number: int, start: int | None, *, resume: bool) -> Sequence[int]:
    first = start or 0
    if resume:
        return [seed for seed in range(first, first + number) if not known.has(seed)]
    return known.next_seeds(number) if start is None else range(first, first + number)


def _run(seeds: Sequence[int], jobs: int, summary: Summary, file: Results) -> bool:
    """Whether all of them were run."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.notices, transient=True) as progress, _interruptible() as interrupted:
        task = progress.add_task("seeds", total=len(seeds))
        for result, seconds in run_batch(seeds, jobs):
            summary.add(result, seconds)
            file.add(result, seconds)
            progress.advance(task)
            if not result.passed:
                output.notice(f"seed {result.seed}: {result.error}")
            if interrupted():
                break
    return summary.seeds == len(seeds)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether somebody wants to end it: SIGINT or SIGTERM. The second one ends it at once."""
    signals = signal.SIGINT, signal.SIGTERM
    received = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for each in signals:
            signal.signal(each, before[each])

    before = {each: signal.signal(each, note) for each in signals}
    try:
        yield lambda: bool(received)
    finally:
        for each in signals:
            signal.signal(each, before[each])


def _show(summary: Summary, recorded: Recorded) -> None:
    output.show(output.table("Faults fired", ("fault", "#times"), sorted(summary.faults.items())))
    output.show(output.table("States reached", ("state", "#times"), sorted(summary.states.items())))
    if summary.holes:
        output.show(f"never reached: {', '.join(summary.holes)}")
    for seed, error in sorted(summary.failures.items()):
        output.show(f"FAILED seed {seed}: {error}\n    raftmq sim --seed {seed}")
    output.show(
        f"{summary.seeds:,} seeds, {len(summary.failures)} failed; {summary.events:,} events, "
        f"{summary.virtual_ms / 3_600_000:,.1f} hours of virtual time, {summary.speed:,.0f} events/s on a core"
    )
    output.show(
        f"{len(recorded.clean):,} clean seeds so far on source {recorded.summary.source}"
        + (f", {len(recorded.summary.failures):,} failed" if recorded.summary.failures else "")
    )


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
