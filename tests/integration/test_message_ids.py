"""Clients without any state, retrying under message ids while processes die: everything is there, and nothing twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from grpc import aio

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import InvalidArgument
from raftmq.ids import NodeId
from raftmq.v1 import broker_pb2, broker_pb2_grpc, types_pb2
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC = "named"
COUNT = 40


class Thin:
    """One client: a generated stub for each node, one attempt after the other at any of them."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        self.name = name
        addresses = [str(cluster.config.node(node).client_address) for node in cluster.nodes]
        self._channels = [aio.insecure_channel(address) for address in addresses]
        self._brokers = [broker_pb2_grpc.BrokerStub(channel) for channel in self._channels]
        self.offsets: dict[str, int] = {}
        self.retried = 0

    async def send(self, number: int) -> types_pb2.Receipt:
        """Try until it is acknowledged, whatever the errors mean."""
        request = broker_pb2.ProduceRequest(
            topic=TOPIC,
            partition=0,
            records=[types_pb2.Record(value=f"{self.name}:{number}".encode())],
            message_id=f"{self.name}:{number}",
        )
        attempt = number
        while True:
            attempt += 1
            try:
                answer = await self._brokers[attempt % len(self._brokers)].Produce(request, timeout=2)
            except aio.AioRpcError:
                self.retried += 1
                await asyncio.sleep(0.02)
            else:
                return answer.receipt

    async def send_all(self) -> None:
        for number in range(COUNT):
            self.offsets[f"{self.name}:{number}"] = (await self.send(number)).base_offset

    async def send_again(self) -> list[tuple[bool, bool]]:
        """(duplicate, where it went the first time) of each."""
        receipts = [await self.send(number) for number in range(COUNT)]
        first = [self.offsets[f"{self.name}:{number}"] for number in range(COUNT)]
        return [(r.duplicate, r.base_offset == offset) for r, offset in zip(receipts, first, strict=True)]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(grace=None)


async def _leader(client: raftmq.Client) -> NodeId:
    leaders: list[int] = []

    async def known() -> bool:
        leader = (await client.admin.describe_topic(TOPIC)).partitions[0].leader
        leaders.extend([] if leader is None else [leader])
        return leader is not None

    await until(known)
    return NodeId(leaders[-1])


async def _run_again_after_all_nodes_died(cluster: LocalCluster, client: raftmq.Client) -> None:
    """The same program twice, with nothing left in any memory between."""
    records = [raftmq.NewRecord(b"%d" % number, key=b"k%d" % number) for number in range(20)]
    await client.admin.create_topic("imported", partitions=3, replication_factor=3)
    first = await client.send_once("imported", records, message_id="import")
    assert sorted(receipt.partition for receipt in first) == [0, 1, 2]
    for node in cluster.nodes:
        await cluster.kill(node)
    await cluster.start_all()
    again = await client.send_once("imported", records, message_id="import", timeout_ms=90_000)
    assert [receipt.duplicate for receipt in again] == [True] * 3
    assert [receipt.base_offset for receipt in again] == [receipt.base_offset for receipt in first]
    with pytest.raises(InvalidArgument) as refused:
        await client.send_once("imported", records[:-1], message_id="import")
    assert refused.value.field == "message_id"
    bounds = await client.list_offsets("imported")
    assert sum(partition.high_watermark for partition in bounds) == 20


async def test_retries_under_a_message_id_are_appended_once_while_leaders_die(cluster: LocalCluster) -> None:
    clients = [Thin(cluster, name) for name in "abc"]
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
        sending = [asyncio.create_task(thin.send_all()) for thin in clients]
        for progress in (COUNT // 4, COUNT // 2):

            async def sent(progress: int = progress) -> bool:
                return all(len(thin.offsets) >= progress for thin in clients)

            await until(sent)
            victim = await _leader(client)
            await cluster.kill(victim)
            await cluster.start(victim)
        await asyncio.gather(*sending)
        await cluster.wait_ready()
        for thin in clients:
            assert await thin.send_again() == [(True, True)] * COUNT
        await _run_again_after_all_nodes_died(cluster, client)
        assert await clients[0].send_again() == [(True, True)] * COUNT
        async with client.consumer(TOPIC, start="earliest", until="high_watermark") as consumer:
            read = Counter([record.value async for record in consumer])
    assert read == Counter(message_id.encode() for thin in clients for message_id in thin.offsets)
    for thin in clients:
        await thin.close()
