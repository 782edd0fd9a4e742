"""More nodes than the controller has voters: the sixth learns the metadata, and holds replicas like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.config import ClusterConfig
from raftmq.config.models import NodeEntry
from tests.integration.conftest import free_ports
from tests.integration.workload import until

pytestmark = pytest.mark.integration


def six_nodes(directory: Path) -> ClusterConfig:
    ports = free_ports(18)
    return ClusterConfig(
        cluster="six",
        nodes=tuple(
            NodeEntry(
                id=number,
                client_port=ports[3 * number - 3],
                peer_port=ports[3 * number - 2],
                http_port=ports[3 * number - 1],
                data=directory / f"n{number}",
            )
            for number in range(1, 7)
        ),
    )


async def test_the_sixth_node_learns_the_metadata_and_takes_replicas(tmp_path: Path) -> None:
    cluster = LocalCluster(six_nodes(tmp_path))
    try:
        await cluster.start_all()
        await cluster.wait_ready()
        async with raftmq.connect(str(cluster.config.node(6).client_address)) as client:

            async def registered() -> bool:
                return len((await client.cluster.describe()).nodes) == 6

            await until(registered)
            topic = await client.admin.create_topic("spread", partitions=6, replication_factor=3)
            assert {replica for partition in topic.partitions for replica in partition.replicas} == set(range(1, 7))
            async with client.producer("spread") as producer:
                receipts = [await producer.send(b"x", partition=partition) for partition in range(6)]
            assert all(len(receipt.replicas) >= 2 for receipt in receipts)
            described = await client.cluster.describe()
            controllers = [node.info.node_id for node in described.nodes if node.controller_voter]
            assert controllers == [1, 2, 3, 4, 5]
    finally:
        for node in cluster.nodes:
            await cluster.kill(node)
            print(f"--- node {node}", cluster.log_tail(node, 30), sep="\n")
