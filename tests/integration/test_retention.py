"""Old records go, on real processes, and whoever still asks for them is told so."""

from __future__ import annotations

import pytest

from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import OffsetOutOfRange
from raftmq.ids import NodeId
from tests.integration.workload import TOPIC, Workload, until

pytestmark = pytest.mark.integration


async def _trimmed(load: Workload, least: int = 1) -> bool:
    return all(o.log_start_offset >= least for o in await load.client.list_offsets(TOPIC))


async def test_old_records_go_under_load_and_readers_are_told(cluster: LocalCluster) -> None:
    async with Workload(cluster, retention_bytes=50_000) as load:
        await load.more(3_000)
        await until(lambda: _trimmed(load))
        topic = await load.client.admin.describe_topic(TOPIC)
        assert (topic.retention_ms, topic.retention_bytes) == (0, 50_000)
        async with load.client.consumer(TOPIC, start=0, partitions=[0]) as consumer:
            with pytest.raises(OffsetOutOfRange) as told:
                await anext(consumer)
        assert int(told.value.metadata["log_start_offset"]) > 0
        assert int(told.value.metadata["high_watermark"]) >= int(told.value.metadata["log_start_offset"])
        async with load.client.consumer(TOPIC, start=0, partitions=[0], on_trimmed="earliest") as consumer:
            first = await anext(consumer)
            assert first.offset == consumer.trimmed(0) > 0
        await load.check()


async def test_trimmed_replicas_survive_the_death_of_all(cluster: LocalCluster) -> None:
    async with Workload(cluster, retention_bytes=20_000) as load:
        await load.more(1_000)
        await until(lambda: _trimmed(load))
        for node in cluster.nodes:
            await cluster.kill(node)
        await cluster.start_all()
        await load.more(1_000)
        await load.check()


async def test_records_of_an_idle_topic_age_away(cluster: LocalCluster) -> None:
    async with Workload(cluster, retention_ms=1_000) as load:
        await load.more(100)
        await load.stop()

        async def empty() -> bool:
            return all(o.log_start_offset == o.high_watermark > 0 for o in await load.client.list_offsets(TOPIC))

        await until(empty)
        await cluster.kill(NodeId(await load.leader_of(0)))
        assert await load.client.list_offsets(TOPIC)
        await until(empty)
