"""A run that breaks off ends in a verdict all the same."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from raftmq.chaos import engine
from raftmq.chaos.arena import Arena
from raftmq.chaos.engine import Settings
from raftmq.chaos.experiment import parse
from raftmq.chaos.live import View
from raftmq.chaos.report import page
from raftmq.chaos.verdict import FAULTS_FILE, REPORT_FILE, VERDICT_FILE, Level, Verdict, judge_folder
from raftmq.cli.main import build
from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import NotReady
from tests.chaos import fake_arena

PLAN = parse("name: x\nshows: y\nduration: 1\nfaults: [{fault: kill, at: 0.1, lasts: 0.1}]", source="x")


class NoTopics:
    def __init__(self) -> None:
        self.admin = self

    async def create_topic(self, *_arguments: Any, **_named: Any) -> None:
        raise NotReady("no controller")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cluster comes up, and its topic cannot be made."""
    monkeypatch.setattr(engine, "_mount_disks", lambda *_: "no root")

    async def come_up(_plan: Any, settings: Settings, _means: Any, _view: Any, stack: AsyncExitStack) -> Arena:
        return await stack.enter_async_context(world(settings.folder))

    @asynccontextmanager
    async def world(folder: Path) -> AsyncIterator[Arena]:
        async with fake_arena.arena(folder, proxied=False) as (arena, _):
            arena.admin = NoTopics()  # type: ignore[assignment]
            yield arena

    monkeypatch.setattr(engine, "_come_up", come_up)


async def run(folder: Path) -> Verdict:
    view = View(Console(file=io.StringIO()), "x")
    verdict, events = await engine.run(PLAN, Settings(folder, 1, "python", LocalCluster), view)
    page.write(folder / REPORT_FILE, PLAN, verdict, events, seed=1)
    return verdict


async def test_it_is_invalid_with_its_reason_and_a_report(broken: None, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    verdict = await run(folder)
    assert verdict.level is Level.INVALID
    assert verdict.reasons == ("the run broke off: NotReady: no controller",)
    assert json.loads((folder / VERDICT_FILE).read_text())["level"] == "INVALID"
    assert "the run broke off: NotReady: no controller" in (folder / REPORT_FILE).read_text()
    assert (folder / FAULTS_FILE).read_text() == ""
    again, _ = judge_folder(folder)
    assert again == verdict


async def test_what_cannot_be_taken_down_is_told(broken: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def mount(_experiment: Any, _built: Any, stack: AsyncExitStack) -> str:
        stack.callback(lambda: (tmp_path / "nowhere").rmdir())
        return ""

    monkeypatch.setattr(engine, "_mount_disks", mount)
    verdict = await run(tmp_path / "run")
    assert verdict.level is Level.INVALID
    assert verdict.reasons[1].startswith("the run could not be ended: FileNotFoundError")


async def test_a_history_that_cannot_be_judged_is_told(
    broken: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def wrong(*_arguments: Any) -> Verdict:
        raise ZeroDivisionError("a check with a bug")

    monkeypatch.setattr(engine, "judge", wrong)
    verdict = await run(tmp_path / "run")
    assert verdict.level is Level.INVALID
    assert verdict.reasons == ("the history cannot be judged: ZeroDivisionError: a check with a bug",)


def test_the_command_ends_with_exit_code_5_and_leaves_a_report(broken: None, tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text("name: x\nshows: y\nfaults: [{fault: kill, at: 1}]\n")
    done = CliRunner().invoke(build(), ["chaos", "run", str(file), "--directory", str(tmp_path / "run")])
    assert done.exit_code == 5, done.output
    assert "the run broke off: NotReady: no controller" in done.output
    assert (tmp_path / "run" / REPORT_FILE).exists()
