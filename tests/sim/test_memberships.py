"""Consumer groups in the simulation: the states are reached, and a run of them is the same again."""

from __future__ import annotations

from dataclasses import replace

from raftmq.sim.exhaustive import small_plan
from raftmq.sim.group_plan import GroupPlan, Life
from raftmq.sim.plan import Plan, Step, draw
from raftmq.sim.simulation import Result, run_plan, run_seed

SECOND = 1_000_000
GROUP = GroupPlan(
    name="readers", commit="manual", commit_interval_ms=50, assignor="sticky", session_ms=1_000, rebalance_ms=1_000,
    process_ms=2.0, max_bytes=200, partitions=1, grace_ms=1_000, reclaim_bytes=400, trim_ms=100, is_timely=True,
    is_primed=True,
    lives=(
        Life(0, 3 * SECOND, "stay", oversleeps=2 * SECOND),
        Life(0, 3 * SECOND, "stay", instance="named"),
        Life(SECOND // 10, SECOND, "kill"),
        Life(SECOND, 2 * SECOND, "leave", instance="named"),
        Life(2 * SECOND, 2 * SECOND, "leave"),
    ),
)  # fmt: skip


def crowded(seed: int) -> Plan:
    """Three nodes, one of which or another is always away, and members that come, go and sleep."""
    away = [
        Step(200_000 + number * 400_000, ("isolate", "kill", "power")[number % 3], 300_000, (seed + number, number, 0))
        for number in range(8)
    ]
    small = small_plan(seed)
    producers = [replace(small.producers[0], topic="t0", partitions=4, pause_ms=50.0)]
    return replace(small, topics={"t0": 4}, producers=producers, safety=4 * SECOND, group=GROUP, steps=away)


def run(seed: int) -> Result:
    return run_plan(crowded(seed))


def test_members_come_and_go_while_coordinators_die_and_forget_their_logs() -> None:
    results = [run(seed) for seed in range(3)]
    assert [result.error for result in results] == [""] * len(results)
    reached = sum((result.states for result in results[1:]), results[0].states)
    for state in (
        "trims applied",
        "snapshots installed",
        "members fenced",
        "members killed",
        "members overslept",
        "partitions lost",
        "group commits ok",
        "group commits failed",
        "committed offsets answered",
    ):
        assert reached[state], (state, reached)


def test_a_run_with_a_group_is_the_same_again() -> None:
    first, second = run(1), run(1)
    assert (first.digest, first.events, first.states) == (second.digest, second.events, second.states)


def test_some_seeds_have_a_group_and_less_of_everything_else() -> None:
    plans = [draw(seed) for seed in range(200)]
    assert 20 < sum(plan.group is not None for plan in plans) < 60
    assert all(len(plan.producers) == 1 and not plan.thin and not plan.published for plan in plans if plan.group)


def test_a_seed_that_has_a_group_says_what_its_members_came_through() -> None:
    seed = next(seed for seed in range(200) if draw(seed).group is not None)
    assert run_seed(seed).states["members started"]
