"""What operators see of real nodes: metrics follow the work, health follows the node, and logs stop nothing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.client.types import Overflow
from raftmq.config import ClusterConfig, dump
from raftmq.config.models import NodeEntry
from raftmq.errors import OverflowDropped, QueueFull, QuotaExceeded, RaftmqError
from raftmq.ids import NodeId
from raftmq.metadata.features import CLUSTER_VERSION
from raftmq.observe.metrics import CATALOGUE
from raftmq.v1 import broker_pb2, broker_pb2_grpc, types_pb2
from tests.integration.conftest import free_ports
from tests.integration.workload import TOPIC, Workload, until
from tests.observe.asking import page

pytestmark = pytest.mark.integration

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
RECORDS = 500


async def scrape(cluster: LocalCluster, node: NodeId) -> Samples:
    status, text = await page(cluster.config.node(node).entry.http_port, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum over all series of a name that have these labels."""
    return sum(
        value for (each, has), value in samples.items() if each == name and set(labels.items()) <= set(has)
    )  # fmt: skip


async def over_all(cluster: LocalCluster, name: str, **labels: str) -> float:
    return sum([total(await scrape(cluster, node), name, **labels) for node in cluster.nodes])


async def test_metrics_follow_the_work(cluster: LocalCluster) -> None:
    assert await over_all(cluster, "raftmq_produced_records_total") == 0
    async with Workload(cluster) as load:
        await load.more(RECORDS)
        await load.check()  # reads all of it back
        acknowledged = len(load.acked)
    scrapes = [await scrape(cluster, node) for node in cluster.nodes]
    assert sum(total(one, "raftmq_produced_records_total", topic=TOPIC) for one in scrapes) == acknowledged
    assert sum(total(one, "raftmq_fetched_records_total", topic=TOPIC) for one in scrapes) >= acknowledged
    batches = sum(total(one, "raftmq_produced_batches_total") for one in scrapes)
    assert sum(total(one, "raftmq_produce_latency_seconds_count", stage="sync") for one in scrapes) == batches
    ends = [total(one, "raftmq_partition_high_watermark_offset", topic=TOPIC) for one in scrapes]
    assert sum(ends) == acknowledged
    for one in scrapes:
        assert total(one, "raftmq_storage_sync_seconds_count") > 0
        assert total(one, "raftmq_link_up") == 4
        assert total(one, "raftmq_replicas") == 4
        assert total(one, "raftmq_cluster_nodes", state="live") == 3
        assert total(one, "raftmq_cluster_version") >= 2
        assert total(one, "raftmq_cluster_version_newest") == CLUSTER_VERSION
        assert total(one, "raftmq_node_boot_count") == 1
        assert total(one, "raftmq_storage_size_bytes") > acknowledged
        assert total(one, "process_resident_memory_bytes") > 10_000_000
        assert total(one, "raftmq_partitions_under_replicated") == 0
    assert sum(total(one, "raftmq_controller_leader") for one in scrapes) == 1


async def test_every_metric_of_a_node_at_work_is_in_the_catalogue_and_the_other_way_round(
    cluster: LocalCluster,
) -> None:
    async with Workload(cluster) as load:
        await load.more()
        await load.check()
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.exchanges.declare("events", "fanout")
        await client.exchanges.bind("events", topic=TOPIC)
        assert (await client.publish("events", b"counted")).routed
        await client.groups.reset("billing", TOPIC, "earliest")

        async def told_of_groups() -> bool:
            told = {name for node in cluster.nodes for name, _ in await scrape(cluster, node)}
            return "raftmq_group_lag_seconds" in told

        await until(told_of_groups)
        async with client.queue(TOPIC, "workers") as worker:
            message = await worker.get(60_000)
            assert message is not None
            await message.ack()
        await go_beyond_limits(client, cluster)
    seen = {name for node in cluster.nodes for name, _ in await scrape(cluster, node)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in seen if name != "raftmq_node_boot_count"}
    # One of them only a node has whose memory is limited.
    known = {metric.name for metric in CATALOGUE} - {"raftmq_node_boot_count", "raftmq_memory_calls_allowed_bytes"}
    own = {name for name in families if name.startswith("raftmq_")}
    assert own == known
    assert {name.split("_")[0] for name in families - own} == {"process", "python"}


