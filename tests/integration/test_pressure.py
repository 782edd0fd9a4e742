"""Full partitions on real processes: what is refused is told so, and there is room again once somebody makes it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import Outcome, OverflowDropped, QueueFull, QuotaExceeded
from raftmq.v1 import broker_pb2, types_pb2
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC = "sale"
PATIENCE_MS = 60_000


async def _send(client: raftmq.Client, name: str, records: int = 10) -> types_pb2.Receipt:
    """One request, once: what the server says to it is raised."""
    request = broker_pb2.ProduceRequest(
        topic=TOPIC, partition=0, message_id=name, records=[types_pb2.Record(value=b"x" * 100)] * records
    )
    node = client._router.metadata.channels()[0]
    answer: broker_pb2.ProduceResponse = await node.call(node.broker.Produce, request, timeout_ms=PATIENCE_MS)
    return answer.receipt


async def _send_to_known_readers(client: raftmq.Client, name: str, records: int = 10) -> types_pb2.Receipt:
    """As `_send`, once the leader has asked who reads the topic: every second. Nothing is dropped before."""
    while True:
        try:
            return await _send(client, name, records)
        except QueueFull as refused:
            await asyncio.sleep(refused.retry_after_ms / 1000)


async def test_a_full_partition_refuses_until_there_is_room(cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        topic = await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3, max_depth_records=20)
        assert (topic.max_depth_records, topic.overflow) == (20, "reject")
        await _send(client, "a")
        await _send(client, "b")
        with pytest.raises(QueueFull) as refused:
            await _send(client, "c")
        assert refused.value.outcome is Outcome.NOT_APPLIED
        assert refused.value.retry_after_ms > 0
        assert refused.value.metadata["limit"] == "20"
        assert (await _send(client, "a")).duplicate, "what is in the log already needs no room"

        # A producer keeps trying, in order, and goes on when the limit is raised under it.
        async with client.producer(TOPIC, linger_ms=0, max_batch_records=10) as producer:
            futures = [await producer.enqueue(str(number).encode(), partition=0) for number in range(30)]
            await client.admin.alter_topic(TOPIC, max_depth_records=60)
            assert [(await future).offset for future in futures] == list(range(20, 50))

        await _alter(client, max_depth_records=50, overflow="drop_oldest")
        assert (await _send_to_known_readers(client, "d")).base_offset == 50

        async def trimmed() -> bool:
            [bounds] = await client.list_offsets(TOPIC)
            return bounds.high_watermark == 60 and bounds.log_start_offset >= 10

        await until(trimmed)

        await _alter(client, max_depth_records=30, overflow="sample", sample_one_in=1_000)
        with pytest.raises(OverflowDropped) as dropped:
            await _send_to_known_readers(client, "e", 1)
        assert dropped.value.outcome is Outcome.NOT_APPLIED
        async with client.producer(TOPIC) as producer:
            with pytest.raises(OverflowDropped):
                await producer.send(b"too much", partition=0)
            await _alter(client, max_depth_records=0)
            assert (await producer.send(b"enough room", partition=0)).offset == 60


async def test_quotas_hold_on_all_nodes_from_the_moment_that_they_are_set(cluster: LocalCluster) -> None:
    async with (
        raftmq.connect(cluster.bootstrap) as operator,
        raftmq.connect(cluster.bootstrap, client_id="greedy") as greedy,
    ):
        await operator.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
        await _send(greedy, "free")
        await operator.admin.set_quota("greedy", produce_bytes_per_s=9_000)
        await operator.admin.set_quota("", requests_per_s=1_000_000)

        async def held_up() -> QuotaExceeded | None:
            try:
                await _send(greedy, "more", 40)
            except QuotaExceeded as refused:
                return refused
            return None

        refused = None
        while refused is None:  # each node lets one through at most, in debt, once it knows
            refused = await held_up()
        assert refused.outcome is Outcome.NOT_APPLIED
        assert refused.retry_after_ms > 0
        assert (await _send(operator, "others")).base_offset is not None

        # What a producer of that client sends comes in all the same, in order, as fast as it may.
        async with greedy.producer(TOPIC, linger_ms=0, max_batch_records=10) as producer:
            futures = [await producer.enqueue(b"x" * 100, partition=0) for _ in range(50)]
            offsets = [(await future).offset for future in futures]
        assert offsets == list(range(offsets[0] or 0, (offsets[0] or 0) + 50))

        assert [quota.client_id for quota in await operator.admin.list_quotas()] == ["", "greedy"]
        await operator.admin.delete_quota("greedy")
        with pytest.raises(raftmq.errors.NotFound):
            await operator.admin.delete_quota("greedy")


async def _alter(client: raftmq.Client, **settings: Any) -> None:
    """Settings hold on other nodes a moment later: wait until every one of them has these."""
    newest = (await client.admin.alter_topic(TOPIC, **settings)).version
    request = broker_pb2.GetMetadataRequest(topics=[TOPIC])

    async def known() -> bool:
        nodes = client._router.metadata.channels()
        answers = [await node.call(node.broker.GetMetadata, request, timeout_ms=PATIENCE_MS) for node in nodes]
        return len(nodes) == 3 and all(one.topics[0].version >= newest for one in answers)

    await until(known)
