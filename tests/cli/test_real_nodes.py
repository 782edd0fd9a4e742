"""The commands that start nodes, with the real nodes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from raftmq import config
from raftmq.cli.demo.place import free_ports
from raftmq.config import ClusterConfig, NodeEntry
from tests.cli.conftest import Command

pytestmark = pytest.mark.integration


@pytest.fixture
def cluster_file(tmp_path: Path) -> Path:
    """A cluster.yml on free ports, where the command under test finds it."""
    ports = free_ports(9)
    nodes = tuple(
        NodeEntry(
            id=i, client_port=ports.pop(), peer_port=ports.pop(), http_port=ports.pop(), data=tmp_path / f"data/n{i}"
        )
        for i in (1, 2, 3)
    )
    file = tmp_path / "cluster.yml"
    file.write_text(config.dump(ClusterConfig(cluster="test", nodes=nodes)))
    return file


async def test_a_cluster_is_started_used_and_stopped(raftmq_command: Command, cluster_file: Path) -> None:
    up = await raftmq_command("up", "--detach")
    try:
        assert up.code == 0, up.err
        assert up.out.startswith("healthy: 3 nodes")
        again = await raftmq_command("up", "--detach")
        assert (again.code, "all nodes run already" in again.err) == (0, True)
        assert (await raftmq_command("topic", "create", "orders")).code == 0
        assert (await raftmq_command("produce", "orders", "-p", "1", stdin=b"one\ntwo\n")).code == 0
        assert (await raftmq_command("consume", "orders")).out == "one\ntwo\n"
        told = await raftmq_command("topic", "producers", "orders", "--json")
        assert [(one["partition"], one["first_sequence"], one["last_offset"]) for one in told.document] == [(1, 0, 1)]
        assert (await raftmq_command("cluster", "status")).code == 0
        pid = int(cluster_file.with_name("data").joinpath("n3.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        degraded = await raftmq_command("cluster", "status", "--json")
        assert (degraded.code, degraded.document["health"] != "healthy") == (1, True)
        assert (await raftmq_command("up", "--detach")).code == 0
    finally:
        down = await raftmq_command("down")
    assert (down.code, down.err) == (0, "stopped nodes 1, 2, 3\n")
    assert "no node runs" in (await raftmq_command("down")).err


async def test_the_demo_passes_on_a_file_of_ones_own(
    raftmq_command: Command, cluster_file: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("key,text\n" + "".join(f"{'' if i % 9 == 0 else f'k{i % 40}'},row {i}\n" for i in range(4000)))
    ended = await raftmq_command("demo", "--input", "rows.csv", "--key", "key", "--json")
    assert ended.code == 0, ended.out + ended.err
    assert ended.document["records"] == 4000
    assert [check["name"] for check in ended.document["checks"] if not check["passed"]] == []
    assert not (tmp_path / "data/demo").exists()


CANNOT_FAIL_FOR_WANT_OF_TIME = {
    "every record was answered", "nothing accepted was lost", "nothing refused was served", "memory was flat",
}  # fmt: skip
"""The others are about rates, or are other than usual where a leader was lost: a slow machine might not come up to
them."""


async def test_the_flash_sale_answers_every_record_and_loses_none_that_it_took(
    raftmq_command: Command, cluster_file: Path, tmp_path: Path
) -> None:
    ended = await raftmq_command("demo", "flash-sale", "--seconds", "2", "--json")
    told = ended.document
    checks = {check["name"]: check["passed"] for check in told["checks"]}
    assert {name: checks[name] for name in CANNOT_FAIL_FOR_WANT_OF_TIME} == dict.fromkeys(
        CANNOT_FAIL_FOR_WANT_OF_TIME, True
    ), ended.out + ended.err
    assert len(checks) == 7
    assert told["offered"] == 3 * 20 + 2 * 2_000
    assert told["accepted"] + told["refused"] + told["unknown"] == told["offered"]
    assert told["accepted"] >= 3 * 20, "there was room for the first ones"
    assert told["refused"] == sum(told["reasons"].values())
    assert told["memory_before_mib"].keys() == told["memory_peak_mib"].keys() == {"1", "2", "3"}
    assert told["passed"] == all(checks.values())
    assert ended.code == (0 if told["passed"] else 1)
    assert (tmp_path / "data/demo").exists() != told["passed"], "data and logs are left where it failed"


async def test_a_demo_that_is_kept_can_be_used_and_stopped(
    raftmq_command: Command, cluster_file: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"n": {i}}}\n' for i in range(500)))
    kept = ("--config", "data/demo/cluster.yml")
    ended = await raftmq_command("demo", "--input", "rows.jsonl", "--keep")
    try:
        assert ended.code == 0, ended.out + ended.err
        assert (await raftmq_command("consume", "flights", "--max", "3", *kept)).code == 0
        again = await raftmq_command("demo", "--input", "rows.jsonl")
        assert (again.code, "still runs in data/demo" in again.err) == (2, True)
    finally:
        down = await raftmq_command("down", *kept)
    assert down.code == 0
