"""Generated stubs and nothing else, through any one node: what a client in any language sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from datetime import UTC, datetime
from typing import cast

import pytest
from grpc import aio

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.ids import NodeId
from raftmq.records.batch import decode_records, make_batch
from raftmq.records.slots import partition_for_key
from raftmq.v1 import broker_pb2, broker_pb2_grpc, types_pb2
from tests.integration.workload import until

pytestmark = pytest.mark.integration

TOPIC = "thin"


@pytest.fixture
async def brokers(cluster: LocalCluster) -> AsyncIterator[dict[NodeId, broker_pb2_grpc.BrokerAsyncStub]]:
    """A bare stub for each node, and a topic with three partitions."""
    async with raftmq.connect(cluster.bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=3, replication_factor=3)
    channels = {node: aio.insecure_channel(str(cluster.config.node(node).client_address)) for node in cluster.nodes}
    yield {node: broker_pb2_grpc.BrokerStub(channel) for node, channel in channels.items()}
    for channel in channels.values():
        await channel.close(grace=None)


def record(value: bytes) -> types_pb2.Record:
    return types_pb2.Record(value=value)


async def refusal(call: Awaitable[object]) -> tuple[str, str, str]:
    """(code, reason, outcome) of a call that must fail."""
    with pytest.raises(aio.AioRpcError) as failed:
        await call
    trailers = dict(cast("Iterable[tuple[str, str]]", failed.value.trailing_metadata()))
    return failed.value.code().name, trailers["raftmq-reason"], trailers["raftmq-outcome"]


@pytest.mark.parametrize("acks", ["ACKS_UNSPECIFIED", "ACKS_ALL", "ACKS_QUORUM", "ACKS_LEADER", "ACKS_NONE"])
async def test_every_level_through_every_node_in_one_order(
    brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub], acks: str
) -> None:
    offsets = []
    for node, broker in brokers.items():
        request = broker_pb2.ProduceRequest(
            topic=TOPIC, partition=1, records=[record(b"from %d" % node)], acks=types_pb2.Acks.Value(acks)
        )
        answer = await broker.Produce(request)
        offsets.append(answer.receipt.base_offset)
        holders = {"ACKS_NONE": 0, "ACKS_LEADER": 1, "ACKS_QUORUM": 2}.get(acks, 3)
        assert len(answer.receipt.replicas) >= holders
        assert answer.header.cluster_id
    assert offsets == [0, 1, 2]
    for broker in brokers.values():
        read = await _read(broker, 1, 0, 3)
        assert read == [b"from 1", b"from 2", b"from 3"]


async def _read(broker: broker_pb2_grpc.BrokerAsyncStub, partition: int, offset: int, count: int) -> list[bytes]:
    """`count` values from `offset` on; waits for them, as a consumer would."""
    values: list[bytes] = []
    while len(values) < count:
        request = broker_pb2.FetchRequest(topic=TOPIC, partition=partition, offset=offset + len(values))
        request.max_wait.FromSeconds(10)
        answer = await broker.Fetch(request)
        for batch in answer.batches:
            skip = offset + len(values) - batch.base_offset
            values += [each.value for each in decode_records(batch.header, batch.records)[skip:]]
    return values


async def test_a_long_poll_is_answered_by_the_record_it_waits_for(
    brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub],
) -> None:
    reading = asyncio.create_task(_read(brokers[NodeId(1)], 0, 0, 1))
    await brokers[NodeId(2)].Produce(broker_pb2.ProduceRequest(topic=TOPIC, partition=0, records=[record(b"news")]))
    assert await reading == [b"news"]


async def test_a_retry_through_another_node_gets_the_original_offset(
    brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub],
) -> None:
    producer = await brokers[NodeId(3)].InitProducer(broker_pb2.InitProducerRequest())
    other = await brokers[NodeId(1)].InitProducer(broker_pb2.InitProducerRequest())
    assert producer.producer_id != other.producer_id
    batch = make_batch([record(b"a"), record(b"b")], producer_id=producer.producer_id)
    request = broker_pb2.ProduceRequest(topic=TOPIC, partition=2, batch=batch)
    answers = [await broker.Produce(request) for broker in brokers.values()]
    assert [answer.receipt.base_offset for answer in answers] == [0, 0, 0]
    assert [answer.receipt.duplicate for answer in answers] == [False, True, True]
    gap = make_batch([record(b"z")], producer_id=producer.producer_id, first_sequence=9)
    request = broker_pb2.ProduceRequest(topic=TOPIC, partition=2, batch=gap)
    told = await refusal(brokers[NodeId(1)].Produce(request))
    assert told == ("FAILED_PRECONDITION", "OUT_OF_ORDER_SEQUENCE", "NOT_APPLIED")


async def test_bounds_are_linearizable_through_any_node(
    brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub],
) -> None:
    for count, (node, broker) in enumerate(brokers.items(), start=1):
        produce = broker_pb2.ProduceRequest(topic=TOPIC, partition=0, records=[record(b"x")])
        await broker.Produce(produce)
        asked = brokers[NodeId(node % 3 + 1)]
        answer = await asked.ListOffsets(broker_pb2.ListOffsetsRequest(topic=TOPIC))
        assert [(p.partition, p.high_watermark) for p in answer.partitions] == [(0, count), (1, 0), (2, 0)]


async def test_what_is_wrong_is_told_and_the_next_call_is_served(
    brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub],
) -> None:
    broker = brokers[NodeId(2)]
    beyond = broker_pb2.FetchRequest(topic=TOPIC, partition=0, offset=99)
    assert (await refusal(broker.Fetch(beyond)))[:2] == ("OUT_OF_RANGE", "OFFSET_OUT_OF_RANGE")
    unknown = broker_pb2.ProduceRequest(topic="nowhere", partition=0, records=[record(b"x")])
    assert (await refusal(broker.Produce(unknown)))[:2] == ("NOT_FOUND", "UNKNOWN_TOPIC")
    corrupt = make_batch([record(b"x")])
    corrupt.header.crc32c ^= 1
    request = broker_pb2.ProduceRequest(topic=TOPIC, partition=0, batch=corrupt)
    told = await refusal(broker.Produce(request))
    assert told == ("INVALID_ARGUMENT", "CORRUPT_BATCH", "NOT_APPLIED")
    leader = (await broker.GetMetadata(broker_pb2.GetMetadataRequest(topics=[TOPIC]))).topics[0].partitions[0]
    follower = brokers[NodeId(next(n for n in (1, 2, 3) if n != leader.leader_node_id))]
    stubborn = broker_pb2.ProduceRequest(topic=TOPIC, partition=0, records=[record(b"x")], no_forward=True)
    told = await refusal(follower.Produce(stubborn))
    assert told == ("FAILED_PRECONDITION", "NOT_LEADER", "NOT_APPLIED")
    fine = await broker.Produce(broker_pb2.ProduceRequest(topic=TOPIC, partition=0, records=[record(b"x")]))
    assert fine.receipt.base_offset == 0


async def test_a_deleted_topic_is_gone_on_every_node_and_its_name_is_free(
    cluster: LocalCluster, brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub]
) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        async with client.producer(TOPIC) as producer:
            await producer.send(b"old")
        await client.admin.delete_topic(TOPIC)
        await client.admin.create_topic(TOPIC, partitions=1, replication_factor=3)
        async with client.producer(TOPIC) as producer:
            receipt = await producer.send(b"new")
    assert receipt.offset == 0
    for broker in brokers.values():
        assert await _read(broker, 0, 0, 1) == [b"new"]


async def test_keyed_records_go_to_their_partitions_through_any_node(
    brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub],
) -> None:
    sent = [types_pb2.Record(key=b"%d" % (n % 20), value=b"%d" % n) for n in range(100)]
    for turn, broker in enumerate(brokers.values()):
        answer = await broker.Produce(broker_pb2.ProduceRequest(topic=TOPIC, records=sent))
        assert [result.partition for result in answer.results] == [0, 1, 2]
        for result in answer.results:
            meant = [sent[position] for position in result.record_positions]
            assert {partition_for_key(one.key, 3) for one in meant} == {result.partition}
            assert result.receipt.base_offset == turn * len(meant)
            for other in brokers.values():
                read = await _read(other, result.partition, result.receipt.base_offset, len(meant))
                assert read == [one.value for one in meant]


async def test_of_conditional_appends_through_all_nodes_one_wins_each_time(
    brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub],
) -> None:
    for offset in range(5):
        request = broker_pb2.ProduceRequest(topic=TOPIC, partition=1, records=[record(b"x")], expected_offset=offset)
        answers = await asyncio.gather(*(each.Produce(request) for each in brokers.values()), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, aio.AioRpcError)]
        [won] = [answer for answer in answers if isinstance(answer, broker_pb2.ProduceResponse)]
        assert won.receipt.base_offset == offset
        assert {error.code().name for error in refused} == {"ABORTED"}


async def test_writes_are_read_back_through_other_nodes(
    brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub],
) -> None:
    """Even those that were acknowledged by the leader's disk alone."""
    for node, broker in brokers.items():
        request = broker_pb2.ProduceRequest(
            topic=TOPIC, partition=2, records=[record(b"%d" % node)], acks=types_pb2.ACKS_LEADER
        )
        receipt = (await broker.Produce(request)).receipt
        read = broker_pb2.FetchRequest(
            topic=TOPIC, partition=2, offset=receipt.base_offset, min_offset=receipt.base_offset + 1
        )
        [batch] = (await brokers[NodeId(node % 3 + 1)].Fetch(read)).batches
        assert decode_records(batch.header, batch.records)[0].value == b"%d" % node


