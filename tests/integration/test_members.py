"""Nodes come and go under load: a fourth joins, one of the first three leaves; a lost disk is replaced. Nobody who
produces or consumes meanwhile hears of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftmq.cli.supervisor import LocalCluster
from raftmq.client.types import OperationDescription
from raftmq.config import ClusterConfig, dump
from raftmq.config.models import NodeEntry
from raftmq.errors import PreconditionFailed
from raftmq.ids import NodeId
from tests.integration.conftest import configuration, free_ports
from tests.integration.workload import TOPIC, Workload, until
from tests.observe.asking import page

pytestmark = pytest.mark.integration

FOUR = NodeId(4)
WAIT_MS = 90_000


class Grown:
    """Three nodes that know only each other, and a fourth whose file names all of them."""

    def __init__(self, directory: Path) -> None:
        config = configuration(directory)
        self.three = LocalCluster(config, config_file=self._written(directory / "cluster.yml", config))
        client, peer, http = free_ports(3)
        fourth = NodeEntry(id=4, client_port=client, peer_port=peer, http_port=http, data=directory / "n4", rack="r4")
        grown = ClusterConfig(cluster=config.cluster, nodes=(*config.nodes, fourth))
        self.four = LocalCluster(grown, config_file=self._written(directory / "grown.yml", grown))
        self.peer_port = peer

    @staticmethod
    def _written(file: Path, config: ClusterConfig) -> Path:
        file.write_text(dump(config))
        return file

    async def end(self) -> None:
        for cluster, nodes in ((self.three, self.three.nodes), (self.four, (FOUR,))):
            for node in nodes:
                await cluster.kill(node)
                print(f"--- node {node}", cluster.log_tail(node, 40), sep="\n")


@pytest.fixture
async def grown(tmp_path: Path) -> AsyncIterator[Grown]:
    grown = Grown(tmp_path)
    try:
        await grown.three.start_all()
        await grown.three.wait_ready()
        yield grown
    finally:
        await grown.end()


async def over(load: Workload, operation: OperationDescription) -> OperationDescription:
    seen: list[str] = []
    try:
        return await load.client.cluster.wait(
            operation.operation_id, timeout_ms=WAIT_MS, told=lambda one: seen.append(one.reason)
        )
    finally:
        print(operation.kind, *dict.fromkeys(seen), sep="\n    ")


class Reader:
    """Reads the topic as it grows, from its start, until it is stopped; then it has every record once, in order."""

    def __init__(self, load: Workload) -> None:
        self.numbers: list[int] = []
        self._load = load
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async with self._load.client.consumer(TOPIC, start="earliest") as consumer:
            async for record in consumer:
                assert record.value is not None
                self.numbers.append(int(record.value))

    async def check(self, count: int) -> None:
        """It has read so many records, each of them once."""

        async def read() -> bool:
            if self._task.done():
                self._task.result()
            return len(self.numbers) >= count

        await until(read)
        self._task.cancel()
        await asyncio.wait({self._task})
        assert sorted(self.numbers) == list(range(count))


async def test_a_fourth_node_joins_and_one_of_the_first_three_leaves(grown: Grown) -> None:
    async with Workload(grown.three) as load:
        reader = Reader(load)
        await load.more()
        cluster = load.client.cluster
        with pytest.raises(PreconditionFailed) as refused:
            await cluster.drain_node(1)
        assert refused.value.field == "node_id"  # two nodes would stay
        await grown.four.start(FOUR)
        added = await _admitted(load, grown)
        assert (await over(load, added)).state == "done"
        moved = await cluster.move_replica(TOPIC, 0, 2, 4)
        assert (await over(load, moved)).state == "done"
        assert (await over(load, await cluster.drain_node(1))).state == "done"
        topic = await load.client.admin.describe_topic(TOPIC)
        held = [sorted(partition.replicas) for partition in topic.partitions]
        assert all(1 not in replicas for replicas in held)
        assert 4 in held[0]
        assert (await over(load, await cluster.remove_node(1))).state == "done"
        await until(lambda: _says_that_it_was_removed(grown))
        await grown.three.stop(NodeId(1))
        await load.more()
        described = await cluster.describe()
        assert [node.info.node_id for node in described.nodes] == [2, 3, 4]
        assert [node.info.node_id for node in described.nodes if node.controller_voter] == [2, 3, 4]
        await load.stop()
        assert load.errors == []
        assert len(load.acked) == load.sent
        await reader.check(load.sent)


async def _says_that_it_was_removed(grown: Grown) -> bool:
    status, text = await page(grown.three.config.nodes[0].http_port, "/readyz")
    return status == 503 and "cluster: this node was removed" in text


async def _admitted(load: Workload, grown: Grown) -> OperationDescription:
    """It listens a moment after it was started."""
    begun: list[OperationDescription] = []

    async def answers() -> bool:
        try:
            begun.append(await load.client.cluster.add_node(4, "127.0.0.1", grown.peer_port))
        except PreconditionFailed:
            return False
        return True

    await until(answers)
    return begun[0]


async def test_a_lost_disk_is_refused_until_the_node_is_repaired(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        await load.more()
        with pytest.raises(PreconditionFailed) as refused:
            await load.client.cluster.repair_node(3)
        assert refused.value.field == "node_id"  # nothing is lost
        await cluster.kill(NodeId(3))
        shutil.rmtree(cluster.config.node(3).data_directory)
        await cluster.start(NodeId(3))

        async def says_why() -> bool:
            return "repair-node 3" in cluster.log_file(NodeId(3)).read_text()

        await until(says_why)
        await load.more()
        assert (await over(load, await load.client.cluster.repair_node(3))).state == "done"
        await cluster.kill(NodeId(2))  # now the new disk is needed for a quorum, here and of the metadata
        await load.more()
        await cluster.start(NodeId(2))
        await cluster.wait_ready()
        await load.check()


async def test_an_operation_that_waits_is_cancelled(grown: Grown) -> None:
    async with Workload(grown.three) as load:
        await grown.four.start(FOUR)
        await over(load, await _admitted(load, grown))
        grown.four.pause(FOUR)  # it is heard no more, but not yet known to be away
        moved = await load.client.cluster.move_replica(TOPIC, 1, 2, 4)

        async def waits() -> bool:
            return "catches up" in (await load.client.cluster.operation(moved.operation_id)).reason

        await until(waits)
        await load.client.cluster.cancel_operation(moved.operation_id)
        assert (await over(load, moved)).state == "cancelled"
        grown.four.resume(FOUR)
        topic = await load.client.admin.describe_topic(TOPIC)
        assert 2 in topic.partitions[1].replicas
        await load.stop()
        assert load.errors == []
