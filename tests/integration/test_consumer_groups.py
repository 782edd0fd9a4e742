"""Consumer groups of real processes: members come, go and die, and so do their coordinators."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import defaultdict
from datetime import UTC, datetime

import pytest

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.client.group_consumer import GroupConsumer
from raftmq.errors import GroupNotEmpty, UnknownGroup
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


async def test_a_member_that_slept_past_its_session_is_fenced(cluster: LocalCluster) -> None:
    """What it had goes to another one, and what it commits when it wakes up does not count."""
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
        async with client.producer(TOPIC) as producer:
            for value in (b"first", b"second"):
                await producer.send(value)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.group_member", cluster.bootstrap, TOPIC, GROUP,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdin is not None
        try:
            assert await _line(child.stdout) == "got 0 0"
            child.send_signal(signal.SIGSTOP)
            other = Reader(client, "other")
            await other.start()

            async def taken_over() -> bool:
                return other.seen[0] == [0, 1] and await client.groups.committed(GROUP) == {(TOPIC, 0): 2}

            await until(taken_over)
            child.send_signal(signal.SIGCONT)
            child.stdin.write(b"\n")
            assert (await _line(child.stdout)).startswith("refused ")
            assert await client.groups.committed(GROUP) == {(TOPIC, 0): 2}

            async def back() -> bool:
                return len((await client.groups.describe(GROUP)).members) == 2

            await until(back)
        finally:
            child.kill()
            await child.wait()

        async def gone() -> bool:
            return len((await client.groups.describe(GROUP)).members) == 1

        await until(gone)
        await other.stop()


async def _line(stream: asyncio.StreamReader) -> str:
    async with asyncio.timeout(90):
        return (await stream.readline()).decode().strip()


async def test_offsets_are_reset_and_groups_deleted(cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=2, replication_factor=3)
        await _produce(client, 100)
        ends = {one.partition: one.high_watermark for one in await client.list_offsets(TOPIC)}
        dry = await client.groups.reset(GROUP, TOPIC, "latest", dry_run=True)
        assert {one.partition: (one.before, one.after) for one in dry} == {n: (None, end) for n, end in ends.items()}
        assert await client.groups.list() == ()
        await client.groups.reset(GROUP, TOPIC, "latest")
        assert await client.groups.committed(GROUP) == {(TOPIC, n): end for n, end in ends.items()}
        (back,) = await client.groups.reset(GROUP, TOPIC, shift=-3, partitions=[1])
        assert (back.before, back.after) == (ends[1], ends[1] - 3)
        (lagging,) = [one for one in (await client.groups.describe(GROUP)).partitions if one.partition == 1]
        assert (lagging.lag, lagging.high_watermark) == (3, ends[1])
        assert lagging.lag_ms is not None
        assert lagging.lag_ms > 0
        await client.groups.reset(GROUP, TOPIC, datetime(2000, 1, 1, tzinfo=UTC))
        async with client.consumer(TOPIC, group=GROUP) as consumer:
            assert (await anext(consumer)).offset == 0
            with pytest.raises(GroupNotEmpty):
                await client.groups.delete(GROUP)
        await client.groups.delete(GROUP)
        with pytest.raises(UnknownGroup):
            await client.groups.describe(GROUP)
