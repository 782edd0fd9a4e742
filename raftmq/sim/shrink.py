"""Fewer faults, same failure: leaves out steps of a plan for as long as it still fails (ddmin, Zeller and Hildebrandt
2002).

What the plan draws at random was drawn ahead, so that a run with some steps left out is the same run otherwise. The
failure may be another one afterwards; it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from raftmq.sim.plan import Plan, Step, draw
from raftmq.sim.simulation import Result, run_plan


def shrink(
    seed: int, told: Callable[[int, int], None] = lambda steps, runs: None, limit: int = 200
) -> tuple[Plan, Result]:
    """The plan of `seed` with as few steps as still fail, and how it fails. At most `limit` runs.

    ``told``: how many steps are left after how many runs. Raises ValueError where the seed does not fail at all.
    """
    plan = draw(seed)
    result = run_plan(plan)
    if result.passed:
        raise ValueError(f"seed {seed} does not fail")
    runs = 1
    pieces = 2
    while plan.steps and runs < limit:
        size = max(1, len(plan.steps) // pieces)
        for start in range(0, len(plan.steps), size):
            fewer = _without(seed, plan.steps, start, size)
            found = run_plan(fewer)
            runs += 1
            if not found.passed:
                plan, result = fewer, found
                pieces = max(2, pieces - 1)
                told(len(plan.steps), runs)
                break
            if runs >= limit:
                break
        else:
            if size == 1:
                break
            pieces = min(len(plan.steps), 2 * pieces)
    return plan, result


def _without(seed: int, steps: list[Step], start: int, size: int) -> Plan:
    return replace(draw(seed), steps=steps[:start] + steps[start + size :])
