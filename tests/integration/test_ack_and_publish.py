"""Acknowledge and publish on three real nodes: of each message the records of exactly one worker are in the log."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from grpc import aio

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Client
from raftmq.client.queue import QueueMessage, QueueWorker
from raftmq.client.queue_admin import QueueSettings
from raftmq.errors import LeaseExpired, Outcome, RaftmqError
from raftmq.ids import NodeId
from raftmq.v1 import queue_pb2, queue_pb2_grpc, types_pb2
from tests.integration.test_exchanges import example
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC = "steps"
GROUP = "doublers"
PATIENCE_MS = 60_000
LEASE_MS = 600_000
"""Longer than any machine takes for what is done under it."""
MESSAGES = 60


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[Client]:
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
        yield client


async def fill(client: Client, count: int) -> None:
    async with client.producer(TOPIC) as producer:
        for number in range(count):
            await producer.send(b"%d" % number, key=b"%d" % (number % 7))


async def log(client: Client) -> list[raftmq.ConsumedRecord]:
    async with client.consumer(TOPIC, start="earliest", until="high_watermark") as consumer:
        return [record async for record in consumer]


def is_result(message: QueueMessage | raftmq.ConsumedRecord) -> bool:
    return any(name == "of" for name, _ in message.headers)


async def taken(worker: QueueWorker) -> QueueMessage:
    message = await worker.get(PATIENCE_MS)
    assert message is not None
    return message


async def test_every_message_leads_to_one_result_while_leaders_die(client: Client, cluster: LocalCluster) -> None:
    """Workers do nothing about errors: what did not happen comes again, and what happened does not."""
    rules = QueueSettings(lease_ms=3_000, attempts_max=1_000, backoff_first_ms=1)
    await client.queues.set_group(TOPIC, GROUP, rules)
    await fill(client, MESSAGES)
    published: list[int] = []

    async def double(message: QueueMessage) -> None:
        if is_result(message):
            return
        doubled = raftmq.NewRecord(b"%d" % (2 * int(message.value or b"")), message.key, [("of", message.value or b"")])
        try:
            receipt = await message.ack_and_publish([doubled], processed_key=message.value or b"")
        except LeaseExpired:
            return
        if receipt is not None:
            published.append(message.offset)

    async def done() -> bool:
        _, counts = await client.queues.describe_group(TOPIC, GROUP)
        return sum(one.acked for one in counts) >= 2 * MESSAGES and not any(one.backlog for one in counts)

    async with client.queue(TOPIC, GROUP, prefetch=4) as one, client.queue(TOPIC, GROUP, prefetch=4) as other:
        working = [asyncio.create_task(worker.run(double, concurrency=4)) for worker in (one, other)]
        for least in (MESSAGES // 4, MESSAGES // 2):
            await until(lambda least=least: _true(len(published) >= least))  # type: ignore[misc]
            leader = (await client.admin.describe_topic(TOPIC)).partitions[0].leader
            assert leader is not None
            await cluster.kill(NodeId(leader))
            await cluster.start(NodeId(leader))
        await until(done)
        for task in working:
            task.cancel()
    records = await log(client)
    sources = [record for record in records if not is_result(record)]
    results = Counter(dict(record.headers)["of"] for record in records if is_result(record))
    assert [record.value for record in sources] == [b"%d" % number for number in range(MESSAGES)]
    assert results == Counter(record.value for record in sources)
    found = await client.queues.find_processed(TOPIC, GROUP, [b"0", b"never", b"1"])
    assert [(one.key, one.offset) for one in found] == [(b"0", 0), (b"1", 1)]


async def test_a_late_worker_publishes_nothing_and_a_repeated_call_is_told_so(
    client: Client, cluster: LocalCluster
) -> None:
    await fill(client, 3)
    result = [raftmq.NewRecord(b"result")]
    async with AsyncExitStack() as workers:
        slow = await workers.enter_async_context(client.queue(TOPIC, GROUP, lease_ms=200, prefetch=1))
        late = await taken(slow)
        await until(lambda: _true(late.lease_left_ms == 0))
        quick = await workers.enter_async_context(client.queue(TOPIC, GROUP, lease_ms=LEASE_MS))
        held = sorted([await taken(quick) for _ in range(3)], key=lambda message: message.offset)
        with pytest.raises(LeaseExpired) as caught:
            await late.ack_and_publish(result)
        assert caught.value.outcome is Outcome.NOT_APPLIED
        request = queue_pb2.AckAndPublishRequest(
            topic=TOPIC, group=GROUP, tokens=[held[0].token], records=[types_pb2.Record(value=b"result")],
            processed_keys=[b"work"],
        )  # fmt: skip
        receipts = []
        for node in (1, 2, 3):  # each hands it on to the leader, or is it
            async with aio.insecure_channel(str(cluster.config.node(NodeId(node)).client_address)) as channel:
                receipts.append((await queue_pb2_grpc.QueueStub(channel).AckAndPublish(request, timeout=60)).receipt)
        assert [(one.base_offset, one.duplicate) for one in receipts] == [(3, False), (3, True), (3, True)]
        with pytest.raises(RaftmqError) as refused:
            await held[0].ack_and_publish([raftmq.NewRecord(b"something else")], processed_key=b"work")
        assert refused.value.field == "records"
        done_before, other = held[1:]
        told = await quick.ack_and_publish([done_before, other], result, processed_keys=[b"work", b"more"])
        assert (told.receipt, told.already_processed) == (None, (0,))
        assert (await quick.ack_and_publish([other], result, processed_keys=[b"more"])).receipt is not None
    _, (counts,) = await client.queues.describe_group(TOPIC, GROUP)
    assert (counts.acked, counts.leased) == (3, 0)
    assert [record.value for record in await log(client)] == [b"0", b"1", b"2", b"result", b"result"]
    (work,) = await client.queues.find_processed(TOPIC, GROUP, [b"work"])
    assert (work.partition, work.offset) == (0, 0)


async def test_a_program_without_an_event_loop(client: Client, cluster: LocalCluster) -> None:
    await fill(client, 2)

    def work() -> None:
        with raftmq.blocking.connect(cluster.bootstrap) as blocking, blocking.queue(TOPIC, GROUP) as worker:
            first, second = (worker.get(PATIENCE_MS) for _ in range(2))
            assert first is not None
            assert second is not None
            assert first.ack_and_publish([raftmq.NewRecord(b"one")]).base_offset == 2
            told = worker.ack_and_publish([second], [raftmq.NewRecord(b"two")])
            assert told.receipt is not None

    await asyncio.to_thread(work)
    assert [record.value for record in await log(client)] == [b"0", b"1", b"one", b"two"]


async def test_the_accounts_of_the_worked_example(cluster: LocalCluster) -> None:
    """And what another process reads from the start of the log, after the node is gone that led it."""
    accounts = example("accounts")
    expected = {"ann": 70, "bob": 80}
    assert await accounts.main(cluster.bootstrap) == (expected, True)
    async with raftmq.connect(cluster.bootstrap) as client:
        leader = (await client.admin.describe_topic(accounts.TOPIC)).partitions[0].leader
    assert leader is not None
    await cluster.kill(NodeId(leader))
    rebuilding = await asyncio.create_subprocess_exec(
        sys.executable, accounts.__file__, cluster.bootstrap, "balances", stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await rebuilding.communicate()
    assert printed.decode().split() == [str(word) for account in expected.items() for word in account]


async def _true(value: bool) -> bool:
    return value
