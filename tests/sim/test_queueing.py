"""Workers of queue groups in the simulation: the states are reached, and bugs put back there are caught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from raftmq.client.queue_admin import QueueSettings
from raftmq.partition.queues import ops
from raftmq.partition.queues.commands import Status, Verdict
from raftmq.partition.queues.group import QueueGroup
from raftmq.replica.queues.host import QueueHost
from raftmq.sim.exhaustive import small_plan
from raftmq.sim.plan import Plan, Step, draw
from raftmq.sim.queueing import TENDING, QueuePlan
from raftmq.sim.simulation import run_plan

Patch = pytest.MonkeyPatch
SETTINGS = QueueSettings(
    ordered_by_key=True, lease_ms=100, attempts_max=2, backoff_first_ms=20, backoff_max_ms=60, retention="delete_on_ack"
)


def dense(seed: int, **settings: Any) -> Plan:
    """Three workers of one ordered group, operators who seek, redrive and pause, and leaders that come and go."""
    queue = QueuePlan(
        topic="t0", group="q0", settings=replace(SETTINGS, **settings), workers=3, prefetch=4, hands=2, work_ms=20.0,
        session_ms=400, patience_ms=300, tending=TENDING, keys=4, special=0.2,
    )  # fmt: skip
    plan = small_plan(seed)
    steps = [
        Step(300_000 + number * 350_000, kind, 200_000, (seed * 7 + number, 1, number))
        for number, kind in enumerate(("kill", "transfer", "isolate", "transfer", "lossy_calls"))
    ]
    retention = replace(plan.retention, trim_ms=60)
    return replace(plan, safety=2_200_000, queues=[queue], steps=steps, retention=retention)


def test_messages_come_to_every_end_and_nothing_is_wrong() -> None:
    results = [run_plan(dense(seed)) for seed in range(3)]
    assert [result.error for result in results] == [""] * len(results)
    reached = sum((result.states for result in results), Counter[str]())
    for state in (
        "messages parked",
        "messages redriven",
        "queues sought",
        "verdict ack taken",
        "verdict retry taken",
        "verdict LEASE_EXPIRED",
        "verdicts DUPLICATE",
        "verdicts under another leader",
        "records held beside the log",
        "trims applied",
        "leases run out",
    ):
        assert reached[state], (state, reached)


def test_about_one_seed_of_five_has_queues() -> None:
    plans = [draw(seed) for seed in range(300)]
    assert 45 < sum(bool(plan.queues) for plan in plans) < 90
    settings = [queue.settings for plan in plans for queue in plan.queues]
    assert {one.retention for one in settings} == {"log", "delete_on_ack", "all_groups"}
    assert {one.at_end for one in settings} == {"park", "drop"}


# -- bugs, put back ----------------------------------------------------------------------------------------------------


def told_taken_whatever_it_was(patch: Patch) -> None:
    """A worker whose lease is over is told that its verdict counts."""
    settle = QueueHost.settle

    async def settled(self: QueueHost, *asked: Any) -> list[Status]:
        return [Status.OK for _ in await settle(self, *asked)]

    patch.setattr(QueueHost, "settle", settled)


def closed_when_released(patch: Patch) -> None:
    """What a worker gives back is gone."""
    settle_one = ops._settle_one

    def settled(group: Any, lease: Any, op: Any, *rest: Any) -> Status:
        return settle_one(
            group, lease, replace(op, verdict=Verdict.ACK) if op.verdict is Verdict.RELEASE else op, *rest
        )

    patch.setattr(ops, "_settle_one", settled)


def any_record_of_a_key(patch: Patch) -> None:
    """A key's next record is handed out while the one before is under way."""
    patch.setattr(QueueGroup, "_key", lambda self, offset: 0)


def failures_not_counted(patch: Patch) -> None:
    """A record that fails counts as one that was given back."""

    def failing(group: QueueGroup, offset: int, *rest: Any) -> Status:
        group.give_back(offset, rest[-1])
        return Status.OK

    patch.setattr(ops, "_fail", failing)


BUGS: list[tuple[Callable[[Patch], None], str]] = [
    (told_taken_whatever_it_was, "Q1"),
    (closed_when_released, "Q"),
    (any_record_of_a_key, "Q7"),
    (failures_not_counted, "Q4"),
]


@pytest.mark.parametrize(("bug", "caught_by"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_a_bug_that_is_put_back_is_caught(bug: Callable[[Patch], None], caught_by: str, monkeypatch: Patch) -> None:
    bug(monkeypatch)
    errors = (run_plan(dense(seed)).error for seed in range(4))
    assert any(error.startswith(caught_by) for error in errors)
