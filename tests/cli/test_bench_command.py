"""``raftmq bench`` as a person runs it, with real nodes where it starts some."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from raftmq.cli.bench import calls, failover, idle, queue, restart, soak
from raftmq.cli.bench.calls import CallsSetting
from raftmq.cli.bench.failover import Victim
from raftmq.cli.bench.producing import Setting
from raftmq.cli.bench.queue import QueueSetting
from raftmq.cli.bench.stage import on_stage
from raftmq.cli.runtime import DEFAULT_CONFIG, Target
from raftmq.client import Acks
from tests.cli.conftest import Command
from tests.cli.test_bench_loads import FLOORS

OK, FAILED, USAGE = range(3)
CERTAIN = {"worked on: counted", "held: counted", "scheduled: all delivered", "committed: the last one holds"}
"""Of the checks of queues, those that hold on however slow a machine."""


async def test_the_floor_is_six_measurements(raftmq_command: Command) -> None:
    ended = await raftmq_command("bench", "floor", "--seconds", "0.1", "--json")
    assert ended.code == OK, ended.err
    assert all(figure["value"] > 0 for figure in ended.document["figures"])
    assert [one["p50"] <= one["p99"] <= one["maximum"] for one in ended.document["latencies"]] == [True] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("produce", "--size", "7"), "--size"),
        (("produce", "--acks", "some"), "--acks"),
        (("consume", "--consumers", "4"), "each needs a partition at least"),
        (("failover",), "nodes are killed"),
        (("restart", "--volume", "1"), "nodes are killed"),
        (("all", "--readme", "there.md"), "the document needs one line"),
        (("all", "--partitions", "0"), "--partitions"),
    ],
)
async def test_wrong_usage_is_told_at_once(
    raftmq_command: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "there.md").write_text("nothing\n")
    ended = await raftmq_command("bench", *arguments)
    assert (ended.code, said in ended.err) == (USAGE, True), ended.err


@pytest.mark.integration
async def test_produce_on_nodes_of_its_own(raftmq_command: Command, tmp_path: Path) -> None:
    ended = await raftmq_command(
        "bench", "produce", "--cluster", "--records", "5000", "--batch", "100", "--json", "--chart", "c.svg"
    )
    assert ended.code == OK, ended.out + ended.err
    assert [check["passed"] for check in ended.document["checks"]] == [True, True]
    assert {one["name"] for one in ended.document["usage"]} == {"node 1", "node 2", "node 3", "producer 1"}
    assert ended.document["figures"][1]["ratio"] > 0
    ElementTree.fromstring((tmp_path / "c.svg").read_text())
    assert os.listdir(tmp_path / "data/bench") == []


@pytest.mark.integration
async def test_what_kills_nodes_on_nodes_of_its_own(tmp_path: Path) -> None:
    async with on_stage(Target(None, DEFAULT_CONFIG), tmp_path) as stage:
        single = await calls.measure(stage, FLOORS, CallsSetting(0.5, concurrency=4, partitions=2))
        assert single.passed, single.checks
        streamed = await calls.measure(stage, FLOORS, CallsSetting(0.5, concurrency=4, partitions=2, stream=True))
        assert streamed.passed, streamed.checks
        packed = await calls.measure(stage, FLOORS, CallsSetting(0.5, concurrency=4, partitions=2, packed=True))
        assert packed.passed, packed.checks
        assert packed.figures[1].value >= 1, "records a message"
        queued = await queue.measure(stage, FLOORS, QueueSetting(0.5, messages=2_000, workers=2, partitions=2))
        assert [check for check in queued.checks if not check.passed and check.name in CERTAIN] == []
        assert len(CERTAIN & {check.name for check in queued.checks}) == len(CERTAIN)
        killed = await failover.measure(stage, FLOORS, 1, Victim.LEADER, size=10, batch=2)
        assert killed.passed, killed.checks
        assert killed.latencies[0].spread.maximum > 0
        assert killed.figures[-1].value > 0
        restarted = await restart.measure(stage, FLOORS, 1, size=1000, partitions=2)
        assert restarted.passed, restarted.checks
        soaked = await soak.measure(stage, FLOORS, Setting(2, 1, 100, 100, 2, Acks.ALL, 1.0, None), keep=1_000_000)
        # Who was just killed and came back may be elected again, or be given back what it led.
        assert [check for check in soaked.checks if not check.passed and "election" not in check.name] == []
        assert [figure.unit for figure in soaked.figures] == ["records/s", "MB/s", "", "MB", "MB/min"]
        alone = await idle.measure(stage, FLOORS, 5, 0.5)
        assert len(alone.usage) == 3
        assert len(stage.processes) == 2
    assert os.listdir(tmp_path) == []
