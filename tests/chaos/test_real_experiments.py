"""Short experiments on real nodes, with a real toxiproxy-server where there is one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from raftmq.chaos import engine
from raftmq.chaos.engine import Settings
from raftmq.chaos.experiment import Experiment, parse
from raftmq.chaos.live import View
from raftmq.chaos.proxies import BINARY_VARIABLE, why_missing
from raftmq.chaos.report import page
from raftmq.chaos.verdict import HISTORY_FILE, Level, Verdict, judge_folder
from raftmq.cli.supervisor import LocalCluster

pytestmark = pytest.mark.integration

SHORT = """
name: short
shows: the means work
duration: {duration}
settle: 4
bounds: {{leader_s: 60, acknowledged_s: 60}}
minimum: {{acknowledged: 300}}
faults: {faults}
"""
needs_proxies = pytest.mark.skipif(why_missing() is not None, reason=str(why_missing()))


def short(faults: str, duration: int = 10) -> Experiment:
    """The bounds are for a cluster that never comes back, not for a slow machine."""
    return parse(SHORT.format(faults=faults, duration=duration), source="short.yml")


async def run(plan: Experiment, folder: Path) -> Verdict:
    view = View(Console(stderr=True), plan.name)
    verdict, events = await engine.run(plan, Settings(folder, 1, sys.executable, LocalCluster), view)
    page.write(folder / "report.html", plan, verdict, events, seed=1)
    return verdict


async def test_the_leader_dies(tmp_path: Path) -> None:
    verdict = await run(short("[{fault: kill, target: leader, at: 3, lasts: 3}]"), tmp_path / "run")
    assert verdict.level is Level.PASS, verdict.reasons
    again, _ = judge_folder(tmp_path / "run")
    assert again == verdict


@needs_proxies
async def test_the_leader_is_isolated(tmp_path: Path) -> None:
    faults = "[{fault: cut, shape: isolate, target: leader, at: 3, lasts: 6}]"
    verdict = await run(short(faults, duration=12), tmp_path / "run")
    assert verdict.level is Level.PASS, verdict.reasons
    (fault,) = verdict.faults
    assert fault["evidence"]["before"]["pongs"] == 1
    assert fault["evidence"]["during"]["pongs"] == 0


async def test_links_are_cut_without_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BINARY_VARIABLE, "/nowhere/toxiproxy-server")
    verdict = await run(short("[{fault: cut, shape: isolate, target: leader, at: 3, lasts: 4}]"), tmp_path / "run")
    assert verdict.level is Level.PASS, verdict.reasons
    (fault,) = verdict.faults
    assert fault["means"] == "message layer in the nodes"
    assert min(fault["evidence"]["dropped"].values()) > 0


async def test_a_cluster_that_does_not_come_up_shows_nothing(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "run", 1, "/bin/false", LocalCluster)
    verdict, _ = await engine.run(short("[{fault: kill, at: 3}]"), settings, View(Console(stderr=True), "x"))
    assert verdict.level is Level.INVALID
    assert verdict.reasons[0].startswith("the cluster did not come up: ")


async def test_what_this_machine_cannot_do_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BINARY_VARIABLE, "/nowhere/toxiproxy-server")
    verdict = await run(short("[{fault: cut, shape: clients, at: 3}]"), tmp_path / "run")
    assert verdict.level is Level.UNAVAILABLE
    assert not (tmp_path / "run" / HISTORY_FILE).exists()
