"""What nodes refuse, and exchanges choose, on real processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Client
from raftmq.client.connection import NodeChannel
from raftmq.config import ClusterConfig
from raftmq.config.models import Limits, NodeEntry
from raftmq.errors import MemoryPressure, Outcome, QuotaExceeded, RaftmqError
from raftmq.ids import NodeId
from raftmq.v1 import broker_pb2, types_pb2
from tests.integration.conftest import end, free_ports
from tests.integration.test_observe import over_all, scrape, total
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC = "orders"
PATIENCE_MS = 60_000
KIB, MIB = 1024, 1024 * 1024
MEMORY_BYTES = 32 * MIB
"""Less than the interpreter and its libraries take."""


async def test_headers_choose_topics_and_quotas_of_requests_and_of_fetching_hold(cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
        await headers_choose(client)
        await quota_of_fetching(client, cluster)
        await quota_of_requests(client, cluster)


async def headers_choose(client: Client) -> None:
    """All of a binding's headers, or any of them; an empty value stands for every value."""
    for topic in ("all", "any"):
        await client.admin.create_topic(topic, partitions=1, replication_factor=3)
    await client.exchanges.declare("parcels", "headers")
    headers = {"country": b"fr", "express": b""}
    await client.exchanges.bind("parcels", topic="all", headers=headers, match="all")
    await client.exchanges.bind("parcels", topic="any", headers=headers, match="any")
    expected: list[tuple[dict[str, bytes], set[str]]] = [
        ({"country": b"fr", "express": b"yes", "other": b"x"}, {"all", "any"}),
        ({"country": b"fr"}, {"any"}),
        ({"country": b"de", "express": b"no"}, {"any"}),
        ({"country": b"de"}, set()),
        ({}, set()),
    ]
    for number, (told, topics) in enumerate(expected):
        published = await client.publish("parcels", b"%d" % number, headers=list(told.items()))
        assert {one.topic for one in published.topics} == topics, told
    for topic in ("all", "any"):
        async with client.consumer(topic, start="earliest", until="high_watermark") as consumer:
            values = [record.value async for record in consumer]
        assert values == [b"%d" % number for number, (_, topics) in enumerate(expected) if topic in topics]


async def call(client: Client, method: str, request: Any) -> Any:
    """One call, once: what the node says to it is raised."""
    node: NodeChannel = client._router.metadata.channels()[0]
    return await node.call(getattr(node.broker, method), request, timeout_ms=PATIENCE_MS)


def produce(size: int, topic: str = TOPIC) -> broker_pb2.ProduceRequest:
    """A record of that size, with a minute's patience."""
    request = broker_pb2.ProduceRequest(topic=topic, partition=0, records=[types_pb2.Record(value=bytes(size))])
    request.timeout.FromMilliseconds(PATIENCE_MS)
    return request


async def quota_of_fetching(operator: Client, cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap, client_id="reader") as reader:
        await call(operator, "Produce", produce(100 * KIB))
        await operator.admin.set_quota("reader", fetch_bytes_per_s=KIB)
        fetch = broker_pb2.FetchRequest(topic=TOPIC, partition=0, offset=0)

        async def refused() -> bool:
            try:
                await call(reader, "Fetch", fetch)
            except QuotaExceeded as error:
                told = (error.outcome, error.metadata["quota"], error.retry_after_ms > 10_000)
                return told == (Outcome.NOT_APPLIED, "fetch_bytes_per_s", True)
            return False

        await until(refused)
        await call(reader, "Produce", produce(1))  # that is another quota
        await call(operator, "Fetch", fetch)  # and that another client
        assert await over_all(cluster, "raftmq_quota_refused_total", quota="fetch_bytes_per_s") >= 1


async def quota_of_requests(operator: Client, cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap, client_id="busy") as busy:
        await operator.admin.set_quota("busy", requests_per_s=1)

        async def refused() -> bool:
            """Of many requests at once most are too many, however slow each of them is."""
            calls = [call(busy, "ListOffsets", broker_pb2.ListOffsetsRequest(topic=TOPIC)) for _ in range(20)]
            errors = [one for one in await asyncio.gather(*calls, return_exceptions=True) if isinstance(one, Exception)]
            assert all(isinstance(error, QuotaExceeded) for error in errors), errors
            assert all(
                error.metadata["quota"] == "requests_per_s" for error in errors if isinstance(error, RaftmqError)
            )
            return bool(errors)

        await until(refused)
        assert [quota.client_id for quota in await busy.admin.list_quotas()] == ["busy", "reader"], "for free"
        await call(operator, "ListOffsets", broker_pb2.ListOffsetsRequest(topic=TOPIC))
        assert await over_all(cluster, "raftmq_quota_refused_total", quota="requests_per_s") >= 1


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """One node, whose process is larger than it may be: calls have a sixteenth of the limit."""
    client, peer, http = free_ports(3)
    entry = NodeEntry(id=1, client_port=client, peer_port=peer, http_port=http, data=tmp_path / "n1")
    config = ClusterConfig(cluster="small", nodes=(entry,), limits=Limits(memory_bytes=MEMORY_BYTES))
    running = LocalCluster(config)
    try:
        await running.start_all()
        await running.wait_ready()
        yield running
    finally:
        await end(running)


async def test_a_node_with_little_memory_refuses_early_and_lives_on(small: LocalCluster) -> None:
    pid = small.pid(NodeId(1))
    async with raftmq.connect(small.bootstrap) as client:
        for topic, limit in ((TOPIC, 0), ("full", 1)):
            await client.admin.create_topic(
                topic, partitions=1, replication_factor=1, max_batch_bytes=2 * MIB,
                max_depth_records=limit, overflow="block",
            )  # fmt: skip
        await call(client, "Produce", produce(1, "full"))
        # It waits for room in its partition; its bytes are counted as a request, and as a batch.
        waiting = asyncio.create_task(call(client, "Produce", produce(400 * KIB, "full")))

        async def under_way() -> bool:
            return total(await scrape(small, NodeId(1)), "raftmq_memory_calls_bytes") > 800 * KIB

        await until(under_way)
        for size in (900 * KIB, 1_500 * KIB):  # too large as a batch besides, and as a request already
            with pytest.raises(MemoryPressure) as refused:
                await call(client, "Produce", produce(size))
            assert refused.value.outcome is Outcome.NOT_APPLIED
            assert refused.value.retry_after_ms > 0
            assert refused.value.metadata["limit"] == str(MEMORY_BYTES)
        assert (await call(client, "Produce", produce(1))).receipt.base_offset == 0
        told = await scrape(small, NodeId(1))
        assert total(told, "raftmq_memory_refused_total") == 2
        assert total(told, "raftmq_memory_calls_allowed_bytes") == 2 * MIB
        assert not waiting.done()

        async with client.queue("full", "workers", prefetch=1) as worker:
            message = await worker.get(PATIENCE_MS)
            assert message is not None
            await message.ack()
            assert (await waiting).receipt.base_offset == 1

        async def taken() -> bool:
            try:
                answer = await call(client, "Produce", produce(900 * KIB))
            except MemoryPressure:
                return False
            return bool(answer.receipt.base_offset == 1)

        await until(taken)
    assert small.pid(NodeId(1)) == pid
