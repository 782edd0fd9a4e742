"""Workers that acknowledge and publish in one step: the states are reached, and bugs put back there are caught."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from raftmq.sim.handing_over import HandingPlan
from raftmq.sim.plan import Plan, draw
from raftmq.sim.simulation import run_plan
from tests.mutants.table import all_mutants
from tests.sim.test_queueing import dense


def handing(seed: int, share: float = 1.0) -> Plan:
    """A dense plan of queues whose workers hand over, and know two messages for the same work."""
    plan = dense(seed, ordered_by_key=False, processed_keys_max=10_000)
    queues = [
        replace(queue, handing=HandingPlan(share, 2), prefetch=8, tending=("redrive", "seek")) for queue in plan.queues
    ]
    return replace(plan, queues=queues)


def test_everything_is_handed_over_once_whatever_happens() -> None:
    results = [run_plan(handing(seed, share)) for seed, share in ((0, 1.0), (1, 1.0), (2, 0.5))]
    assert [result.error for result in results] == [""] * len(results)
    reached = sum((result.states for result in results), Counter[str]())
    for state in (
        "results published",
        "hand-overs told as duplicates",
        "hand-overs of several messages",
        "hand-overs that overlap",
        "hand-overs of work done before",
        "hand-overs with other records refused",
        "hand-over LEASE_EXPIRED",
    ):
        assert reached[state], (state, reached)


def test_of_groups_some_hand_over_and_some_of_those_everything() -> None:
    shares = Counter(queue.handing.share for seed in range(600) for queue in draw(seed).queues)
    assert set(shares) == {0.0, 0.5, 1.0}
    assert shares[0.0] > shares[0.5] + shares[1.0] > 30


@pytest.mark.parametrize(
    ("name", "caught_by"),
    [("acknowledged-in-an-entry-of-its-own", "Q"), ("known-work-published-again", "Q8")],
)
def test_a_bug_that_is_put_back_is_caught(name: str, caught_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    all_mutants()[name].apply(monkeypatch)
    errors = (run_plan(handing(seed)).error for seed in range(4))
    assert any(error.startswith(caught_by) for error in errors)
