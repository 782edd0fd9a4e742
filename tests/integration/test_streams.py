"""Streams to one node, while the node that leads is another one and dies: bare stubs, real processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from grpc import aio

import raftmq
from raftmq import status
from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Client
from raftmq.errors import NotLeader, RaftmqError, ShuttingDown
from raftmq.ids import NodeId
from raftmq.records.batch import decode_records, make_batch
from raftmq.v1 import broker_pb2, broker_pb2_grpc, types_pb2
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC = "streams"
PLENTY = 2**40
WINDOW = 16


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[Client]:
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
        yield client


async def leader(client: Client) -> NodeId:
    found: int | None = None

    async def known() -> bool:
        nonlocal found
        found = (await client.admin.describe_topic(TOPIC)).partitions[0].leader
        return found is not None

    await until(known)
    assert found is not None
    return NodeId(found)


class Stub:
    """One node's broker service. (Its stubs demand iterators of requests, gRPC does not.)"""

    def __init__(self, cluster: LocalCluster, node: NodeId) -> None:
        self.channel = aio.insecure_channel(str(cluster.config.node(node).client_address))
        self.broker: Any = broker_pb2_grpc.BrokerStub(self.channel)

    async def __aenter__(self) -> Any:
        return self.broker

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close(grace=None)


def error_of(error: aio.AioRpcError) -> RaftmqError:
    return status.decode(error.code().name, error.details() or "", cast(Any, error.trailing_metadata() or ()))


async def produce(broker: Any, count: int, halfway: asyncio.Event) -> list[types_pb2.Receipt]:
    """`count` batches of two records through one stream. An error sends it back to the first one without a receipt."""
    producer = (await broker.InitProducer(broker_pb2.InitProducerRequest())).producer_id
    stream = broker.ProduceStream()
    receipts: dict[int, types_pb2.Receipt] = {}
    first = 0
    while first < count:
        window = range(first, min(first + WINDOW, count))
        for number in window:
            records = [types_pb2.Record(value=b"%d.%d" % (number, place)) for place in (0, 1)]
            batch = make_batch(records, producer_id=producer, first_sequence=2 * number, codec=types_pb2.CODEC_LZ4)
            request = broker_pb2.ProduceRequest(topic=TOPIC, partition=0, batch=batch)
            request.timeout.FromSeconds(5)
            await stream.write(broker_pb2.ProduceStreamRequest(correlation_id=number, produce=request))
        for _ in window:
            result = await stream.read()
            if result.HasField("response"):
                receipts.setdefault(result.correlation_id, result.response.receipt)
            else:
                # Whatever it was: the batch is sent again under its number, so it cannot be there twice.
                assert result.error.reason != "INTERNAL"
                await asyncio.sleep(0.01)
        first = next((n for n in window if n not in receipts), window.stop)
        if first > count // 2:
            halfway.set()
    await stream.done_writing()
    return [receipts[number] for number in range(count)]


async def consume(broker: Any, count: int) -> list[tuple[int, bytes]]:
    """(offset, value) of `count` records, pushed with small credits; subscribes again where nobody led for long."""
    found: list[tuple[int, bytes]] = []
    while len(found) < count:
        wanted = broker_pb2.Subscription(topic=TOPIC, partition=0, offset=len(found))
        stream = broker.Subscribe()
        await stream.write(broker_pb2.SubscribeRequest(subscription=wanted, records=20, bytes=PLENTY))
        try:
            while len(found) < count:
                answer = await stream.read()
                for batch in answer.batches:
                    await stream.write(broker_pb2.SubscribeRequest(records=batch.header.count))
                    for place, record in enumerate(decode_records(batch.header, batch.records)):
                        if batch.base_offset + place >= len(found):
                            found.append((batch.base_offset + place, record.value))
        except aio.AioRpcError as error:
            if not error_of(error).retriable:
                raise
        stream.cancel()
    return found


async def test_both_streams_outlive_the_leader(cluster: LocalCluster, client: Client) -> None:
    count = 600
    victim = await leader(client)
    survivor = next(node for node in cluster.nodes if node != victim)
    halfway = asyncio.Event()

    async def kill() -> None:
        await halfway.wait()
        await cluster.kill(victim)

    async with Stub(cluster, survivor) as broker:
        receipts, read, _ = await asyncio.gather(produce(broker, count, halfway), consume(broker, 2 * count), kill())
    assert [receipt.base_offset for receipt in receipts] == list(range(0, 2 * count, 2))
    assert read == [(2 * n + place, b"%d.%d" % (n, place)) for n in range(count) for place in (0, 1)]
    assert receipts[-1].leader_epoch > receipts[0].leader_epoch


async def test_a_stream_that_must_not_be_forwarded_names_the_next_leader(cluster: LocalCluster, client: Client) -> None:
    old = await leader(client)
    new = next(node for node in cluster.nodes if node != old)
    wanted = broker_pb2.Subscription(topic=TOPIC, partition=0, offset=0, no_forward=True)
    async with client.producer(TOPIC) as producer, Stub(cluster, old) as broker:
        await producer.send(b"x")
        stream = broker.Subscribe()
        await stream.write(broker_pb2.SubscribeRequest(subscription=wanted, records=PLENTY, bytes=PLENTY))
        assert (await stream.read()).next_offset == 1
        await client.cluster.transfer_leader(TOPIC, 0, new)
        with pytest.raises(aio.AioRpcError) as caught:
            await stream.read()
    error = error_of(caught.value)
    assert type(error) is NotLeader
    assert error.metadata["leader_node"] == str(new)


async def test_a_node_that_is_stopped_ends_its_streams_and_does_not_wait_for_them(
    cluster: LocalCluster, client: Client
) -> None:
    node = await leader(client)
    async with client.producer(TOPIC) as producer, Stub(cluster, node) as broker:
        await producer.send(b"x")
        wanted = broker_pb2.Subscription(topic=TOPIC, partition=0, offset=0)
        subscribed, producing = broker.Subscribe(), broker.ProduceStream()
        await subscribed.write(broker_pb2.SubscribeRequest(subscription=wanted, records=PLENTY, bytes=PLENTY))
        assert (await subscribed.read()).next_offset == 1
        request = broker_pb2.ProduceRequest(topic=TOPIC, partition=0, records=[types_pb2.Record(value=b"y")])
        await producing.write(broker_pb2.ProduceStreamRequest(correlation_id=7, produce=request))
        assert (await producing.read()).response.receipt.base_offset == 1
        assert (await subscribed.read()).next_offset == 2
        assert await cluster.stop(node), "it had to be killed"
        for stream in (subscribed, producing):
            with pytest.raises(aio.AioRpcError) as caught:
                await stream.read()
            assert type(error_of(caught.value)) is ShuttingDown