async def test_reading_begins_at_a_time(
    cluster: LocalCluster, brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub]
) -> None:
    stamps = []
    for number in range(4):
        request = broker_pb2.ProduceRequest(topic=TOPIC, partition=0, records=[record(b"%d" % number)])
        stamps.append((await brokers[NodeId(1)].Produce(request)).receipt.append_time_ms)
    async with raftmq.connect(cluster.bootstrap) as client:
        for stamp in stamps:
            begin = datetime.fromtimestamp(stamp / 1000, UTC)
            async with client.consumer(TOPIC, start=begin, partitions=[0], until="high_watermark") as consumer:
                read = [each.append_time_ms async for each in consumer]
            assert read == [other for other in stamps if other >= stamp]


async def test_every_replica_in_sync_gives_what_was_acknowledged(
    cluster: LocalCluster, brokers: dict[NodeId, broker_pb2_grpc.BrokerAsyncStub]
) -> None:
    sent = [b"%d" % number for number in range(20)]
    for value in sent:
        await brokers[NodeId(1)].Produce(broker_pb2.ProduceRequest(topic=TOPIC, partition=0, records=[record(value)]))
    for node, broker in brokers.items():

        async def answered_here(node: NodeId = node, broker: broker_pb2_grpc.BrokerAsyncStub = broker) -> bool:
            """Where a slow machine has put it out of sync for a moment, the leader answers instead: the same."""
            request = broker_pb2.FetchRequest(topic=TOPIC, partition=0, offset=0, min_offset=20, any_replica=True)
            answer = await broker.Fetch(request)
            read = [each.value for batch in answer.batches for each in decode_records(batch.header, batch.records)]
            assert (read, answer.high_watermark) == (sent, 20)
            return answer.header.node_id == node

        await until(answered_here)
    async with raftmq.connect(cluster.bootstrap) as client:
        for rack in ("r1", "r2", "r3", "nowhere"):
            async with client.consumer(
                TOPIC, start="earliest", partitions=[0], until="high_watermark", rack=rack
            ) as consumer:
                assert [each.value async for each in consumer] == sent
