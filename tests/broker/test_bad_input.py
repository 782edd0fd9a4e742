"""Every malformed request is refused with a typed error that names the field, and the next request is served."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from raftmq.errors import (
    CorruptBatch,
    InvalidArgument,
    MessageTooLarge,
    Outcome,
    RaftmqError,
    Unimplemented,
    UnknownNode,
    UnknownPartition,
    UnknownTopic,
)
from raftmq.records.batch import make_batch
from raftmq.v1 import admin_pb2, broker_pb2, cluster_pb2, types_pb2
from tests.broker.cluster import Node, refusal

Produce = broker_pb2.ProduceRequest
Fetch = broker_pb2.FetchRequest
RECORD = types_pb2.Record(value=b"v")


def batch(**header: int) -> types_pb2.RecordBatch:
    made = make_batch([RECORD, RECORD])
    for name, value in header.items():
        setattr(made.header, name, value)
    return made


def squeezed(**header: int) -> types_pb2.RecordBatch:
    """A megabyte in a few dozen bytes."""
    made = make_batch([types_pb2.Record(value=bytes(2**20))], codec=types_pb2.CODEC_ZSTD)
    made.header.ClearField("crc32c")
    for name, value in header.items():
        setattr(made.header, name, value)
    return made


PRODUCE_REFUSED: list[tuple[str, Produce, type[RaftmqError], str]] = [
    ("no topic", Produce(partition=0, batch=batch()), InvalidArgument, "topic"),
    ("unknown topic", Produce(topic="nope", partition=0, batch=batch()), UnknownTopic, "topic"),
    ("name of a mebibyte", Produce(topic="x" * 2**20, partition=0, batch=batch()), UnknownTopic, "topic"),
    ("name with control characters", Produce(topic="a\n\0b", partition=0, batch=batch()), UnknownTopic, "topic"),
    ("no such partition", Produce(topic="orders", partition=3, batch=batch()), UnknownPartition, "partition"),
    ("largest partition", Produce(topic="orders", partition=2**32 - 1, batch=batch()), UnknownPartition, "partition"),
    ("batch without partition", Produce(topic="orders", batch=batch()), InvalidArgument, "partition"),
    ("nothing to append", Produce(topic="orders", partition=0), InvalidArgument, "batch"),
    ("batch and records", Produce(topic="orders", partition=0, batch=batch(), records=[RECORD]), InvalidArgument,
     "records"),
    ("empty batch", Produce(topic="orders", partition=0, batch=types_pb2.RecordBatch()), InvalidArgument,
     "batch.header.count"),
    ("wrong count", Produce(topic="orders", partition=0, batch=batch(count=3)), CorruptBatch, "batch.header.count"),
    ("wrong checksum", Produce(topic="orders", partition=0, batch=batch(crc32c=1)), CorruptBatch,
     "batch.header.crc32c"),
    ("wrong size", Produce(topic="orders", partition=0, batch=batch(raw_size=1)), CorruptBatch,
     "batch.header.raw_size"),
    ("producer id too large", Produce(topic="orders", partition=0, batch=batch(producer_id=2**63)), InvalidArgument,
     "batch.header.producer_id"),
    ("unknown codec", Produce(topic="orders", partition=0, batch=batch(codec=9)), InvalidArgument,
     "batch.header.codec"),
    ("not what the codec says", Produce(topic="orders", partition=0, batch=batch(codec=types_pb2.CODEC_ZSTD)),
     CorruptBatch, "batch.records"),
    ("a bomb by its batch's header", Produce(topic="orders", partition=0, batch=squeezed(raw_size=2**32 - 1)),
     InvalidArgument, "batch.header.raw_size"),
    ("a bomb by its frame's header", Produce(topic="orders", partition=0, batch=squeezed(raw_size=100)),
     CorruptBatch, "batch.header.raw_size"),
    ("more records than fit", Produce(topic="orders", partition=0, batch=squeezed(count=2**20)), CorruptBatch,
     "batch.header.count"),
    ("transactional", Produce(topic="orders", partition=0, batch=batch(flags=1)), Unimplemented, "batch.header.flags"),
    ("too large for the topic", Produce(topic="single", partition=0, batch=make_batch(
        [types_pb2.Record(value=bytes(5000))])), MessageTooLarge, "batch"),
    ("records too large for the topic", Produce(topic="single", records=[types_pb2.Record(value=bytes(5000))]),
     MessageTooLarge, "records"),
    ("too many plain records", Produce(topic="orders", partition=0, records=[RECORD] * 10_001), InvalidArgument,
     "records"),
    ("bad record", Produce(topic="orders", partition=0, records=[RECORD, types_pb2.Record(priority=10)]),
     InvalidArgument, "records[1].priority"),
    ("bad record among keys of several partitions", Produce(topic="orders", records=[
        types_pb2.Record(key=b"%d" % n, priority=n) for n in range(20)]), InvalidArgument, "records[10].priority"),
    ("offset expected nowhere", Produce(topic="orders", records=[RECORD], expected_offset=0), InvalidArgument,
     "partition"),
    ("offset that no record has", Produce(topic="orders", partition=0, records=[RECORD], expected_offset=2**63),
     InvalidArgument, "expected_offset"),
    ("message id too long", Produce(topic="orders", records=[RECORD], message_id="m" * 257), InvalidArgument,
     "message_id"),
    ("message id beside a batch", Produce(topic="orders", partition=0, batch=batch(), message_id="m"),
     InvalidArgument, "message_id"),
    ("message id of a producer", Produce(topic="orders", partition=0, batch=make_batch(
        [RECORD], producer_id=1, message_id="m")), InvalidArgument, "batch.header.message_id"),
    ("unknown acks", Produce(topic="orders", partition=0, batch=batch(), acks=77),  # type: ignore[arg-type]
     InvalidArgument, "acks"),
    ("negative timeout", Produce(topic="orders", partition=0, batch=batch(), timeout=Duration(seconds=-1)),
     InvalidArgument, "timeout"),
    ("no time", Produce(topic="orders", partition=0, batch=batch(), timeout=Duration()), InvalidArgument, "timeout"),
]  # fmt: skip

FETCH_REFUSED: list[tuple[str, Fetch, type[RaftmqError], str]] = [
    ("nothing", Fetch(), InvalidArgument, "topic"),
    ("unknown topic", Fetch(topic="nope", partition=0, offset=0), UnknownTopic, "topic"),
    ("no partition", Fetch(topic="orders", offset=0), InvalidArgument, "partition"),
    ("no such partition", Fetch(topic="orders", partition=9, offset=0), UnknownPartition, "partition"),
    ("no offset", Fetch(topic="orders", partition=0), InvalidArgument, "offset"),
    ("offset too large", Fetch(topic="orders", partition=0, offset=2**63), InvalidArgument, "offset"),
    ("least watermark too large", Fetch(topic="orders", partition=0, offset=0, min_offset=2**63), InvalidArgument,
     "min_offset"),
    ("too many bytes", Fetch(topic="orders", partition=0, offset=0, max_bytes=2**31), InvalidArgument, "max_bytes"),
    ("least above most", Fetch(topic="orders", partition=0, offset=0, max_bytes=10, min_bytes=11), InvalidArgument,
     "min_bytes"),
    ("least above the default", Fetch(topic="orders", partition=0, offset=0, min_bytes=2**21), InvalidArgument,
     "min_bytes"),
    ("negative wait", Fetch(topic="orders", partition=0, offset=0, max_wait=Duration(nanos=-1)), InvalidArgument,
     "max_wait"),
    ("unknown isolation", Fetch(topic="orders", partition=0, offset=0, isolation=9),  # type: ignore[arg-type]
     InvalidArgument, "isolation"),
]  # fmt: skip

OTHERS_REFUSED: list[tuple[str, str, str, object, type[RaftmqError], str]] = [
    ("offsets of no topic", "broker", "ListOffsets", broker_pb2.ListOffsetsRequest(), InvalidArgument, "topic"),
    ("offsets of no partition", "broker", "ListOffsets",
     broker_pb2.ListOffsetsRequest(topic="orders", partitions=[0, 8]), UnknownPartition, "partitions[1]"),
    ("a time after all times", "broker", "ListOffsets",
     broker_pb2.ListOffsetsRequest(topic="orders", appended_at=Timestamp(seconds=253_402_300_800)), InvalidArgument,
     "appended_at"),
    ("a time before all times", "broker", "ListOffsets",
     broker_pb2.ListOffsetsRequest(topic="orders", appended_at=Timestamp(seconds=-2**63)), InvalidArgument,
     "appended_at"),
    ("a time with negative nanoseconds", "broker", "ListOffsets",
     broker_pb2.ListOffsetsRequest(topic="orders", appended_at=Timestamp(nanos=-1)), InvalidArgument, "appended_at"),
    ("epoch without producer", "broker", "InitProducer", broker_pb2.InitProducerRequest(producer_epoch=1),
     InvalidArgument, "producer_epoch"),
    ("producer id too large", "broker", "InitProducer", broker_pb2.InitProducerRequest(producer_id=2**63),
     InvalidArgument, "producer_id"),
    ("create without name", "admin", "CreateTopic", admin_pb2.CreateTopicRequest(), InvalidArgument, "name"),
    ("create without time", "admin", "CreateTopic", admin_pb2.CreateTopicRequest(name="t", timeout=Duration()),
     InvalidArgument, "timeout"),
    ("retention backwards", "admin", "CreateTopic",
     admin_pb2.CreateTopicRequest(name="t", retention=Duration(seconds=-1)), InvalidArgument, "retention"),
    ("alter without name", "admin", "AlterTopic", admin_pb2.AlterTopicRequest(), InvalidArgument, "name"),
    ("alter retention backwards", "admin", "AlterTopic",
     admin_pb2.AlterTopicRequest(name="t", retention=Duration(seconds=-1)), InvalidArgument, "retention"),
    ("delete without name", "admin", "DeleteTopic", admin_pb2.DeleteTopicRequest(), InvalidArgument, "name"),
    ("describe without name", "admin", "DescribeTopic", admin_pb2.DescribeTopicRequest(), InvalidArgument, "name"),
    ("describe an unknown topic", "admin", "DescribeTopic", admin_pb2.DescribeTopicRequest(name="nope"), UnknownTopic,
     "name"),
    ("transfer to nobody", "operators", "TransferLeader",
     cluster_pb2.TransferLeaderRequest(topic="orders", to_node_id=99), UnknownNode, "to_node_id"),
    ("transfer of nothing", "operators", "TransferLeader", cluster_pb2.TransferLeaderRequest(topic="nope"),
     UnknownTopic, "topic"),
    ("a partition of the controller", "operators", "TransferLeader", cluster_pb2.TransferLeaderRequest(partition=1),
     InvalidArgument, "partition"),
]  # fmt: skip


async def assert_still_serves(node: Node) -> None:
    before = len(node.host.produced)
    receipt = (await node.broker.Produce(Produce(topic="orders", partition=0, batch=batch()))).receipt
    assert receipt.count == 2
    assert len(node.host.produced) == before + 1


def assert_refused(error: RaftmqError, kind: type[RaftmqError], field: str) -> None:
    assert type(error) is kind, error
    assert error.field == field
    assert error.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize(
    ("_what", "request_", "kind", "field"), PRODUCE_REFUSED, ids=[row[0] for row in PRODUCE_REFUSED]
)
async def test_produce_refuses(node: Node, _what: str, request_: Produce, kind: type[RaftmqError], field: str) -> None:
    assert_refused(await refusal(node.broker.Produce(request_)), kind, field)
    assert node.host.produced == []
    await assert_still_serves(node)


@pytest.mark.parametrize(("_what", "request_", "kind", "field"), FETCH_REFUSED, ids=[row[0] for row in FETCH_REFUSED])
async def test_fetch_refuses(node: Node, _what: str, request_: Fetch, kind: type[RaftmqError], field: str) -> None:
    assert_refused(await refusal(node.broker.Fetch(request_)), kind, field)
    assert node.host.asked == []
    await assert_still_serves(node)


@pytest.mark.parametrize(
    ("_what", "service", "method", "request_", "kind", "field"), OTHERS_REFUSED, ids=[row[0] for row in OTHERS_REFUSED]
)
async def test_other_methods_refuse(
    node: Node, _what: str, service: str, method: str, request_: object, kind: type[RaftmqError], field: str
) -> None:
    assert_refused(await refusal(getattr(getattr(node, service), method)(request_)), kind, field)
    assert node.cluster.created == []
    assert node.cluster.deleted == []
    assert node.host.transfers == []
    await assert_still_serves(node)


BAD_BYTES = [
    b"\xff",  # a tag without an end
    b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
    b"\x0a\x02\xc3\x28",  # a string that is not UTF-8
    b"\x0a" * 1000,
    b"\x1b" * 10_000,  # groups nested without end
    b"\x80" * 20,  # a varint of twenty bytes
]


@pytest.mark.parametrize("data", BAD_BYTES)
@pytest.mark.parametrize("name", ["Broker/Produce", "Broker/Fetch", "Admin/CreateTopic", "Cluster/TransferLeader"])
async def test_bytes_that_are_no_request_are_refused(node: Node, name: str, data: bytes) -> None:
    call = node.channel.unary_unary(f"/raftmq.v1.{name}", request_serializer=None, response_deserializer=None)
    error = await refusal(call(data))
    assert type(error) is InvalidArgument
    assert error.outcome is Outcome.NOT_APPLIED
    await assert_still_serves(node)
