"""One node's disk runs low, then full, then has room again: nothing stops, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from raftmq.chaos import disks
from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import DeadlineExceeded, StorageFull
from raftmq.ids import NodeId
from tests.integration.conftest import configuration
from tests.integration.workload import TOPIC, Workload, until

pytestmark = pytest.mark.integration

MIB = 1 << 20
FLOOR = 120 * MIB
NODE = NodeId(1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    if reason := disks.mount_small(place):
        pytest.skip(reason)
    yield place
    disks.unmount(place)


@pytest.fixture
async def cluster(tmp_path: Path, disk: Path) -> AsyncIterator[LocalCluster]:
    """Three nodes, the first of which has the small disk."""
    config = configuration(tmp_path)
    limits = config.limits.model_copy(update={"free_space_percent": 90, "free_space_bytes": FLOOR})
    first = config.nodes[0].model_copy(update={"data": disk / "n1"})
    running = LocalCluster(config.model_copy(update={"nodes": (first, *config.nodes[1:]), "limits": limits}))
    try:
        await running.start_all()
        await running.wait_ready()
        yield running
    finally:
        for node in running.nodes:
            await running.kill(node)
            print(f"--- node {node}", running.log_tail(node, 40), sep="\n")


def leave_free(disk: Path, free: int) -> None:
    """Fill the disk up to so many free bytes with what is not the node's, or empty it again."""
    with (disk / "ballast").open("ab") as file:
        size = file.tell()
        system = os.statvfs(disk)
        wanted = size + system.f_bavail * system.f_frsize - free
        if wanted > size:
            os.posix_fallocate(file.fileno(), size, wanted - size)
        else:
            file.truncate(max(0, wanted))


async def disk_of(load: Workload) -> str:
    cluster = await load.client.cluster.describe()
    return next(node.disk for node in cluster.nodes if node.info.node_id == NODE)


async def test_a_low_disk_gives_way_a_full_one_lags_and_both_come_back(cluster: LocalCluster, disk: Path) -> None:
    async with Workload(cluster) as load:
        await load.more()

        async def is_spared() -> bool:
            topic = await load.client.admin.describe_topic(TOPIC)
            return await disk_of(load) == "low" and all(
                p.leader not in (None, NODE) and p.in_sync and NODE not in p.in_sync for p in topic.partitions
            )

        async def is_full() -> bool:
            return await disk_of(load) == "full"

        async def is_back() -> bool:
            topic = await load.client.admin.describe_topic(TOPIC)
            return await disk_of(load) == "ample" and all(NODE in p.in_sync for p in topic.partitions)

        leave_free(disk, FLOOR * 3 // 4)
        await until(is_spared)
        await load.more()
        leave_free(disk, FLOOR // 4)
        await until(is_full)
        await load.more()
        assert NODE in cluster.running
        leave_free(disk, 3 * FLOOR)
        await until(is_back)
        await load.check()
    assert NODE in cluster.running


async def test_a_partition_with_its_only_replica_there_refuses_and_can_be_deleted(
    cluster: LocalCluster, disk: Path
) -> None:
    async with Workload(cluster) as load:
        await load.stop()
        topic = await load.client.admin.create_topic("single", partitions=3, replication_factor=1)
        partition = next(p.partition for p in topic.partitions if tuple(p.replicas) == (NODE,))

        async def send(timeout_ms: int) -> None:
            async with load.client.producer("single", delivery_timeout_ms=timeout_ms) as producer:
                await producer.send(b"x", partition=partition)

        await send(60_000)
        leave_free(disk, FLOOR // 2 + MIB)
        await until(lambda: _is(load, "low"))
        with pytest.raises((StorageFull, DeadlineExceeded)) as refused:
            await send(1_000)
        assert "disk" in str(refused.value)
        waiting = asyncio.create_task(send(60_000))
        async with load.client.consumer("single", start=0, partitions=[partition]) as consumer:
            assert (await anext(consumer)).value == b"x"
        leave_free(disk, 3 * FLOOR)
        await waiting
        leave_free(disk, FLOOR // 4)
        await until(lambda: _is(load, "full"))
        await load.client.admin.delete_topic("single")


async def _is(load: Workload, level: str) -> bool:
    return await disk_of(load) == level
