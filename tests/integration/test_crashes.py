"""Real processes die, at any time and in any number; every acknowledged record is accounted for."""

from __future__ import annotations

import pytest

from raftmq.cli.supervisor import LocalCluster
from raftmq.ids import NodeId
from tests.integration.workload import TOPIC, Workload, until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("victim", [1, 2, 3])
async def test_kill_of_any_one_node_under_load(cluster: LocalCluster, victim: int) -> None:
    async with Workload(cluster) as load:
        await load.more()
        await cluster.kill(NodeId(victim))
        await load.more(1_000)
        await cluster.start(NodeId(victim))
        await load.more()
        await cluster.wait_ready()
        await load.check()


async def test_kill_again_and_again_whoever_leads(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        for partition in (0, 1, 2, 0):
            await load.more(300)
            victim = NodeId(await load.leader_of(partition))
            await cluster.kill(victim)
            await load.more(300)
            await cluster.start(victim)
            await cluster.wait_ready()
        await load.check()


async def test_kill_of_all_three_at_once(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        await load.more(1_000)
        for node in cluster.nodes:
            await cluster.kill(node)
        acknowledged = len(load.acked)
        assert acknowledged >= 1_000
        await cluster.start_all()
        await load.more()
        await load.check()


async def test_rolling_restart_under_load(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        for node in cluster.nodes:
            await load.more()
            assert await cluster.stop(node), cluster.log_tail(node, 20)
            await load.more()
            await cluster.start(node)
            await cluster.wait_ready()
            await until(lambda node=node: _in_sync(load, node))  # type: ignore[misc]
        await load.check()


async def test_a_node_away_and_back_catches_up_from_the_log(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        await load.more()
        await cluster.kill(NodeId(3))
        await load.more(5_000)
        await load.stop()
        await cluster.start(NodeId(3))
        await until(lambda: _in_sync(load, NodeId(3)))
        await load.check()


async def _in_sync(load: Workload, node: NodeId) -> bool:
    topic = await load.client.admin.describe_topic(TOPIC)
    return all(node in partition.in_sync for partition in topic.partitions)
