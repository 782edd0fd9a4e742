"""A power cut on real nodes, as it is made where nobody may mount a disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from raftmq.chaos import disks, engine, shim
from raftmq.chaos.engine import Settings
from raftmq.chaos.experiment import parse
from raftmq.chaos.live import View
from raftmq.chaos.verdict import Level
from raftmq.cli.supervisor import LocalCluster

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shim.why_missing() is not None, reason=str(shim.why_missing())),
]

SHORT = """
name: short
shows: what was not synced when the power failed was not needed
duration: 6
settle: 3
bounds: {leader_s: 60, acknowledged_s: 60}
minimum: {acknowledged: 100}
faults: [{fault: power-cut, target: all, at: 2, lasts: 1}]
"""


async def test_all_nodes_lose_what_they_had_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "_needs_root", lambda: "no root")
    plan = parse(SHORT, source="short.yml")
    settings = Settings(tmp_path / "run", 1, sys.executable, LocalCluster)
    verdict, _ = await engine.run(plan, settings, View(Console(stderr=True), plan.name))
    assert verdict.level is Level.PASS, verdict.reasons
    (fault,) = verdict.faults
    assert fault["means"].startswith("preloaded library")
    taken = fault["evidence"]["bytes_taken_back_of_logs_and_others"]
    assert set(taken) == {"1", "2", "3"}
    assert any(logs for logs, _ in taken.values())
