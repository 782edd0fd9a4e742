"""``raftmq chaos``: exit codes, and words for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from raftmq.chaos.experiment import find, parse
from raftmq.chaos.verdict import EXPERIMENT_FILE, FAULTS_FILE, HISTORY_FILE, REPORT_FILE, RUN_FILE, VERDICT_FILE
from raftmq.cli.main import build
from tests.chaos.events import Events, final, good, history

runner = CliRunner()
PLAN = "name: x\nshows: y\nminimum: {acknowledged: 4, polled: 5, in_faults: 1}\nfaults: [{fault: kill, at: 1}]\n"
FAULT: dict[str, Any] = {
    "fault": 0, "name": "kill node 1", "injected_s": 0.1, "healed_s": 0.2, "fired": True, "violation": "",
    "evidence": {},
}  # fmt: skip


def leave(folder: Path, *parts: Events, **fault: Any) -> Path:
    """What a run leaves."""
    (folder / EXPERIMENT_FILE).write_text(parse(PLAN, source="x").model_dump_json())
    (folder / RUN_FILE).write_text('{"seed": 5}')
    (folder / FAULTS_FILE).write_text(json.dumps(FAULT | fault) + "\n")
    (folder / HISTORY_FILE).write_text("".join(json.dumps(e) + "\n" for e in history(*parts)))
    return folder


def test_check_judges_a_run_again_and_draws_its_report(tmp_path: Path) -> None:
    done = runner.invoke(build(), ["chaos", "check", str(leave(tmp_path, *good()))])
    assert done.exit_code == 0, done.output
    assert "x: PASS" in done.output
    assert json.loads((tmp_path / VERDICT_FILE).read_text())["level"] == "PASS"
    assert "PASS" in (tmp_path / REPORT_FILE).read_text()


def test_a_violation_is_exit_code_1_with_its_evidence(tmp_path: Path) -> None:
    done = runner.invoke(build(), ["chaos", "check", str(leave(tmp_path, *good(), final(99, offset=7))), "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["level"] == "FAIL"
    assert "no-phantom: records/0 offset 7: value 99 was sent by nobody" in told["reasons"]


def test_a_run_that_shows_nothing_is_exit_code_5(tmp_path: Path) -> None:
    done = runner.invoke(build(), ["chaos", "check", str(leave(tmp_path, *good(), fired=False))])
    assert done.exit_code == 5
    assert "did not fire" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "{folder}"],
        ["run", "no-such-experiment"],
        ["run", "{folder}/none.yml"],
        ["run", "kill-leader", "--duration", "2"],
    ],
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, arguments: list[str]) -> None:
    done = runner.invoke(build(), ["chaos", *(argument.format(folder=tmp_path) for argument in arguments)])
    assert done.exit_code == 2, done.output


@pytest.mark.parametrize("name", ["ring", "moving-replicas", "drained-node"])
def test_a_configuration_with_too_few_nodes_is_refused(tmp_path: Path, name: str) -> None:
    done = runner.invoke(build(), ["chaos", "run", name, "--config", "cluster.yml", "--directory", str(tmp_path / "r")])
    assert done.exit_code == 2, done.output
    assert "nodes or more to touch anything; this cluster has 3" in " ".join(done.output.split())
    assert not (tmp_path / "r").exists()


def test_a_folder_that_is_there_is_not_run_into(tmp_path: Path) -> None:
    done = runner.invoke(build(), ["chaos", "run", "kill-leader", "--directory", str(tmp_path)])
    assert done.exit_code == 2
    assert "exists already" in done.output


def test_list_names_every_experiment() -> None:
    done = runner.invoke(build(), ["chaos", "list", "--json"])
    assert done.exit_code == 0
    names = [one["name"] for one in json.loads(done.stdout)]
    assert {"kill-leader", "isolate-leader", "power-cut"} <= set(names)


def test_make_chaos_names_experiments_that_there_are() -> None:
    text = Path("Makefile").read_text().partition("CHAOS ?= ")[2].partition("\n\n")[0]
    names = text.replace("\\\n", " ").split()
    assert len(names) >= 19
    assert [name for name in names if not find(name).exists()] == []


@pytest.mark.parametrize("command", [["run"], ["check"], []])
def test_help_tells_the_exit_codes(command: list[str]) -> None:
    done = runner.invoke(build(), ["chaos", *command, "--help"])
    assert "UNAVAILABLE" in done.output
    assert "INVALID" in done.output
