"""Real processes, of a fake node: start, stop, kill, pause, wait, and what is said when it fails."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftmq.cli import supervisor
from raftmq.cli.demo.place import free_ports
from raftmq.cli.supervisor import LocalCluster, SupervisorError
from raftmq.config import ClusterConfig, NodeEntry, Timeouts
from raftmq.ids import NodeId

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)


@pytest.fixture
def python(tmp_path: Path) -> str:
    """An "interpreter" that runs the fake node."""
    script = tmp_path / "python"
    root = Path(__file__).parents[2]
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} {Path(__file__).with_name("fake_node.py")} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


@pytest.fixture
async def cluster(tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    for margin in ("STOP_MARGIN_MS", "KILL_MARGIN_MS"):  # a machine that is busy with other things is no failure
        monkeypatch.setattr(supervisor, margin, 60_000)
    ports = free_ports(9)
    nodes = tuple(
        NodeEntry(
            id=i, client_port=ports.pop(), peer_port=ports.pop(), http_port=ports.pop(), data=tmp_path / f"data/n{i}"
        )
        for i in (1, 2, 3)
    )
    config = ClusterConfig(cluster="test", nodes=nodes, timeouts=Timeouts(shutdown_timeout_ms=1))
    cluster = LocalCluster(config, python=python)
    yield cluster
    for node in cluster.nodes:
        await cluster.kill(node)


def another(cluster: LocalCluster) -> LocalCluster:
    """A supervisor that started nothing, as ``raftmq down`` has it."""
    return LocalCluster(cluster.config, config_file=cluster.config_file, python=cluster.python)


async def test_nodes_start_answer_and_stop(cluster: LocalCluster) -> None:
    assert await cluster.start_all() == (N1, N2, N3)
    await cluster.wait_ready()
    assert list(cluster.running) == [N1, N2, N3]
    assert "node 2 is up" in cluster.log_tail(N2)
    assert cluster.exit_status(N2) is None
    assert await cluster.stop_all() == ()
    assert [cluster.exit_status(node) for node in cluster.nodes] == [0, 0, 0]
    assert not cluster.running
    assert list((cluster.config_file.parent).glob("*.pid")) == []


async def test_another_supervisor_finds_and_stops_them(cluster: LocalCluster) -> None:
    await cluster.start(N1)
    await cluster.wait_answering(N1)
    other = another(cluster)
    assert other.running == (N1,)
    assert other.pid(N1) == cluster.pid(N1)
    assert await other.stop(N1)
    assert not cluster.running


async def test_a_node_is_killed_and_started_again(cluster: LocalCluster) -> None:
    await cluster.start(N1)
    first = cluster.pid(N1)
    await cluster.kill(N1)
    assert cluster.pid(N1) is None
    await cluster.start(N1)
    await cluster.wait_answering(N1)
    assert cluster.pid(N1) not in (None, first)


async def test_a_node_that_runs_is_not_started_twice(cluster: LocalCluster) -> None:
    await cluster.start(N1)
    await cluster.wait_answering(N1)
    with pytest.raises(SupervisorError, match=f"node 1 runs already \\(pid {cluster.pid(N1)}\\)"):
        await another(cluster).start(N1)


async def test_a_taken_port_names_its_holder_and_nothing_stays_started(cluster: LocalCluster) -> None:
    address = cluster.config.node(N2).peer_bind
    with socket.socket() as taken:
        taken.bind((address.host, address.port))
        taken.listen()
        with pytest.raises(SupervisorError, match=f"{address} is taken by pid {os.getpid()} "):
            await cluster.start_all()
    assert not cluster.running


async def test_a_pid_file_of_another_process_is_not_believed(cluster: LocalCluster) -> None:
    pid_file = cluster.config_file.with_name("n1.pid")
    for content in (str(os.getpid()), "no number", ""):
        pid_file.write_text(content)
        assert cluster.pid(N1) is None
    assert await cluster.stop(N1)
    assert not pid_file.exists()


async def test_a_node_that_is_deaf_is_killed(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_MARGIN_MS", 100)
    cluster.config_file.with_name("n1.deaf").touch()
    await cluster.start(N1)
    await cluster.wait_answering(N1)
    assert not await cluster.stop(N1)
    assert not cluster.running


async def test_a_node_that_does_not_end_keeps_no_other_running(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in (N1, N2):
        await cluster.start(node)
        await cluster.wait_answering(node)
    stop = cluster.stop

    async def stuck(node: NodeId) -> bool:
        if node == N1:
            raise SupervisorError("does not end")
        return await stop(node)

    monkeypatch.setattr(cluster, "stop", stuck)
    with pytest.raises(SupervisorError, match="does not end"):
        await cluster.stop_all()
    assert cluster.running == (N1,)


async def test_a_paused_node_lives_and_can_be_stopped(cluster: LocalCluster) -> None:
    await cluster.start(N1)
    await cluster.wait_answering(N1)
    cluster.pause(N1)
    assert cluster.running == (N1,)
    with pytest.raises(SupervisorError, match="node 1 is not ready after 0 s"):
        await cluster.wait_answering(N1, timeout=0.0)
    cluster.resume(N1)
    await cluster.wait_answering(N1)
    cluster.pause(N1)
    assert await cluster.stop(N1)


async def test_a_node_that_ends_is_told_with_its_last_words(cluster: LocalCluster) -> None:
    cluster.config_file.with_name("n2.broken").touch()
    await cluster.start(N2)
    with pytest.raises(SupervisorError, match=r"node 2 ended with status 1.*\n.*the disk is upside down"):
        await cluster.wait_ready([N2])


async def test_a_cluster_without_a_controller_is_not_ready(cluster: LocalCluster) -> None:
    cluster.config_file.with_name("n1.alone").touch()
    await cluster.start(N1)
    await cluster.wait_answering(N1)
    with pytest.raises(SupervisorError, match="the cluster has not settled"):
        await cluster.wait_ready(timeout=0.0)


async def test_what_does_not_run_cannot_be_paused_and_is_already_stopped(cluster: LocalCluster) -> None:
    with pytest.raises(SupervisorError, match="node 3 does not run"):
        cluster.pause(N3)
    await cluster.kill(N3)
    assert await cluster.stop(N3)


async def test_stops_can_be_awaited_together(cluster: LocalCluster) -> None:
    await cluster.start_all()
    await cluster.wait_ready()
    assert await asyncio.gather(*(cluster.stop(node) for node in cluster.nodes)) == [True, True, True]
