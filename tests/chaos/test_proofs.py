"""No fault is believed to have fired that did nothing; and what it did ask for, it takes back."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from raftmq.chaos import disks, faults
from raftmq.chaos.arena import Arena, Means
from raftmq.chaos.faults import disk, outlive, reads, restarts, shimmed, unsynced
from raftmq.chaos.faults.base import Fault
from raftmq.chaos.frames import Order
from raftmq.chaos.plans import FaultPlan
from tests.chaos import fake_arena

PLAN: TypeAdapter[Any] = TypeAdapter(FaultPlan)

PROXIED: list[dict[str, Any]] = [
    {"fault": "kill"},
    {"fault": "pause"},
    {"fault": "rolling-restart"},
    {"fault": "starve", "manner": "hogs", "hogs": 1},
    {"fault": "cut"},
    {"fault": "cut", "manner": "hold"},
    {"fault": "cut", "manner": "refuse"},
    {"fault": "cut", "shape": "clients"},
    {"fault": "disturb", "toxic": "latency", "attributes": {"latency": 900}},
    {"fault": "disturb", "toxic": "bandwidth", "attributes": {"rate": 1}},
    {"fault": "disturb", "toxic": "slicer", "attributes": {"average_size": 1}},
    {"fault": "disturb", "toxic": "reset_peer"},
    {"fault": "disturb", "toxic": "limit_data", "attributes": {"bytes": 10}},
    {"fault": "disturb", "toxic": "slow_close", "attributes": {"delay": 2000}},
    {"fault": "messages", "duplicate": 1000, "replay": 1000},
    {"fault": "sync-error"},
    {"fault": "slow-sync"},
    {"fault": "read-error"},
    {"fault": "read-error", "when": "serve", "target": "leader"},
    {"fault": "slow-read"},
    {"fault": "die"},
    {"fault": "disk-full"},
    {"fault": "power-cut"},
    {"fault": "clock-jump"},
    {"fault": "clock-rate"},
    {"fault": "damage", "what": "flip"},
    {"fault": "damage", "what": "delete"},
    {"fault": "damage", "what": "wipe"},
    {"fault": "twin"},
    {"fault": "leader-storm"},
    {"fault": "slow-consumers", "consumers": 1},
    {"fault": "outlive", "manner": "kill"},
    {"fault": "outlive", "manner": "cut"},
    {"fault": "move-replicas"},
    {"fault": "drain-node"},
]
BARE: list[dict[str, Any]] = [
    {"fault": "cut"},
    {"fault": "cut", "manner": "hold"},
    {"fault": "disturb", "toxic": "latency", "attributes": {"latency": 900}},
    {"fault": "outlive", "manner": "cut"},
    {"fault": "disk-full"},
    {"fault": "power-cut"},
]
"""What is made otherwise where there are neither proxies nor root."""


def of(plan: dict[str, Any], arena: Arena) -> Fault[Any]:
    return faults.make(PLAN.validate_python({"at": 1, "lasts": 0} | plan), arena)


async def once(fault: Fault[Any]) -> None:
    """As the engine does it: whatever becomes of the one, the other is tried."""
    for step in (fault.inject, fault.heal):
        with contextlib.suppress(Exception):
            await step()


@pytest.fixture(autouse=True)
def _without_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not the arena's own to do is not done either, and nobody waits for it for long."""
    monkeypatch.setattr(disks, "cut_power", lambda directory: None)
    monkeypatch.setattr(disks, "restore_power", lambda directory: None)
    monkeypatch.setattr(disk, "_damage", lambda path, what: {})
    monkeypatch.setattr(shutil, "rmtree", lambda directory: None)
    for module, name in (
        (disk, "STOPS_SECONDS"), (shimmed, "STOPS_SECONDS"), (reads, "STARTS_SECONDS"), (restarts, "READY_SECONDS"),
        (outlive, "REMOVED_SECONDS"), (outlive, "FETCHED_SECONDS"), (unsynced, "WRITES_SECONDS"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 0.05)


def taken_back(arena: Arena, done: list[str]) -> None:
    asked = Counter(tuple(one.split(" ", 1)) for one in done if " " in one)
    for there, back in (("add", "remove"), ("disable", "enable"), ("pause", "resume")):
        assert {what: n for (verb, what), n in asked.items() if verb == there} == {
            what: n for (verb, what), n in asked.items() if verb == back
        }
    for cells in (*arena.shims.values(), *arena.frames.values()):
        assert [cells[i] for i in range(16) if i != Order.DELAY_MS] == [0] * 15


def _id(plan: dict[str, Any]) -> str:
    return " ".join(str(plan[key]) for key in ("fault", "shape", "manner", "toxic", "what", "when") if key in plan)


@pytest.mark.parametrize("plan", PROXIED, ids=_id)
async def test_what_had_no_effect_has_not_fired(plan: dict[str, Any], tmp_path: Path) -> None:
    # Writes to this file fail, and not for want of room.
    async with fake_arena.arena(tmp_path, nodes=4 if plan["fault"] == "move-replicas" else 3) as (arena, done):
        ballast = arena.topology.config.node(1).data_directory / disks.BALLAST
        ballast.symlink_to("/proc/self/oom_score_adj")
        fault = of(plan, arena)
        await once(fault)
        assert not fault.proof.fired, fault.proof.evidence
        assert not fault.proof.violation
        taken_back(arena, done)


@pytest.mark.parametrize("plan", BARE, ids=_id)
async def test_neither_without_proxies_and_disks(plan: dict[str, Any], tmp_path: Path) -> None:
    async with fake_arena.arena(tmp_path, proxied=False) as (arena, done):
        fault = of(plan, arena)
        await once(fault)
        assert not fault.proof.fired, fault.proof.evidence
        taken_back(arena, done)


@pytest.mark.parametrize("plan", [one for one in PROXIED if one["fault"] in ("cut", "disturb")], ids=_id)
async def test_nothing_is_shown_by_a_link_behind_which_nobody_answered_before(
    plan: dict[str, Any], tmp_path: Path
) -> None:
    async with fake_arena.arena(tmp_path, alive=False) as (arena, _):
        fault = of(plan, arena)
        await once(fault)
        assert not fault.proof.fired, fault.proof.evidence


async def test_a_process_that_is_gone_is_not_starved(tmp_path: Path) -> None:
    async with fake_arena.arena(tmp_path, alive=False) as (arena, _):
        fault = of({"fault": "starve"}, arena)
        await once(fault)
        assert not fault.proof.fired


def test_every_fault_is_among_them() -> None:
    every = {*faults._CLASSES.values(), *faults._WITHOUT_PROXIES.values(), *faults._WITHOUT_DISKS.values()}
    tried = {
        faults._class(PLAN.validate_python({"at": 1} | plan), means)
        for plans, means in (
            (PROXIED, Means()),
            (BARE, Means(why_no_proxies="none", why_no_disks="no root")),
        )
        for plan in plans
    }
    assert tried == every