async def go_beyond_limits(client: raftmq.Client, cluster: LocalCluster) -> None:
    """Of depth and of a quota, in each way that is counted."""
    full: dict[Overflow, type[RaftmqError]] = {"reject": QueueFull, "sample": OverflowDropped}
    for policy, error in full.items():
        await client.admin.create_topic(
            policy, partitions=1, replication_factor=3, max_depth_records=1, overflow=policy, sample_one_in=1000
        )
        await until(partial(_refused, client, policy, error))
    async with raftmq.connect(cluster.bootstrap, client_id="greedy") as greedy:
        await client.admin.set_quota("greedy", produce_bytes_per_s=30_000)
        await until(partial(_refused, greedy, TOPIC, QuotaExceeded))
        node = greedy._router.metadata.channels()[0]
        asked = [
            broker_pb2.ProduceStreamRequest(correlation_id=number, produce=_one_record(TOPIC)) for number in range(2)
        ]
        stream = node.broker.ProduceStream(iter(asked), metadata=(("raftmq-client-id", "greedy"),), timeout=60)
        assert [answer.correlation_id async for answer in stream] == [0, 1]


async def _refused(client: raftmq.Client, topic: str, error: type[RaftmqError]) -> bool:
    """One request more is told that it is one too many."""
    node = client._router.metadata.channels()[0]
    try:
        await node.call(node.broker.Produce, _one_record(topic), timeout_ms=60_000)
    except error:
        return True
    except QueueFull:
        return False  # nothing is dropped before the leader knows who reads the topic
    return False


def _one_record(topic: str) -> broker_pb2.ProduceRequest:
    """More than a second's worth of the quota."""
    return broker_pb2.ProduceRequest(topic=topic, partition=0, records=[types_pb2.Record(value=b"x" * 20_000)])


async def test_the_death_of_a_node_shows_on_the_others(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        await load.more()
        victim = NodeId(await load.leader_of(0))
        left = [node for node in cluster.nodes if node != victim]
        before = {node: await scrape(cluster, node) for node in left}
        await cluster.kill(victim)
        await load.more()

        async def seen() -> bool:
            now = [await scrape(cluster, node) for node in left]
            won = sum(total(one, "raftmq_elections_won_total") for one in now)
            return (
                won > sum(total(before[node], "raftmq_elections_won_total") for node in left)
                and sum(total(one, "raftmq_partitions_under_replicated") for one in now) == 4
                and all(total(one, "raftmq_link_up", peer=str(victim)) == 0 for one in now)
                and all(total(one, "raftmq_cluster_nodes", state="fenced") == 1 for one in now)
            )

        await until(seen)
        await cluster.start(victim)
        await cluster.wait_ready()

        async def well() -> bool:
            return await over_all(cluster, "raftmq_partitions_under_replicated") == 0

        await until(well)
        assert total(await scrape(cluster, victim), "raftmq_node_boot_count") == 2
        await load.check()


# -- health --------------------------------------------------------------------------------------------------------


async def test_a_node_that_stops_says_so_before_it_goes(cluster: LocalCluster) -> None:
    node = cluster.config.node(NodeId(1))
    port = node.entry.http_port
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
    assert await page(port, "/healthz") == (200, "[+] process: runs\nok\n")
    status, text = await page(port, "/readyz")
    assert (status, text.splitlines()[-1]) == (200, "ok")
    async with aio.insecure_channel(str(node.client_bind)) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="raftmq.v1.Broker"))
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING
        # A call under way, for which the node waits a while.
        fetch = broker_pb2_grpc.BrokerStub(channel).Fetch(
            broker_pb2.FetchRequest(topic=TOPIC, partition=0, offset=0, max_wait=Duration(seconds=30))
        )
        await until(lambda: _waits_for_records(cluster))
        pid = cluster.pid(NodeId(1))
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        status, text = await page(port, "/readyz")
        assert status == 503
        assert "[-] clients: the node is stopping\n" in text
        assert (await page(port, "/healthz"))[0] == 200
        fetch.cancel()
    assert await cluster.stop(NodeId(1))
    with pytest.raises(ConnectionRefusedError):
        await page(port, "/readyz")


