"""Queue groups on three real nodes: messages are leased, settled, handed out again, and survive the leader's death."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import Any, cast

import lz4.frame
import pytest
from grpc import aio

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Client
from raftmq.client.queue import QueueMessage
from raftmq.client.queue_admin import QueueSettings
from raftmq.errors import LeaseExpired, UnknownQueueGroup
from raftmq.ids import NodeId
from raftmq.v1 import broker_pb2, broker_pb2_grpc, queue_pb2, queue_pb2_grpc, types_pb2
from tests.integration.test_exchanges import example
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC = "orders"
PATIENCE_MS = 60_000


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[Client]:
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=3, replication_factor=3)
        yield client


async def fill(client: Client, count: int) -> set[bytes]:
    values = {b"%d" % number for number in range(count)}
    async with client.producer(TOPIC) as producer:
        for value in sorted(values):
            await producer.send(value, key=value)
    return values


async def test_workers_share_all_partitions_and_nothing_is_handed_out_twice(client: Client) -> None:
    values = await fill(client, 60)
    taken: list[bytes | None] = []

    async def work() -> None:
        async with client.queue(TOPIC, "billing", prefetch=8) as worker:
            while len(taken) < len(values):
                message = await worker.get(100)
                if message is not None:
                    async with message:
                        assert message.failures == 0
                        taken.append(message.value)

    await asyncio.gather(work(), work(), work())
    assert sorted(taken, key=str) == sorted(values, key=str)


async def test_messages_survive_the_death_of_their_leader(client: Client, cluster: LocalCluster) -> None:
    values = await fill(client, 30)
    async with client.queue(TOPIC, "billing", prefetch=30) as worker:
        held = [await worker.get(PATIENCE_MS) for _ in values]
        messages = [message for message in held if message is not None]
        assert {message.value for message in messages} == values
        for message in messages[:10]:
            await message.ack()
        leader = (await client.admin.describe_topic(TOPIC)).partitions[0].leader
        assert leader is not None
        await cluster.kill(NodeId(leader))
        for message in messages[10:20]:
            await message.ack()
        for message in messages[20:]:
            await message.release()
        done = {message.value for message in messages[:20]}
        again: list[QueueMessage] = []
        while len(again) < 10:
            back = await worker.get(PATIENCE_MS)
            assert back is not None
            again.append(back)
            await back.ack()
        assert {message.value for message in again} == values - done


async def test_any_node_serves_a_thin_client_that_names_no_partition(client: Client, cluster: LocalCluster) -> None:
    await fill(client, 1)
    async with aio.insecure_channel(str(cluster.config.node(NodeId(2)).client_address)) as channel:
        stub = queue_pb2_grpc.QueueStub(channel)
        request = queue_pb2.ReceiveRequest(topic=TOPIC, group="thin", max_messages=10)
        answer = await stub.Receive(request, timeout=60)
        (message,) = answer.messages
        assert message.record.value == b"0"
        assert not (await stub.Receive(request, timeout=60)).messages
        acked = await stub.Ack(queue_pb2.AckRequest(topic=TOPIC, group="thin", tokens=[message.token]), timeout=60)
        assert not acked.failures
        retried = queue_pb2.RetryRequest(topic=TOPIC, group="thin", tokens=[message.token])
        (failure,) = (await stub.Retry(retried, timeout=60)).failures
        assert failure.error.reason == "LEASE_EXPIRED"
        request.max_wait.FromSeconds(60)
        waiting = asyncio.ensure_future(stub.Receive(request, timeout=80))
        async with client.producer(TOPIC) as producer:
            await producer.send(b"late", key=b"late")
        (message,) = (await waiting).messages
        assert message.record.value == b"late"
        described = await stub.DescribeGroup(queue_pb2.DescribeGroupRequest(topic=TOPIC, group="thin"), timeout=60)
        assert sum(one.leased for one in described.partitions) == 1
        assert sum(one.acked for one in described.partitions) == 1


async def test_a_message_whose_lease_is_over_comes_again_and_its_late_ack_fails(client: Client) -> None:
    await fill(client, 1)
    async with client.queue(TOPIC, "slow", lease_ms=200, prefetch=1) as first:
        late = await first.get(PATIENCE_MS)
        assert late is not None
        async with client.queue(TOPIC, "slow") as second:
            message = await second.get(PATIENCE_MS)
            assert message is not None
            assert (message.attempt, message.failures) == (2, 1)
            with pytest.raises(LeaseExpired):
                await late.ack()
            await message.ack()


async def test_a_stream_pushes_messages_and_takes_verdicts(client: Client, cluster: LocalCluster) -> None:
    await fill(client, 4)
    async with aio.insecure_channel(str(cluster.config.node(NodeId(1)).client_address)) as channel:
        stream: Any = cast(Any, queue_pb2_grpc.QueueStub(channel)).Work(timeout=80)
        subscription = queue_pb2.ReceiveRequest(topic=TOPIC, group="pushed")
        await stream.write(queue_pb2.WorkRequest(subscription=subscription))
        await stream.write(queue_pb2.WorkRequest(credit=queue_pb2.WorkCredit(messages=4, bytes=2**20)))
        tokens: list[bytes] = []
        while len(tokens) < 4:
            tokens += [message.token for message in (await stream.read()).messages.messages]
        ack = queue_pb2.AckRequest(topic=TOPIC, group="pushed", tokens=tokens[1:])
        for number in (1, 2):
            await stream.write(queue_pb2.WorkRequest(correlation_id=number, ack=ack))
            verdict = (await stream.read()).verdict
            assert (verdict.correlation_id, list(verdict.failures), verdict.error.message) == (number, [], "")
        published = queue_pb2.AckAndPublishRequest(
            topic=TOPIC, group="pushed", tokens=tokens[:1], records=[types_pb2.Record(value=b"result")]
        )
        await stream.write(queue_pb2.WorkRequest(correlation_id=4, ack_and_publish=published))
        verdict = (await stream.read()).verdict
        assert (verdict.correlation_id, verdict.receipt.count, verdict.receipt.duplicate) == (4, 1, False)
        late = queue_pb2.RetryRequest(topic=TOPIC, group="pushed", tokens=tokens[:1])
        await stream.write(queue_pb2.WorkRequest(correlation_id=3, retry=late))
        assert (await stream.read()).verdict.failures[0].error.reason == "LEASE_EXPIRED"
        await stream.done_writing()
        assert await stream.read() is cast(Any, aio).EOF


async def test_what_fails_too_often_is_parked_looked_at_and_redriven(client: Client) -> None:
    await client.queues.set_group(TOPIC, "picky", QueueSettings(attempts_max=2, backoff_first_ms=1))
    await fill(client, 3)
    handled: list[bytes | None] = []
    is_repaired = False

    async def handle(message: QueueMessage) -> None:
        if message.value == b"1" and not is_repaired:
            raise ValueError("no such customer")
        handled.append(message.value)

    async with client.queue(TOPIC, "picky") as worker:
        working = asyncio.create_task(worker.run(handle, concurrency=2))

        async def parked() -> bool:
            _, counts = await client.queues.describe_group(TOPIC, "picky")
            return sum(one.parked for one in counts) == 1 and sum(one.acked for one in counts) == 2

        await until(parked)
        _, counts = await client.queues.describe_group(TOPIC, "picky")
        partition = next(one.partition for one in counts if one.parked)
        (letter,), after = await client.queues.peek(TOPIC, "picky", partition)
        assert (letter.value, letter.attempts, letter.failures, after) == (b"1", 2, 2, None)
        assert (letter.reason, letter.error) == ("TOO_MANY_FAILURES", "ValueError: no such customer")
        tried = await client.queues.redrive(TOPIC, "picky", error_contains="customer", dry_run=True)
        assert [one.matched for one in tried if one.matched] == [1]
        is_repaired = True
        driven = await client.queues.redrive(TOPIC, "picky", error_contains="customer", rate_per_s=100)
        assert sum(one.redriven for one in driven) == 1
        await until(lambda: _true(len(handled) == 3))
        working.cancel()
    assert sorted(handled, key=str) == [b"0", b"1", b"2"]


async def test_priorities_schedules_and_seeking(client: Client) -> None:
    soon = 1_500
    async with client.producer(TOPIC) as producer:
        now = round(time.time() * 1000)
        await producer.send(b"plain", partition=0)
        await producer.send(b"urgent", partition=0, priority=9)
        await producer.send(b"stale", partition=0, expires_at_ms=now - 1)
        never = await producer.send(b"never", partition=0, deliver_at_ms=now + 3_600_000)
        later = await producer.send(b"later", partition=0, deliver_at_ms=now + soon)
    assert never.offset is not None
    assert await client.queues.cancel_scheduled(TOPIC, 0, never.offset) == ((), ())
    await client.queues.set_group(TOPIC, "plans")
    assert await client.queues.cancel_scheduled(TOPIC, 0, never.offset) == (("plans",), ())
    taken: list[bytes | None] = []
    async with client.queue(TOPIC, "plans", prefetch=1, partitions=[0]) as worker:
        for _ in range(3):
            message = await worker.get(PATIENCE_MS)
            assert message is not None
            async with message:
                taken.append(message.value)
        assert round(time.time() * 1000) >= now + soon
    assert taken == [b"urgent", b"plain", b"later"]
    assert later.offset is not None
    assert (await client.queues.seek(TOPIC, "plans", later.offset, partitions=[0])) == {0: later.offset}
    async with client.queue(TOPIC, "plans", partitions=[0]) as worker:
        message = await worker.get(PATIENCE_MS)
        assert message is not None
        assert (message.value, message.attempt) == (b"later", 1)
        await message.ack()


async def test_what_is_done_is_removed_and_what_is_parked_outlives_the_log(client: Client) -> None:
    await client.queues.set_group(TOPIC, "tidy", QueueSettings(retention="delete_on_ack"))
    async with client.producer(TOPIC) as producer:
        for value in (b"bad", b"good"):
            await producer.send(value, partition=1)
    async with client.queue(TOPIC, "tidy", partitions=[1]) as worker:
        for verdict in ("park", "ack"):
            message = await worker.get(PATIENCE_MS)
            assert message is not None
            await (message.park("poison") if verdict == "park" else message.ack())

    async def trimmed() -> bool:
        return (await client.list_offsets(TOPIC, [1]))[0].log_start_offset == 2

    await until(trimmed)
    (letter,), _ = await client.queues.peek(TOPIC, "tidy", 1)
    assert (letter.offset, letter.value, letter.reason) == (0, b"bad", "poison")
    await client.queues.redrive(TOPIC, "tidy", partition=1, offsets=[0])
    async with client.queue(TOPIC, "tidy", partitions=[1]) as worker:
        message = await worker.get(PATIENCE_MS)
        assert message is not None
        assert message.value == b"bad"
        await message.ack()
    await client.queues.delete_group(TOPIC, "tidy")
    with pytest.raises(UnknownQueueGroup):
        await client.queues.describe_group(TOPIC, "tidy")


async def test_dead_letters_are_copied_to_a_topic(client: Client, cluster: LocalCluster) -> None:
    await client.admin.create_topic("letters", partitions=1, replication_factor=3)
    kept = QueueSettings(attempts_max=1, dead_letter_topic="letters")
    await client.queues.set_group(TOPIC, "kept", kept)
    await client.queues.set_group(TOPIC, "moved", replace(kept, dead_letter_remove=True))
    await fill(client, 2)

    async def park_all(group: str) -> None:
        async with client.queue(TOPIC, group) as worker:
            for _ in range(2):
                message = await worker.get(PATIENCE_MS)
                assert message is not None
                await message.retry(error="no such customer")

    async def numbers(group: str) -> tuple[int, int, int]:
        _, counts = await client.queues.describe_group(TOPIC, group)
        return sum(one.parked for one in counts), sum(one.unrouted for one in counts), sum(one.done for one in counts)

    await park_all("kept")
    leader = (await client.admin.describe_topic("letters")).partitions[0].leader
    assert leader is not None
    await cluster.kill(NodeId(leader))
    await park_all("moved")
    await until(lambda: _same(numbers("kept"), (2, 0, 0)))
    await until(lambda: _same(numbers("moved"), (0, 0, 2)))
    async with client.consumer("letters", start="earliest", until="high_watermark") as consumer:
        letters = [record async for record in consumer]
    told = [{name.removeprefix("raftmq-dead-letter-"): value for name, value in one.headers} for one in letters]
    assert sorted((one.value, head["group"]) for one, head in zip(letters, told, strict=True)) == [
        (b"0", b"kept"), (b"0", b"moved"), (b"1", b"kept"), (b"1", b"moved")
    ]  # fmt: skip
    assert all(one.key == one.value for one in letters)
    assert {(head["topic"], head["reason"], head["error"], head["failures"]) for head in told} == {
        (TOPIC.encode(), b"TOO_MANY_FAILURES", b"no such customer", b"1")
    }
    peeked = [await client.queues.peek(TOPIC, "kept", partition) for partition in range(3)]
    assert [one.routed for found, _ in peeked for one in found] == [True, True]


async def _same(asked: Awaitable[tuple[int, int, int]], expected: tuple[int, int, int]) -> bool:
    return await asked == expected


async def test_the_worked_examples(cluster: LocalCluster) -> None:
    first, later = await example("order_queue").main(cluster.bootstrap)
    assert (first, later) == ([b"order 1", b"order 3"], [b"order 2"])
    assert await example("slow_api").main(cluster.bootstrap) > 2


async def test_a_program_without_an_event_loop(client: Client, cluster: LocalCluster) -> None:
    await fill(client, 2)

    def work() -> list[bytes]:
        taken: list[bytes] = []
        with raftmq.blocking.connect(cluster.bootstrap) as blocking:
            with blocking.queue(TOPIC, "plain") as worker:
                for message in worker:
                    with message:
                        taken.append(message.value)
                    if len(taken) == 2:
                        break
            counts = blocking.run(blocking.queues.describe_group(TOPIC, "plain"))[1]
        assert sum(one.acked for one in counts) == 2
        return taken

    assert sorted(await asyncio.to_thread(work)) == [b"0", b"1"]


async def _true(value: bool) -> bool:
    return value


async def test_records_that_no_worker_can_have_stop_nobody(client: Client, cluster: LocalCluster) -> None:
    """What a batch holds is its sender's affair until a queue looks into it."""
    wild = types_pb2.Record(value=b"wild", priority=200, deliver_at_ms=-1, expires_at_ms=-(2**63))
    raw = types_pb2.RecordSet(records=[wild]).SerializeToString()
    header = types_pb2.BatchHeader(count=1, raw_size=len(raw))
    noise = lz4.frame.compress(b"\xff" * len(raw), store_size=True)
    broken = types_pb2.BatchHeader(count=3, raw_size=len(raw), codec=types_pb2.CODEC_LZ4)
    async with aio.insecure_channel(str(cluster.config.node(NodeId(1)).client_address)) as channel:
        stub = broker_pb2_grpc.BrokerStub(channel)
        for head, payload in ((header, raw), (broken, noise)):
            batch = types_pb2.RecordBatch(header=head, records=payload)
            await stub.Produce(broker_pb2.ProduceRequest(topic=TOPIC, partition=0, batch=batch), timeout=60)
    async with client.producer(TOPIC) as producer:
        await producer.send(b"tame", partition=0)
    async with client.queue(TOPIC, "brave") as worker:
        taken: set[bytes | None] = set()
        while taken != {b"wild", b"tame"}:
            message = await worker.get(PATIENCE_MS)
            assert message is not None
            await message.ack()
            taken.add(message.value)

    async def parked() -> bool:
        _, counts = await client.queues.describe_group(TOPIC, "brave")
        return sum(one.parked for one in counts) == 3

    await until(parked)
