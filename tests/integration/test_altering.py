"""Settings of a topic change while it is in use, on real processes that are not restarted."""

from __future__ import annotations

import pytest

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import InvalidArgument, MessageTooLarge, NotEnoughReplicas, UnexpectedVersion
from raftmq.ids import NodeId
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC = "altered"


async def _sent(client: raftmq.Client, value: bytes) -> raftmq.BatchReceipt:
    [receipt] = await client.send_once(TOPIC, [raftmq.NewRecord(value)], message_id=value[:20].decode(), partition=0)
    return receipt


async def test_settings_hold_at_once_and_without_a_restart(cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        topic = await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
        assert (topic.version, topic.min_in_sync_replicas) == (1, 2)
        await _sent(client, b"first")
        assert (await _sent(client, b"first")).duplicate

        await _too_few_in_sync(cluster, client)
        await _unchangeable(client)

        await client.admin.alter_topic(TOPIC, max_batch_bytes=2048)
        with pytest.raises(MessageTooLarge):
            await _sent(client, b"large" * 1000)
        await client.admin.alter_topic(TOPIC, max_batch_bytes=0)
        await _sent(client, b"large" * 1000)

        # The leader brings the window into the log, and then "first" is not among the newest any more.
        await client.admin.alter_topic(TOPIC, message_id_window_count=1)

        async def forgotten() -> bool:
            return not (await _sent(client, b"first")).duplicate

        await until(forgotten)

        await client.admin.alter_topic(TOPIC, retention_ms=1)

        async def empty() -> bool:
            [bounds] = await client.list_offsets(TOPIC)
            return bounds.log_start_offset == bounds.high_watermark

        await until(empty)


async def _too_few_in_sync(cluster: LocalCluster, client: raftmq.Client) -> None:
    """A follower dies: whether records are taken without it is a matter of one call."""
    altered = await client.admin.alter_topic(TOPIC, min_in_sync_replicas=3, expected_version=1)
    assert (altered.version, altered.min_in_sync_replicas) == (2, 3)
    leader = altered.partitions[0].leader
    victim = next(node for node in cluster.nodes if node != leader)
    await cluster.kill(victim)

    async def refused() -> bool:
        try:
            await client.send_once(TOPIC, [raftmq.NewRecord(b"x")], message_id="x", partition=0, timeout_ms=2_000)
        except raftmq.RaftmqError as error:
            return isinstance(error, NotEnoughReplicas)
        return False

    await until(refused)
    await client.admin.alter_topic(TOPIC, min_in_sync_replicas=2)
    assert (await _sent(client, b"two are enough")).base_offset is not None
    await cluster.start(NodeId(victim))
    await cluster.wait_ready()


async def _unchangeable(client: raftmq.Client) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await client.admin.alter_topic(TOPIC, partitions=2)
    assert refused.value.field == "partitions"
    with pytest.raises(InvalidArgument) as refused:
        await client.admin.alter_topic(TOPIC, replication_factor=1, retention_ms=1)
    assert refused.value.field == "replication_factor"
    with pytest.raises(UnexpectedVersion) as late:
        await client.admin.alter_topic(TOPIC, retention_ms=1, expected_version=1)
    assert late.value.metadata["version"] == "3"
    described = await client.admin.describe_topic(TOPIC)
    assert (described.version, described.retention_ms) == (3, 0)
