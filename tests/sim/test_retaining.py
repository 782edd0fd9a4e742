"""Logs that lose their beginnings, in the simulation: the states are reached, and bugs put back there are caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from raftmq.ids import Offset
from raftmq.partition.machine import PartitionMachine
from raftmq.replica import retention, upkeep
from raftmq.sim.exhaustive import small_plan
from raftmq.sim.plan import Plan, Step, draw
from raftmq.sim.retaining import RetentionPlan
from raftmq.sim.simulation import Result, run_plan

Patch = pytest.MonkeyPatch
FORGETFUL = RetentionPlan(size_bytes=300, trim_ms=40, part_bytes=1, bytes_per_s=1_500)
ABSENCES = ("isolate", "kill", "isolate", "power", "pause", "kill", "isolate")


def dense(seed: int) -> Plan:
    """Three nodes that keep 300 bytes and send a record at a time, and of which one or another is always away."""
    steps = [
        Step(200_000 + number * 260_000, kind, 220_000, (seed * 7 + number, number, number))
        for number, kind in enumerate(ABSENCES)
    ]
    return replace(small_plan(seed), safety=2_400_000, retention=FORGETFUL, steps=steps)


def run(seed: int) -> Result:
    return run_plan(dense(seed))


def test_snapshots_are_installed_interrupted_and_resumed_and_nothing_is_wrong() -> None:
    results = [run(seed) for seed in range(6)]
    assert [result.error for result in results] == [""] * len(results)
    reached = sum((result.states for result in results[1:]), results[0].states)
    for state in (
        "trims applied",
        "snapshots installed",
        "snapshots interrupted UNAVAILABLE",
        "snapshots interrupted by a crash",
        "snapshots resumed",
        "reads below the log start",
    ):
        assert reached[state], (state, reached)


def test_a_run_with_snapshots_is_the_same_again() -> None:
    assert run(3).digest == run(3).digest


def test_some_seeds_forget_by_size_and_some_by_age_and_most_keep_everything() -> None:
    plans = [draw(seed).retention for seed in range(200)]
    assert sum(plan.size_bytes > 0 for plan in plans) > 30
    assert sum(plan.age_ms > 0 for plan in plans) > 5
    assert sum(not plan.forgets for plan in plans) > 100


# -- bugs, put back ----------------------------------------------------------------------------------------------------


def trim_one_too_many(patch: Patch) -> None:
    """Readers lose the oldest records that were to be kept."""
    plan = retention.plan_trim

    def planned(extents: Any, *rest: Any, **more: Any) -> Any:
        command = plan(extents, *rest, **more)
        if command is None:
            return None
        following = [extent for extent in extents if extent.next_offset > command.log_start_offset]
        return replace(command, log_start_offset=Offset(following[-1].next_offset))

    patch.setattr(upkeep, "plan_trim", planned)


def never_let_a_start_stand(patch: Patch) -> None:
    """What readers were told to be gone comes back."""
    apply = PartitionMachine._apply_command

    def applying(self: Any, entry: Any) -> None:
        apply(self, entry)
        self.log_start_offset = Offset(min(self.log_start_offset, entry.index % 7))

    patch.setattr(PartitionMachine, "_apply_command", applying)


BUGS: list[tuple[Callable[[Patch], None], str]] = [
    (trim_one_too_many, "L13"),
    (never_let_a_start_stand, "whose records can still be read"),
]


@pytest.mark.parametrize(("bug", "caught_by"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_a_bug_that_is_put_back_is_caught(bug: Callable[[Patch], None], caught_by: str, monkeypatch: Patch) -> None:
    bug(monkeypatch)
    errors = [result.error for result in map(run, range(6)) if result.error]
    assert any(caught_by in error for error in errors), errors
