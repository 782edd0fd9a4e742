"""Topics that are only so deep, in the simulation: every policy is met, and bugs put back there are caught."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from raftmq.client.types import Overflow
from raftmq.sim.depth import POLICIES, DepthPlan
from raftmq.sim.plan import Plan, draw
from raftmq.sim.simulation import run_plan
from tests.mutants.table import all_mutants
from tests.sim.test_queueing import dense


def shallow(seed: int, overflow: Overflow) -> Plan:
    """A dense plan of queues whose topic has room for a few records only."""
    plan = dense(seed, ordered_by_key=False, retention="log")
    queues = [replace(queue, work_ms=40.0, tending=("redrive",)) for queue in plan.queues]
    return replace(plan, queues=queues, depth=DepthPlan("t0", overflow, max_records=10))


@pytest.mark.parametrize(
    ("overflow", "state"),
    [
        ("reject", "call QUEUE_FULL"),
        ("drop_oldest", "records dropped for newer ones"),
        ("sample", "call OVERFLOW_DROPPED"),
        ("drop_lowest_priority", "call OVERFLOW_DROPPED"),
    ],
)
def test_a_partition_is_as_deep_as_it_may_be(overflow: Overflow, state: str) -> None:
    result = run_plan(shallow(1, overflow))
    assert (result.error, result.states[state] > 0) == ("", True)


def test_of_the_seeds_with_queues_some_have_a_limit() -> None:
    plans = [plan for seed in range(600) if (plan := draw(seed)).queues]
    policies = Counter(plan.depth.overflow for plan in plans if plan.depth is not None)
    assert set(policies) == set(POLICIES)
    assert 0.2 < sum(policies.values()) / len(plans) < 0.6


@pytest.mark.parametrize("name", ["partition-half-as-deep", "refused-records-not-counted"])
def test_a_bug_that_is_put_back_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    all_mutants()[name].apply(monkeypatch)
    errors = (run_plan(shallow(seed, "reject")).error for seed in range(4))
    assert any(error.startswith("L16") for error in errors)
