"""Whole processes: what a node refuses to start on, how it ends, how it comes back."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import raftmq
from raftmq.assembly import Assembly
from raftmq.cli.supervisor import LocalCluster
from raftmq.client.types import Acks
from raftmq.config import ClusterConfig, dump
from raftmq.config.models import NodeEntry
from raftmq.errors import RaftmqError, Unavailable
from raftmq.ids import NodeId
from raftmq.server import EXIT_REFUSED, EXIT_STORAGE_FAILED, Node
from raftmq.storage.directory import MARKER
from tests.integration.conftest import configuration, free_ports
from tests.integration.workload import Workload, until

pytestmark = pytest.mark.integration

ONE = NodeId(1)


def alone(directory: Path) -> ClusterConfig:
    """A cluster of one node."""
    client, peer, http = free_ports(3)
    node = NodeEntry(id=1, client_port=client, peer_port=peer, http_port=http, data=directory / "n1")
    return ClusterConfig(cluster="alone", nodes=(node,))


@pytest.fixture
async def single(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """A node that has not been started."""
    cluster = LocalCluster(alone(tmp_path))
    yield cluster
    await cluster.kill(ONE)


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    cluster = LocalCluster(configuration(tmp_path))
    try:
        await cluster.start_all()
        await cluster.wait_ready()
        yield cluster
    finally:
        for node in cluster.nodes:
            await cluster.kill(node)
            print(f"--- node {node}", cluster.log_tail(node, 30), sep="\n")


def serve(cluster: LocalCluster, *flags: str, node: int = 1) -> subprocess.Popen[str]:
    """A node of which the test reads what it says."""
    command = [
        sys.executable, *flags, "-m", "raftmq", "serve", "--node", str(node), "--config", str(cluster.config_file),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    cluster._pid_file(NodeId(node)).write_text(f"{process.pid}\n")  # so that the cluster can be asked about it
    return process


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit status, everything that it said)."""
    output, _ = await asyncio.to_thread(process.communicate)
    return process.returncode, output


def told(output: str) -> str:
    """The one line that is for the operator, and nothing of a traceback."""
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("raftmq")]
    return line


# -- what it refuses ---------------------------------------------------------------------------------------------------


async def test_it_does_not_run_without_its_assertions(single: LocalCluster) -> None:
    status, output = await ended(serve(single, "-O"))
    assert status == EXIT_REFUSED
    assert "python -O" in told(output)
    assert not single.config.node(ONE).data_directory.exists()


async def test_it_does_not_share_its_directory(single: LocalCluster, tmp_path: Path) -> None:
    await single.start(ONE)
    await single.wait_answering(ONE)
    other = LocalCluster(alone(tmp_path / "other"))
    data = single.config.node(ONE).data_directory
    same = other.config.nodes[0].model_copy(update={"data": data})
    other = LocalCluster(other.config.model_copy(update={"nodes": (same,)}), config_file=other.config_file)
    other.config_file.write_text(dump(other.config))
    status, output = await ended(serve(other))
    assert status == EXIT_REFUSED
    assert "in use by a running process" in told(output)
    await single.wait_answering(ONE)


async def test_it_does_not_touch_a_directory_that_is_not_its_own(single: LocalCluster) -> None:
    directory = single.config.node(ONE).data_directory
    directory.mkdir(parents=True)
    (directory / "thesis.txt").write_text("years of work")
    status, output = await ended(serve(single))
    assert status == EXIT_REFUSED
    assert "thesis.txt" in told(output)
    assert os.listdir(directory) == ["thesis.txt"]


async def test_it_does_not_take_another_nodes_directory(three: LocalCluster) -> None:
    for node in (NodeId(1), NodeId(2)):
        await three.stop(node)
    first, second = (three.config.node(node).data_directory for node in (1, 2))
    shutil.rmtree(second)
    shutil.copytree(first, second)
    status, output = await ended(serve(three, node=2))
    assert status == EXIT_REFUSED
    assert "the data directory of node 1, not of node 2" in told(output)


async def test_a_taken_port_is_said_in_a_line(single: LocalCluster) -> None:
    elsewhere = single.config.nodes[0].model_copy(update={"data": single.config_file.parent / "elsewhere" / "n1"})
    other = LocalCluster(single.config.model_copy(update={"nodes": (elsewhere,)}))
    await other.start(ONE)
    await other.wait_answering(ONE)
    try:
        status, output = await ended(serve(single))
        assert status == EXIT_REFUSED
        assert "cannot start" in told(output)
    finally:
        await other.kill(ONE)


# -- how it ends -------------------------------------------------------------------------------------------------------


