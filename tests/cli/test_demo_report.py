"""The verdict: what is printed, what a script reads, and the exit code."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from raftmq.cli.demo import command
from raftmq.cli.demo.checks import Check
from raftmq.cli.demo.figures import Latency
from raftmq.cli.demo.report import Report
from raftmq.cli.main import build

GOOD = Report(
    dataset="flights.csv.zip",
    records=1000,
    payload_bytes=4_000_000,
    produce_seconds=2.0,
    ack_latency=Latency(0.010, 0.250, 1.5),
    killed_node=2,
    standstill={0: 0.1, 1: 1.25},
    recovery_seconds=3.0,
    read_seconds=0.5,
    checks=(Check("nothing lost", True, "1,000 acknowledged"), Check("nothing twice", True, "1,000 read")),
)
BAD = replace(GOOD, checks=(GOOD.checks[0], Check("nothing twice", False, "1 repeats: row 7 (2 times)")))


def printed(report: Report) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(report.render())
    return out.getvalue()


def test_the_table_has_every_figure() -> None:
    text = printed(GOOD)
    for figure in ("500 records/s", "2.0 MB/s", "10 ms", "250 ms", "1,500 ms", "1,250 ms", "3.0 s", "2,000 records/s"):
        assert figure in text
    assert text.rstrip().endswith("PASSED: every acknowledged record is there, once, in order, on every replica")


def test_a_failed_check_fails_the_verdict() -> None:
    assert not BAD.passed
    text = printed(BAD)
    assert "FAILED" in text
    assert "1 repeats: row 7 (2 times)" in text
    assert "PASSED" not in text


def test_the_json_has_the_same() -> None:
    document = json.loads(json.dumps(BAD.as_json()))
    assert document["passed"] is False
    assert (document["records_per_second"], document["bytes_per_second"]) == (500.0, 2_000_000.0)
    assert document["standstill"] == {"0": 0.1, "1": 1.25}
    assert document["checks"][1] == {"name": "nothing twice", "passed": False, "evidence": "1 repeats: row 7 (2 times)"}


@pytest.mark.parametrize(("report", "code"), [(GOOD, 0), (BAD, 1)])
def test_the_exit_code_is_the_verdict(
    report: Report, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cluster:
        stopped = False

        async def stop_all(self) -> None:
            self.stopped = True

    class Demo:
        def __init__(self, *_: object) -> None: ...

        async def run(self) -> Report:
            return report

    cluster = Cluster()

    async def start(*_: object) -> Cluster:
        return cluster

    rows = tmp_path / "rows.csv"
    rows.write_text("a\n1\n2\n3\n4\n")
    data = tmp_path / "demo"
    data.mkdir()
    monkeypatch.setattr(command, "Demo", Demo)
    monkeypatch.setattr(command, "_start", start)
    ended = CliRunner().invoke(build(), ["demo", "--input", str(rows), "--directory", str(data), "--json"])
    assert ended.exit_code == code
    assert json.loads(ended.stdout)["passed"] is (code == 0)
    assert cluster.stopped
    assert data.exists() is (code != 0), "data is left for a look only if something is wrong"
