"""A node that was away for longer than records are kept comes back by snapshot, on real processes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftmq.cli.supervisor import LocalCluster
from raftmq.config.models import Limits
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId
from tests.integration.conftest import configuration, end
from tests.integration.workload import TOPIC, Workload, until

pytestmark = pytest.mark.integration

KEPT = 20_000


async def outlive(load: Workload, victim: NodeId) -> None:
    """Go on until every partition has removed what the node that is down would need."""
    await load.cluster.kill(victim)
    ends = {o.partition: o.high_watermark for o in await load.client.list_offsets(TOPIC)}

    async def gone() -> bool:
        offsets = await load.client.list_offsets(TOPIC)
        return all(o.log_start_offset > ends[o.partition] + 100 for o in offsets)

    await load.more(3_000)
    await until(gone)


def snapshots_fetched(cluster: LocalCluster, node: NodeId) -> int:
    return cluster.log_tail(node, 100_000).count("snapshot fetched")


async def in_sync(load: Workload, node: NodeId) -> bool:
    topic = await load.client.admin.describe_topic(TOPIC)
    return all(node in partition.in_sync for partition in topic.partitions)


async def test_a_node_away_for_longer_than_retention_comes_back_under_load(cluster: LocalCluster) -> None:
    async with Workload(cluster, retention_bytes=KEPT) as load:
        await load.more()
        victim = NodeId(await load.leader_of(0))
        await outlive(load, victim)
        await cluster.start(victim)
        await until(lambda: in_sync(load, victim))
        await load.more()
        assert snapshots_fetched(cluster, victim) >= 3, cluster.log_tail(victim, 50)
        await load.check()


async def test_it_can_lead_afterwards_and_survives_its_own_restart(cluster: LocalCluster) -> None:
    async with Workload(cluster, retention_bytes=KEPT) as load:
        await load.more()
        victim = NodeId(await load.leader_of(0))
        await outlive(load, victim)
        await cluster.start(victim)
        await until(lambda: in_sync(load, victim))
        await cluster.kill(victim)
        await cluster.start(victim)
        await cluster.wait_ready()
        await until(lambda: in_sync(load, victim))

        async def leads() -> bool:
            if await load.leader_of(0) == victim:
                return True
            with contextlib.suppress(RaftmqError):
                await load.client.cluster.transfer_leader(TOPIC, 0, victim)
            return False

        await until(leads)
        await load.more()
        await load.check()


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """Three nodes that send snapshots so slowly that one can be caught in the middle."""
    limits = Limits(snapshot_bytes_per_s=KEPT)
    running = LocalCluster(configuration(tmp_path).model_copy(update={"limits": limits}))
    try:
        await running.start_all()
        await running.wait_ready()
        yield running
    finally:
        await end(running)


async def test_a_receiver_killed_in_the_middle_completes_at_its_next_start(slow: LocalCluster) -> None:
    cluster = slow
    async with Workload(cluster, retention_bytes=KEPT) as load:
        await load.more()
        victim = NodeId(await load.leader_of(0))
        await outlive(load, victim)
        for _ in range(3):
            begun = cluster.log_tail(victim, 100_000).count("fetching snapshot")
            await cluster.start(victim)

            async def fetches(begun: int = begun) -> bool:
                return cluster.log_tail(victim, 100_000).count("fetching snapshot") > begun

            await until(fetches)
            await cluster.kill(victim)
            assert snapshots_fetched(cluster, victim) == 0, "it must be caught in the middle"
        await cluster.start(victim)
        await cluster.wait_ready()
        await until(lambda: in_sync(load, victim))
        await load.check()