async def test_a_failed_write_ends_the_process_and_nothing_acknowledged_is_lost(single: LocalCluster) -> None:
    """No file of the process may grow any more, from one moment to the next: as if its disk were full."""
    process = serve(single)
    await single.wait_ready([ONE])
    acked: list[bytes] = []
    refused: list[RaftmqError] = []
    async with raftmq.connect(single.bootstrap) as client:
        await client.admin.create_topic("orders", partitions=1, replication_factor=1)
        async with client.producer("orders", acks=Acks.QUORUM) as producer:
            for number in range(20):
                await producer.send(value=b"%d" % number)
                acked.append(b"%d" % number)
        async with client.producer("orders", acks=Acks.QUORUM, delivery_timeout_ms=3_000) as producer:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            try:
                await producer.send(value=b"one too many")
            except RaftmqError as error:
                refused.append(error)
    status, output = await ended(process)
    assert status == EXIT_STORAGE_FAILED
    assert "storage failed: this node stops" in output
    assert len(refused) == 1
    await single.start(ONE)
    await single.wait_ready([ONE])
    async with (
        raftmq.connect(single.bootstrap) as client,
        client.consumer("orders", start="earliest", until="high_watermark") as consumer,
    ):
        kept = [record.value async for record in consumer]
    assert kept[:20] == acked
    assert set(kept[20:]) <= {b"one too many"}, "nobody knows whether that one was kept"


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError("a bug"), "a bug"), (asyncio.CancelledError(), "the upkeep of this node has ended")],
)
async def test_a_node_does_not_go_on_without_its_upkeep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    async def upkeep(_: Assembly) -> None:
        raise error

    monkeypatch.setattr(Assembly, "upkeep", upkeep)
    node = Node(alone(tmp_path).node(ONE), lambda: 0)
    try:
        await node.start()
        assert str(await node.failed) == said
    finally:
        await node.stop()


async def test_a_node_that_is_stopped_has_not_failed(tmp_path: Path) -> None:
    node = Node(alone(tmp_path).node(ONE), lambda: 0)
    await node.start()
    await node.stop()
    assert not node.failed.done()


async def test_sigterm_ends_it_in_order(single: LocalCluster) -> None:
    process = serve(single)
    await single.wait_ready([ONE])
    process.send_signal(signal.SIGTERM)
    status, output = await ended(process)
    assert status == 0
    assert "stopped" in output
    assert "Traceback" not in output


async def test_sigterm_while_it_waits_for_others_ends_it_too(tmp_path: Path) -> None:
    cluster = LocalCluster(configuration(tmp_path))
    process = serve(cluster)
    assert process.stdout is not None
    lines = [await asyncio.to_thread(process.stdout.readline)]
    while "not in a cluster yet" not in lines[-1]:
        lines.append(await asyncio.to_thread(process.stdout.readline))
    assert "node 2 does not answer yet" in lines[-1]
    process.send_signal(signal.SIGTERM)
    status, output = await ended(process)
    assert status == 0
    assert "Traceback" not in output


# -- how it comes back -------------------------------------------------------------------------------------------------


async def in_sync(load: Workload, node: int) -> bool:
    topic = await load.client.admin.describe_topic("orders")
    return all(node in partition.in_sync for partition in topic.partitions)


async def believed(load: Workload, node: int) -> bool:
    """None of the node's replicas doubts itself, and the leaders count on them."""
    try:
        replicas = await load.client.cluster.list_replicas(node)
    except Unavailable:
        return False  # it starts
    return not any(replica.suspect for replica in replicas) and await in_sync(load, node)


async def test_an_emptied_node_waits_says_why_and_the_others_go_on(three: LocalCluster) -> None:
    async with Workload(three) as load:
        await load.more()
        await three.stop(NodeId(3))
        shutil.rmtree(three.config.node(3).data_directory)
        await three.start(NodeId(3))

        async def said_why() -> bool:
            return "another disk" in three.log_file(NodeId(3)).read_text()

        await until(said_why)
        assert "repair-node 3" in three.log_file(NodeId(3)).read_text()
        await load.more()
        assert not await in_sync(load, 3)
        await load.stop()
        assert load.errors == []


async def test_a_node_that_lost_its_marker_catches_up_before_it_votes(three: LocalCluster) -> None:
    async with Workload(three) as load:
        await load.more()
        await three.stop(NodeId(3))
        (three.config.node(3).data_directory / MARKER).unlink()
        await load.more()
        await three.start(NodeId(3))
        await load.more()
        await until(lambda: believed(load, 3))
        assert "may have lost synced data" in three.log_file(NodeId(3)).read_text()
        # Its word counts again: it makes the majority with one of the others.
        await three.kill(NodeId(1))
        await load.more()
        await three.start(NodeId(1))
        await three.wait_ready()
        # And its disk is believed when it starts the next time.
        marked = three.log_file(NodeId(3)).read_text().count("may have lost synced data")
        await three.stop(NodeId(3))
        await three.start(NodeId(3))
        await until(lambda: in_sync(load, 3))
        assert three.log_file(NodeId(3)).read_text().count("may have lost synced data") == marked
        await load.check()


async def test_a_topic_created_after_a_loss_may_live_on_that_disk_alone(three: LocalCluster) -> None:
    """A lost marker casts doubt on every group that was, and on none that comes later."""
    await three.stop(NodeId(3))
    (three.config.node(3).data_directory / MARKER).unlink()
    await three.start(NodeId(3))
    await three.wait_ready()
    async with raftmq.connect(three.bootstrap) as client:
        topic = await client.admin.create_topic("later", partitions=3, replication_factor=1)
        assert {partition.leader for partition in topic.partitions} == {1, 2, 3}
