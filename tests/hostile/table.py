"""What is sent, and what must be answered: a row for each kind of bad request, for every method.

README.md of raftmq/broker tells the same for people. A row is tried against a real node (test_requests.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from raftmq.internal.v1 import peer_pb2
from raftmq.records.batch import make_batch
from raftmq.v1 import admin_pb2, broker_pb2, cluster_pb2, types_pb2
from tests.hostile import queue_rows
from tests.hostile.exchange_rows import exchange_requests
from tests.hostile.group_rows import group_rows
from tests.hostile.node import METHODS, TOPIC, bodies
from tests.hostile.rows import Row, filled, row

BROKER, ADMIN, CLUSTER = "/raftmq.v1.Broker", "/raftmq.v1.Admin", "/raftmq.v1.Cluster"
PEER = "/raftmq.internal.v1.Peer"
MIB = 2**20


# -- bytes -------------------------------------------------------------------------------------------------------------

NO_MESSAGE = {
    "a tag without an end": b"\xff",
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x0f",
    "a length of ten bytes": b"\x0a" + b"\xff" * 9 + b"\x01",
    "a varint of twenty bytes": b"\x80" * 20,
    "groups nested ten thousand deep": b"\x1b" * 10_000,
    "a group that ends without a beginning": b"\x0c",
    "field number zero": b"\x02\x01",
    "half a fixed number": b"\xfd\x07\x00",
    "wire type seven": b"\xff\x01\x00",
}


def unparsable() -> Iterator[Row]:
    """The same for every method."""
    for method in METHODS:
        if method == f"{PEER}/Send":
            continue
        for what, data in NO_MESSAGE.items():
            yield Row(what, method, (data,), "INVALID_ARGUMENT")


def many(tag: int, body: bytes, size: int) -> bytes:
    """So many bytes of one field, over and over."""
    one = bytes([tag << 3 | 2, len(body)]) + body
    return one * (size // len(one))


def too_many_parts() -> Iterator[Row]:
    """A few bytes each on the wire, and fifty times as much once they are parsed."""
    yield row(
        f"{BROKER}/Produce", "8 million empty records", many(4, b"", 16 * MIB - 64), "MESSAGE_TOO_LARGE", "records"
    )
    yield row(
        f"{BROKER}/Produce",
        "a record of empty headers",
        _within(4, many(3, b"", 4 * MIB)),
        "MESSAGE_TOO_LARGE",
        "records.headers",
    )
    yield row(
        f"{BROKER}/ProduceStream",
        "a million empty records",
        _within(2, many(4, b"", 2 * MIB)),
        "MESSAGE_TOO_LARGE",
        "produce.records",
    )
    yield row(f"{BROKER}/GetMetadata", "a million topics", many(1, b"", 2 * MIB), "MESSAGE_TOO_LARGE", "topics")
    yield row(
        f"{BROKER}/ListOffsets",
        "a million partitions",
        broker_pb2.ListOffsetsRequest(topic=TOPIC, partitions=[0] * 10**6),
        "MESSAGE_TOO_LARGE",
        "partitions",
    )
    yield row(
        f"{BROKER}/ListOffsets",
        "ten thousand and one partitions",
        broker_pb2.ListOffsetsRequest(topic=TOPIC, partitions=[0] * 10_001),
        "INVALID_ARGUMENT",
        "partitions",
    )
    yield row(f"{CLUSTER}/ListReplicas", "a million topics", many(1, b"", 2 * MIB), "MESSAGE_TOO_LARGE", "topics")
    yield row(f"{ADMIN}/ListTopics", "two million unknown fields", b"\xa0\x06\x00" * (2 * MIB), "MESSAGE_TOO_LARGE")


def _within(tag: int, body: bytes) -> bytes:
    size, length = len(body), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([tag << 3 | 2]) + length + bytes([size]) + body


# -- names -------------------------------------------------------------------------------------------------------------

BAD_NAMES = {
    "NUL": "a\0b",
    "a newline": "a\nb",
    "an escape": "a\x1b[2Jb",
    "only dots": "..",
    "a path": "../../etc/passwd",
    "a slash": "a/b",
    "a backslash": "a\\b",
    "a space": "a b",
    "composed": "caf\u00e9",
    "decomposed": "cafe\u0301",
    "written backwards": "\u202egnp.a",
    "no width": "a\u200bb",
    "a wide twin": "\uff4frders",
    "250 characters": "x" * 250,
    "a mebibyte": "x" * MIB,
    "reserved": "__controller",
}


def names() -> Iterator[Row]:
    for what, name in BAD_NAMES.items():
        yield row(f"{ADMIN}/CreateTopic", what, admin_pb2.CreateTopicRequest(name=name), "INVALID_ARGUMENT", "name")
        deletes = "INVALID_ARGUMENT" if what == "reserved" else "UNKNOWN_TOPIC"
        yield row(f"{ADMIN}/DeleteTopic", what, admin_pb2.DeleteTopicRequest(name=name), deletes, "name")
        yield row(f"{ADMIN}/DescribeTopic", what, admin_pb2.DescribeTopicRequest(name=name), "UNKNOWN_TOPIC", "name")
        yield row(f"{BROKER}/ListOffsets", what, broker_pb2.ListOffsetsRequest(topic=name), "UNKNOWN_TOPIC", "topic")
    for method, request in ((f"{ADMIN}/CreateTopic", b"\x0a\x02\xc3\x28"), (f"{BROKER}/Fetch", b"\x0a\x02\xc3\x28")):
        yield row(method, "no UTF-8", request, "INVALID_ARGUMENT")
    yield row(
        f"{ADMIN}/CreateTopic", "one that exists", admin_pb2.CreateTopicRequest(name=TOPIC), "ALREADY_EXISTS", "name"
    )


# -- numbers -----------------------------------------------------------------------------------------------------------


def quotas() -> Iterator[Row]:
    def wish(what: str, field: str, **quota: Any) -> Row:
        return row(
            f"{ADMIN}/SetQuota",
            what,
            admin_pb2.SetQuotaRequest(quota=admin_pb2.Quota(**quota)),
            "INVALID_ARGUMENT",
            field,
        )

    yield row(f"{ADMIN}/SetQuota", "no quota", admin_pb2.SetQuotaRequest(), "INVALID_ARGUMENT", "quota")
    yield wish("a name with a blank", "quota.client_id", client_id="a b")
    yield wish("a name with a newline", "quota.client_id", client_id="a\nb")
    yield wish("129 characters", "quota.client_id", client_id="x" * 129)
    for name in ("produce_bytes_per_s", "fetch_bytes_per_s", "requests_per_s"):
        yield wish(f"{name} without end", f"quota.{name}", client_id="c", **{name: 2**64 - 1})
    absent = admin_pb2.DeleteQuotaRequest(client_id="nobody")
    yield row(f"{ADMIN}/DeleteQuota", "of nobody", absent, "NOT_FOUND", "client_id")


BAD_DEPTHS = (
    ("a depth without end", "depth.max_records", broker_pb2.DepthLimit(max_records=2**64 - 1)),
    ("a size without end", "depth.max_bytes", broker_pb2.DepthLimit(max_bytes=2**64 - 1)),
    ("an age backwards", "depth.max_age", broker_pb2.DepthLimit(max_age=Duration(seconds=-1))),
    ("a policy of tomorrow", "depth.overflow", filled(broker_pb2.DepthLimit, {"overflow": 99})),
    ("a sample of everything", "depth.sample_one_in", broker_pb2.DepthLimit(sample_one_in=1)),
    ("a sample of nothing", "depth.sample_one_in", broker_pb2.DepthLimit(sample_one_in=2**32 - 1)),
)


def topics() -> Iterator[Row]:
    def create(what: str, field: str, reason: str = "INVALID_ARGUMENT", **wish: Any) -> Row:
        return row(f"{ADMIN}/CreateTopic", what, admin_pb2.CreateTopicRequest(name="t", **wish), reason, field)

    yield create("a million partitions", "partitions", partitions=10**6)
    yield create("four billion partitions", "partitions", partitions=2**32 - 1)
    yield create("more than the cluster may have", "partitions", "INVALID_ARGUMENT", partitions=20_001)
    yield create("a thousand replicas", "replication_factor", "PRECONDITION_FAILED", replication_factor=1000)
    yield create("four billion replicas", "replication_factor", replication_factor=2**32 - 1)
    yield create("more in sync than there are", "min_in_sync_replicas", min_in_sync_replicas=2**32 - 1)
    yield create("batches of four gibibytes", "max_batch_bytes", max_batch_bytes=2**32 - 1)
    yield create("batches of a byte", "max_batch_bytes", max_batch_bytes=1)
    yield create("retention backwards", "retention", retention=Duration(seconds=-1))
    yield create("retention without end", "retention_bytes", retention_bytes=2**64 - 1)
    for what, field, depth in BAD_DEPTHS:
        yield create(what, field, depth=depth)
    yield create("no time", "timeout", timeout=Duration(seconds=-(2**63)))
    yield row(
        f"{CLUSTER}/TransferLeader",
        "to an unknown node",
        cluster_pb2.TransferLeaderRequest(topic=TOPIC, to_node_id=2**32 - 1),
        "UNKNOWN_NODE",
        "to_node_id",
    )
    yield row(
        f"{CLUSTER}/TransferLeader",
        "of an unknown partition",
        cluster_pb2.TransferLeaderRequest(topic=TOPIC, partition=2**32 - 1),
        "UNKNOWN_PARTITION",
        "partition",
    )
    yield row(
        f"{BROKER}/InitProducer",
        "an id that nobody has",
        broker_pb2.InitProducerRequest(producer_id=2**64 - 1),
        "INVALID_ARGUMENT",
        "producer_id",
    )
    yield row(
        f"{BROKER}/InitProducer",
        "an epoch of nobody",
        broker_pb2.InitProducerRequest(producer_epoch=1),
        "INVALID_ARGUMENT",
        "producer_epoch",
    )
    yield row(
        f"{BROKER}/InitProducer",
        "the last epoch",
        broker_pb2.InitProducerRequest(producer_id=1, producer_epoch=2**32 - 1),
        "PRECONDITION_FAILED",
        "producer_epoch",
    )
    yield row(
        f"{BROKER}/InitProducer",
        "a thousand and one producers",
        broker_pb2.InitProducerRequest(count=1001),
        "INVALID_ARGUMENT",
        "count",
    )
    yield row(
        f"{BROKER}/InitProducer",
        "two epochs",
        broker_pb2.InitProducerRequest(producer_id=1, count=2),
        "INVALID_ARGUMENT",
        "count",
    )
    for what, moment in (
        ("after all times", Timestamp(seconds=2**63 - 1)),
        ("before all", Timestamp(seconds=-(2**63))),
        ("negative nanoseconds", Timestamp(nanos=-1)),
    ):
        yield row(
            f"{BROKER}/ListOffsets",
            f"a time {what}",
            broker_pb2.ListOffsetsRequest(topic=TOPIC, appended_at=moment),
            "INVALID_ARGUMENT",
            "appended_at",
        )


def described_producers() -> Iterator[Row]:
    def describe(what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Row:
        request = filled(broker_pb2.DescribeProducersRequest, {"topic": TOPIC} | values)
        return row(f"{BROKER}/DescribeProducers", what, request, reason, field)

    behind = broker_pb2.ProducerPosition(partition=2**32 - 1, producer_id=2**64 - 1)
    yield describe("no topic", "topic", topic="")
    yield describe("an unknown topic", "topic", "UNKNOWN_TOPIC", topic="nope")
    yield describe("no such partition", "partitions[1]", "UNKNOWN_PARTITION", partitions=[0, 2**32 - 1])
    yield describe("ten thousand and one partitions", "partitions", partitions=[0] * 10_001)
    yield describe("a million partitions", "partitions", "MESSAGE_TOO_LARGE", partitions=[0] * 10**6)
    yield describe("four billion producers", "page_size", page_size=2**32 - 1)
    yield describe("an id that nobody has", "producer_id", producer_id=2**64 - 1)
    yield describe("behind a partition that there is not", "after.partition", "UNKNOWN_PARTITION", after=behind)


def alterations() -> Iterator[Row]:
    def alter(what: str, field: str, reason: str = "INVALID_ARGUMENT", **wish: Any) -> Row:
        request = filled(admin_pb2.AlterTopicRequest, {"name": TOPIC} | wish)
        return row(f"{ADMIN}/AlterTopic", what, request, reason, field)

    yield alter("no topic", "name", name="")
    yield alter("an unknown topic", "name", "UNKNOWN_TOPIC", name="nope")
    yield alter("a reserved one", "name", "UNKNOWN_TOPIC", name="__controller")
    yield alter("another number of partitions", "partitions", partitions=2**32 - 1)
    yield alter("another number of replicas", "replication_factor", replication_factor=2**32 - 1)
    yield alter("more in sync than there are", "min_in_sync_replicas", min_in_sync_replicas=2**32 - 1)
    yield alter("batches of four gibibytes", "max_batch_bytes", max_batch_bytes=2**32 - 1)
    yield alter("retention backwards", "retention", retention=Duration(seconds=-1))
    yield alter("retention without end", "retention_bytes", retention_bytes=2**64 - 1)
    for what, field, depth in BAD_DEPTHS:
        yield alter(what, field, depth=depth)
    yield alter("a window backwards", "message_id_window", message_id_window=Duration(seconds=-1))
    yield alter("a window without end", "message_id_window_count", message_id_window_count=2**64 - 1)
    wrong = {"expected_version": 2**64 - 1, "retention_bytes": 1}
    yield alter("a version that it does not have", "expected_version", "UNEXPECTED_VERSION", **wrong)


def fetches() -> Iterator[Row]:
    def fetch(what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Row:
        values = {"topic": TOPIC, "partition": 0, "offset": 0} | values
        return row(f"{BROKER}/Fetch", what, filled(broker_pb2.FetchRequest, values), reason, field)

    yield fetch("no topic", "topic", topic="")
    yield fetch("no partition", "partition", partition=None)
    yield fetch("no such partition", "partition", "UNKNOWN_PARTITION", partition=2**32 - 1)
    yield fetch("no offset", "offset", offset=None)
    yield fetch("an offset of 2^63", "offset", offset=2**63)
    yield fetch("the last offset", "offset", "OFFSET_OUT_OF_RANGE", offset=2**63 - 1)
    yield fetch("four gibibytes", "max_bytes", max_bytes=2**32 - 1)
    yield fetch("at least more than at most", "min_bytes", min_bytes=2, max_bytes=1)
    yield fetch("a wait backwards", "max_wait", max_wait=Duration(seconds=-1))
    yield fetch("an unknown isolation", "isolation", isolation=77)
    yield fetch("a watermark of 2^64 - 1", "min_offset", min_offset=2**64 - 1)


# -- records -----------------------------------------------------------------------------------------------------------

RECORD = types_pb2.Record(value=b"v")
ZEROS = types_pb2.Record(value=bytes(MIB))
"""A few dozen bytes once compressed."""


def batch(codec: types_pb2.Codec.ValueType = types_pb2.CODEC_UNSPECIFIED, **header: Any) -> types_pb2.RecordBatch:
    made = make_batch([ZEROS] if codec else [RECORD] * 2, codec=codec)
    if codec:
        made.header.ClearField("crc32c")
    for name, value in header.items():
        setattr(made.header, name, value)
    return made


def produces() -> Iterator[tuple[str, str, str, broker_pb2.ProduceRequest]]:
    """(what, reason, field, request): for Produce, and for ProduceStream."""

    def produce(what: str, reason: str, field: str, **values: Any) -> tuple[str, str, str, broker_pb2.ProduceRequest]:
        return what, reason, field, filled(broker_pb2.ProduceRequest, {"topic": TOPIC, "partition": 0} | values)

    invalid, corrupt = "INVALID_ARGUMENT", "CORRUPT_BATCH"
    yield produce("no topic", invalid, "topic", topic="", batch=batch())
    yield produce("no such partition", "UNKNOWN_PARTITION", "partition", partition=2**32 - 1, batch=batch())
    yield produce("nothing", invalid, "batch")
    yield produce("a batch and records", invalid, "records", batch=batch(), records=[RECORD])
    yield produce("unknown acks", invalid, "acks", batch=batch(), acks=77)
    yield produce("no time", invalid, "timeout", batch=batch(), timeout=Duration())
    yield produce("2^32 - 1 records", invalid, "batch.header.count", batch=batch(count=2**32 - 1))
    yield produce("no records", invalid, "batch.header.count", batch=batch(count=0))
    yield produce("a wrong count", corrupt, "batch.header.count", batch=batch(count=3))
    yield produce("a wrong checksum", corrupt, "batch.header.crc32c", batch=batch(crc32c=1))
    yield produce("a wrong size", corrupt, "batch.header.raw_size", batch=batch(raw_size=1))
    yield produce("an unknown codec", invalid, "batch.header.codec", batch=_odd_codec())
    yield produce("the producer id 2^63", invalid, "batch.header.producer_id", batch=batch(producer_id=2**63))
    yield produce(
        "the epoch 2^31", invalid, "batch.header.producer_epoch", batch=batch(producer_id=1, producer_epoch=2**31)
    )
    yield produce(
        "the sequence 2^64 - 1",
        invalid,
        "batch.header.first_sequence",
        batch=batch(producer_id=1, first_sequence=2**64 - 1),
    )
    yield produce("a sequence of nobody", invalid, "batch.header.first_sequence", batch=batch(first_sequence=1))
    yield produce("a time before 1970", invalid, "batch.header.first_timestamp_ms", batch=batch(first_timestamp_ms=-1))
    yield produce(
        "a time after 9999", invalid, "batch.header.last_timestamp_ms", batch=batch(last_timestamp_ms=2**63 - 1)
    )
    yield produce("flags without meaning", invalid, "batch.header.flags", batch=batch(flags=2**31))
    yield produce("offsets of its own", invalid, "batch.header.flags", batch=batch(flags=4))
    yield produce("a control batch", "UNIMPLEMENTED", "batch.header.flags", batch=batch(flags=2))
    yield produce(
        "an offset of 2^64 - 1 expected", invalid, "expected_offset", batch=batch(), expected_offset=2**64 - 1
    )
    yield produce("10,001 plain records", invalid, "records", records=[RECORD] * 10_001)
    yield produce("a priority of 10", invalid, "records[1].priority", records=[RECORD, types_pb2.Record(priority=10)])
    yield produce(
        "an offset in a record", invalid, "records[0].offset_delta", records=[types_pb2.Record(offset_delta=2**32 - 1)]
    )
    yield produce(
        "a record's time of -2^63",
        invalid,
        "records[0].timestamp_ms",
        records=[types_pb2.Record(timestamp_ms=-(2**63))],
    )
    yield produce(
        "257 headers",
        invalid,
        "records[0].headers",
        records=[types_pb2.Record(headers=[types_pb2.Header(name="h")] * 257)],
    )
    yield produce(
        "a header without a name",
        invalid,
        "records[0].headers[0].name",
        records=[types_pb2.Record(headers=[types_pb2.Header()])],
    )
    yield produce(
        "a header of a mebibyte",
        invalid,
        "records[0].headers[0].value",
        records=[types_pb2.Record(headers=[types_pb2.Header(name="h", value=bytes(MIB))])],
    )
    yield produce(
        "a batch above the topic's limit",
        "MESSAGE_TOO_LARGE",
        "batch",
        batch=make_batch([types_pb2.Record(value=bytes(MIB))]),
    )
    for codec in (types_pb2.CODEC_ZSTD, types_pb2.CODEC_LZ4):
        name = types_pb2.Codec.Name(codec)
        yield produce(
            f"{name}: bytes that it has not made",
            corrupt,
            "batch.records",
            batch=types_pb2.RecordBatch(header=batch(codec).header, records=b"\xff" * 100),
        )
        yield produce(
            f"{name}: a bomb that says it is one",
            invalid,
            "batch.header.raw_size",
            batch=batch(codec, raw_size=2**32 - 1),
        )
        yield produce(
            f"{name}: a bomb that says it is none", corrupt, "batch.header.raw_size", batch=batch(codec, raw_size=100)
        )
        yield produce(f"{name}: more records than bytes", corrupt, "batch.header.count", batch=batch(codec, count=MIB))


def _odd_codec() -> types_pb2.RecordBatch:
    made = batch()
    made.header.codec = 77  # type: ignore[assignment]
    return made


def produced() -> Iterator[Row]:
    for what, reason, field, request in produces():
        yield row(f"{BROKER}/Produce", what, request, reason, field)
        streamed = broker_pb2.ProduceStreamRequest(correlation_id=7, produce=request)
        yield row(f"{BROKER}/ProduceStream", what, streamed, reason, field)
    yield row(f"{BROKER}/ProduceStream", "no request", broker_pb2.ProduceStreamRequest(), "INVALID_ARGUMENT", "topic")


def subscribes() -> Iterator[Row]:
    def subscribe(what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Row:
        values = {"topic": TOPIC, "partition": 0, "offset": 0} | values
        request = broker_pb2.SubscribeRequest(subscription=filled(broker_pb2.Subscription, values), records=1, bytes=1)
        return row(f"{BROKER}/Subscribe", what, request, reason, f"subscription.{field}")

    yield row(
        f"{BROKER}/Subscribe", "to nothing", broker_pb2.SubscribeRequest(records=1), "INVALID_ARGUMENT", "subscription"
    )
    yield subscribe("no topic", "topic", topic="")
    yield subscribe("no partition", "partition", partition=None)
    yield subscribe("no offset", "offset", offset=None)
    yield subscribe("no such partition", "partition", "UNKNOWN_PARTITION", partition=2**32 - 1)
    yield subscribe("an offset of 2^63", "offset", offset=2**63)
    yield subscribe("beyond the end", "offset", "OFFSET_OUT_OF_RANGE", offset=2**63 - 1)
    yield subscribe("an unknown isolation", "isolation", isolation=77)
    again = broker_pb2.SubscribeRequest(subscription=broker_pb2.Subscription(topic=TOPIC, partition=0, offset=0))
    yield Row("twice", f"{BROKER}/Subscribe", bodies([again, again]), "INVALID_ARGUMENT", "subscription")


# -- operations --------------------------------------------------------------------------------------------------------


def operations() -> Iterator[Row]:
    for name in ("AddNode", "DrainNode", "RemoveNode", "RepairNode"):
        kind: Any = getattr(cluster_pb2, f"{name}Request")
        method = f"{CLUSTER}/{name}"
        yield row(method, "no node", kind(), "INVALID_ARGUMENT", "node_id")
        if name != "AddNode":
            yield row(method, "an unknown node", kind(node_id=99), "UNKNOWN_NODE", "node_id")
            yield row(method, "the last number", kind(node_id=2**32 - 1), "UNKNOWN_NODE", "node_id")
    yield row(
        f"{CLUSTER}/AddNode", "at no address", cluster_pb2.AddNodeRequest(node_id=99), "INVALID_ARGUMENT", "peer_host"
    )
    for what, host in (("a newline", "a\nb"), ("NUL", "a\0b"), ("a mebibyte", "x" * MIB), ("a path", "../../x")):
        yield row(
            f"{CLUSTER}/AddNode",
            f"at {what}",
            cluster_pb2.AddNodeRequest(node_id=99, peer_host=host, peer_port=1),
            "INVALID_ARGUMENT",
            "peer_host",
        )
    yield row(
        f"{CLUSTER}/AddNode",
        "at a port of 2^32 - 1",
        cluster_pb2.AddNodeRequest(node_id=99, peer_host="h", peer_port=2**32 - 1),
        "INVALID_ARGUMENT",
        "peer_port",
    )
    for what, field, reason, values in (
        ("no topic", "topic", "INVALID_ARGUMENT", {"topic": ""}),
        ("from nowhere", "from_node_id", "INVALID_ARGUMENT", {"from_node_id": 0}),
        ("to nowhere", "to_node_id", "INVALID_ARGUMENT", {"to_node_id": 0}),
        ("an unknown topic", "topic", "UNKNOWN_TOPIC", {"topic": "nope"}),
        ("an unknown partition", "partition", "UNKNOWN_PARTITION", {"partition": 2**32 - 1}),
        ("to an unknown node", "to_node_id", "UNKNOWN_NODE", {"to_node_id": 2**32 - 1}),
    ):
        request = filled(cluster_pb2.MoveReplicaRequest, {"topic": TOPIC, "from_node_id": 1, "to_node_id": 99} | values)
        yield row(f"{CLUSTER}/MoveReplica", what, request, reason, field)
    for name in ("GetOperation", "CancelOperation"):
        kind = getattr(cluster_pb2, f"{name}Request")
        yield row(f"{CLUSTER}/{name}", "no operation", kind(), "INVALID_ARGUMENT", "operation_id")
        yield row(
            f"{CLUSTER}/{name}", "an unknown one", kind(operation_id=2**64 - 1), "UNKNOWN_OPERATION", "operation_id"
        )


# -- exchanges ---------------------------------------------------------------------------------------------------------


def exchanges() -> Iterator[Row]:
    for name, what, reason, field, request in exchange_requests(batch):
        yield row(f"/raftmq.v1.Exchanges/{name}", what, request, reason, field)


# -- between nodes -----------------------------------------------------------------------------------------------------


def peers() -> Iterator[Row]:
    yield row(f"{PEER}/Forward", "another cluster", peer_pb2.ForwardRequest(cluster_id="x"), "NOT_READY", "cluster_id")
    yield row(f"{PEER}/Forward", "no cluster", peer_pb2.ForwardRequest(), "NOT_READY", "cluster_id")
    yield row(
        f"{PEER}/FetchSnapshot",
        "another cluster",
        peer_pb2.FetchSnapshotRequest(cluster_id="x"),
        "NOT_READY",
        "cluster_id",
    )
    for what, hello in {
        "no hello": peer_pb2.Frame(),
        "another cluster": peer_pb2.Frame(hello=peer_pb2.Hello(cluster_id="x", protocol_version=1)),
        "another protocol": peer_pb2.Frame(hello=peer_pb2.Hello(protocol_version=2**32 - 1)),
        "a node of 2^32 - 1": peer_pb2.Frame(
            hello=filled(peer_pb2.Hello, {"from": peer_pb2.ReplicaId(node=2**32 - 1)})
        ),
    }.items():
        yield row(f"{PEER}/Send", what, hello, "PRECONDITION_FAILED", "hello")
    for what, data in NO_MESSAGE.items():
        yield Row(what, f"{PEER}/Send", (data,), "PRECONDITION_FAILED", "hello")


ROWS = [
    *unparsable(), *too_many_parts(), *names(), *topics(), *described_producers(), *alterations(), *fetches(),
    *produced(), *subscribes(), *operations(), *exchanges(), *peers(), *quotas(), *group_rows(),
    *(Row(*parts) for parts in queue_rows.rows(TOPIC)),
]  # fmt: skip
