"""Consumer groups of real processes: members come, go and die, and so do their coordinators."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.client.group_consumer import GroupConsumer
from raftmq.ids import NodeId
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC, GROUP, PARTITIONS = "orders", "billing", 6


class Reader:
    """A member that notes what it is given."""

    def __init__(self, client: raftmq.Client, name: str) -> None:
        self.consumer: GroupConsumer = client.consumer(
            TOPIC, group=GROUP, client_id=name, session_timeout_ms=6_000, commit_interval_ms=100
        )
        self.seen: dict[int, list[int]] = defaultdict(list)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.consumer.__aenter__()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for record in self.consumer:
            self.seen[record.partition].append(record.offset)

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.consumer.__aexit__(None, None, None)


async def _produce(client: raftmq.Client, count: int) -> None:
    async with client.producer(TOPIC) as producer:
        for number in range(count):
            await producer.enqueue(b"%d" % number, key=b"k%d" % (number % 50))


async def test_members_share_a_topic_while_members_and_coordinators_come_and_go(cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
        await _produce(client, 600)
        readers = [Reader(client, name) for name in "ab"]
        for reader in readers:
            await reader.start()

        async def shared() -> bool:
            return sorted(len(reader.consumer.assignment) for reader in readers) == [3, 3]

        await until(shared)

        async def drained() -> bool:
            described = await client.groups.describe(GROUP)
            return len(described.partitions) == PARTITIONS and all(one.lag == 0 for one in described.partitions)

        await until(drained)
        coordinator = (await client.groups.describe(GROUP)).coordinator
        assert coordinator is not None
        await cluster.kill(NodeId(coordinator))
        await _produce(client, 600)
        await until(drained)
        assert await shared()
        await cluster.start(NodeId(coordinator))
        await readers[0].stop()

        async def taken_over() -> bool:
            return len(readers[1].consumer.assignment) == PARTITIONS

        await until(taken_over)
        await _produce(client, 600)
        await until(drained)
        await readers[1].stop()
        bounds = await client.list_offsets(TOPIC)
        for one in bounds:
            given = [offset for reader in readers for offset in reader.seen[one.partition]]
            assert set(given) == set(range(one.high_watermark))
        assert (await client.groups.list())[0].members == 0
        assert [topic.name for topic in await client.admin.list_topics()] == [TOPIC]
        committed = await client.groups.committed(GROUP)
        assert committed == {(TOPIC, one.partition): one.high_watermark for one in bounds}