async def _waits_for_records(cluster: LocalCluster) -> bool:
    """Every node has a leader for the partition: the fetch has found its way."""
    return await over_all(cluster, "raftmq_cluster_partitions_leaderless") == 0


async def test_a_node_without_its_cluster_is_alive_and_not_ready(cluster: LocalCluster) -> None:
    port = cluster.config.node(NodeId(1)).entry.http_port
    for node in (NodeId(2), NodeId(3)):
        await cluster.kill(node)

    async def alone() -> bool:
        status, text = await page(port, "/readyz")
        return status == 503 and "[-] controller: this node knows no leader of it\n" in text

    await until(alone)
    assert (await page(port, "/healthz"))[0] == 200
    await cluster.start_all()

    async def ready() -> bool:
        return (await page(port, "/readyz"))[0] == 200

    await until(ready)


async def test_a_node_that_waits_for_the_others_says_for_whom(tmp_path: Path, cluster: LocalCluster) -> None:
    entry = cluster.config.node(NodeId(1)).entry
    client, peer, http = free_ports(3)
    fresh = entry.model_copy(
        update={"client_port": client, "peer_port": peer, "http_port": http, "data": tmp_path / "fresh" / "n1"}
    )
    away = cluster.config.node(NodeId(2)).entry.model_copy(update={"peer_port": free_ports(1)[0]})
    lonely = LocalCluster(ClusterConfig(cluster="lonely", nodes=(fresh, away)))
    await lonely.start(NodeId(1))
    try:

        async def waits() -> bool:
            try:
                status, text = await page(http, "/readyz")
            except ConnectionRefusedError:
                return False
            return status == 503 and "[-] cluster: not in a cluster yet: node 2 does not answer yet" in text

        await until(waits)
        assert await page(http, "/healthz") == (200, "[+] process: runs\nok\n")
        assert "raftmq_node_ready 0.0\n" in (await page(http, "/metrics"))[1]
    finally:
        await lonely.kill(NodeId(1))


# -- logs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """(read end, write end) of a pipe that takes nothing more."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 1024)
    except BlockingIOError:
        os.set_blocking(writer, True)
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("reader_comes_back", [False, True])
async def test_a_node_whose_log_nobody_takes_serves_and_stops(
    tmp_path: Path, full_pipe: tuple[int, int], reader_comes_back: bool
) -> None:
    client_port, peer_port, http_port = free_ports(3)
    entry = NodeEntry(
        id=1, client_port=client_port, peer_port=peer_port, http_port=http_port, data=tmp_path / "n1"
    )  # fmt: skip
    file = tmp_path / "cluster.yml"
    file.write_text(dump(ClusterConfig(cluster="one", nodes=(entry,))))
    reader, writer = full_pipe
    node = subprocess.Popen(  # noqa: ASYNC220  done in a millisecond
        [sys.executable, "-m", "raftmq", "serve", "--node", "1", "--config", str(file)], stdout=writer, stderr=writer
    )
    try:
        async with raftmq.connect(f"127.0.0.1:{client_port}", connect_timeout_ms=60_000) as client:
            await client.admin.create_topic(TOPIC, partitions=3, replication_factor=1)
            async with client.producer(TOPIC) as producer:
                receipts = [await producer.send(b"x", partition=number % 3) for number in range(30)]
        assert {receipt.offset for receipt in receipts} == set(range(10))
        assert (await page(http_port, "/readyz"))[0] == 200
        if reader_comes_back:
            said = b""
            while b"event='serving clients'" not in said:
                said += os.read(reader, 65536)
            assert b"event='starting'" in said
        node.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(node.wait) == 0
    finally:
        node.kill()
        node.wait()
