"""Rows of the table for raftmq.v1.Exchanges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration

from raftmq.v1 import exchanges_pb2, types_pb2
from tests.hostile.node import EXCHANGE, SPARE, TOPIC

Row = tuple[str, str, str, str, Any]
"""Method, what, reason, field, request."""

INVALID = "INVALID_ARGUMENT"
RECORD = types_pb2.Record(value=b"v")
HEADER = types_pb2.Header(name="h", value=b"v")
NAMELESS = types_pb2.Header(value=b"v")
LONG_KEY = "x" * 256


def exchange_requests(batch: Callable[..., types_pb2.RecordBatch]) -> Iterator[Row]:
    """``batch``: makes a batch, with other values in its header."""
    yield from _declared()
    yield from _bound()
    yield from _routed()
    yield from _published(batch)


def _declared() -> Iterator[Row]:
    fanout = exchanges_pb2.EXCHANGE_KIND_FANOUT
    for what, reason, field, wish in (
        ("no name", INVALID, "name", {"name": ""}),
        ("a path", INVALID, "name", {"name": "../../etc/passwd"}),
        ("a newline", INVALID, "name", {"name": "a\nb"}),
        ("a mebibyte", INVALID, "name", {"name": "x" * 2**20}),
        ("reserved", INVALID, "name", {"name": "__x"}),
        ("no kind", INVALID, "kind", {"kind": 0}),
        ("an unknown kind", INVALID, "kind", {"kind": 77}),
        ("a negative kind", INVALID, "kind", {"kind": -1}),
        ("an unknown alternate", "UNKNOWN_EXCHANGE", "alternate_exchange", {"alternate_exchange": "nope"}),
        ("its own alternate", INVALID, "alternate_exchange", {"alternate_exchange": "new"}),
        ("another of the name", "ALREADY_EXISTS", "name", {"name": EXCHANGE}),
    ):
        request: Any = exchanges_pb2.DeclareExchangeRequest
        yield "DeclareExchange", what, reason, field, request(**{"name": "new", "kind": fanout} | wish)
    for what, reason, name in (
        ("no name", INVALID, ""),
        ("an unknown one", "UNKNOWN_EXCHANGE", "nope"),
        ("one that others lead to", "PRECONDITION_FAILED", SPARE),
    ):
        yield "DeleteExchange", what, reason, "name", exchanges_pb2.DeleteExchangeRequest(name=name)


def _bound() -> Iterator[Row]:
    unknown = exchanges_pb2.UnbindRequest(exchange="nope", binding=exchanges_pb2.Binding(topic=TOPIC))
    yield "Unbind", "no exchange", INVALID, "exchange", exchanges_pb2.UnbindRequest()
    yield "Unbind", "an unknown exchange", "UNKNOWN_EXCHANGE", "exchange", unknown
    other = exchanges_pb2.Binding(topic=TOPIC, routing_key="a.b")
    stray = exchanges_pb2.UnbindRequest(exchange=EXCHANGE, binding=other)
    yield "Unbind", "what is not bound", "UNKNOWN_BINDING", "binding", stray
    for what, exchange, reason, field, values in (
        ("no exchange", "", INVALID, "exchange", {"topic": TOPIC}),
        ("an unknown exchange", "nope", "UNKNOWN_EXCHANGE", "exchange", {"topic": TOPIC}),
        ("nothing", EXCHANGE, INVALID, "binding", {}),
        ("an unknown topic", EXCHANGE, "UNKNOWN_TOPIC", "binding.topic", {"topic": "nope"}),
        ("a topic of a mebibyte", EXCHANGE, "UNKNOWN_TOPIC", "binding.topic", {"topic": "x" * 2**20}),
        ("a reserved topic", EXCHANGE, INVALID, "binding.topic", {"topic": "__x"}),
        ("to an unknown exchange", EXCHANGE, "UNKNOWN_EXCHANGE", "binding.exchange", {"exchange": "nope"}),
        ("a long key", EXCHANGE, INVALID, "binding.routing_key", {"topic": TOPIC, "routing_key": LONG_KEY}),
        ("half a star", EXCHANGE, INVALID, "binding.routing_key", {"topic": TOPIC, "routing_key": "a*"}),
        ("33 words", EXCHANGE, INVALID, "binding.routing_key", {"topic": TOPIC, "routing_key": "." * 32}),
        ("a key for headers", SPARE, INVALID, "binding.routing_key", {"topic": TOPIC, "routing_key": "a"}),
        ("headers for a key", EXCHANGE, INVALID, "binding.headers", {"topic": TOPIC, "headers": [HEADER]}),
        ("an unknown match", SPARE, INVALID, "binding.match", {"topic": TOPIC, "headers": [HEADER], "match": 77}),
        ("any of none", SPARE, INVALID, "binding.headers", {"topic": TOPIC, "match": 2}),
        ("a header twice", SPARE, INVALID, "binding.headers", {"topic": TOPIC, "headers": [HEADER, HEADER]}),
        ("a nameless header", SPARE, INVALID, "binding.headers", {"topic": TOPIC, "headers": [NAMELESS]}),
        (
            "a header of a mebibyte",
            SPARE,
            INVALID,
            "binding.headers",
            {"topic": TOPIC, "headers": [types_pb2.Header(name="h", value=bytes(2**20))]},
        ),
    ):
        binding: Any = exchanges_pb2.Binding
        request = exchanges_pb2.BindRequest(exchange=exchange, binding=binding(**values))
        yield "Bind", what, reason, field, request


def _routed() -> Iterator[Row]:
    """What TraceRoute and Publish have in common."""
    for what, reason, field, values in (
        ("no exchange", INVALID, "exchange", {"exchange": ""}),
        ("an unknown exchange", "UNKNOWN_EXCHANGE", "exchange", {"exchange": "x" * 2**20}),
        ("a long key", INVALID, "routing_key", {"routing_key": LONG_KEY}),
        ("a nameless header", INVALID, "headers[1].name", {"headers": [HEADER, NAMELESS]}),
        ("257 headers", INVALID, "headers", {"headers": [HEADER] * 257}),
        (
            "a header of 65 KiB",
            INVALID,
            "headers[0].value",
            {"headers": [types_pb2.Header(name="h", value=bytes(65 * 1024))]},
        ),
        ("a version of 2^64 - 1", "NOT_READY", "min_metadata_version", {"min_metadata_version": 2**64 - 1}),
    ):
        trace: Any = exchanges_pb2.TraceRouteRequest
        publish: Any = exchanges_pb2.PublishRequest
        yield "TraceRoute", what, reason, field, trace(**{"exchange": EXCHANGE} | values)
        yield "Publish", what, reason, field, publish(**{"exchange": EXCHANGE, "records": [RECORD]} | values)
    names = bytes([1 << 3 | 2, 0]) * 2**20
    yield "ListExchanges", "a million names", "MESSAGE_TOO_LARGE", "names", names


def _published(batch: Callable[..., types_pb2.RecordBatch]) -> Iterator[Row]:
    records = {"records": [RECORD]}
    for what, reason, field, values in (
        ("nothing", INVALID, "records", {}),
        ("10,001 records", INVALID, "records", {"records": [RECORD] * 10_001}),
        ("a priority of 10", INVALID, "records[1].priority", {"records": [RECORD, types_pb2.Record(priority=10)]}),
        ("a batch and records", INVALID, "records", records | {"batch": batch()}),
        ("unknown acks", INVALID, "acks", records | {"acks": 77}),
        ("no time", INVALID, "timeout", records | {"timeout": Duration()}),
        ("an id of 257 bytes", INVALID, "message_id", records | {"message_id": "x" * 257}),
        ("an id beside a batch", INVALID, "message_id", {"batch": batch(), "message_id": "x"}),
        ("a key beside records", INVALID, "partition_key", records | {"partition_key": b""}),
        ("a producer's batch", INVALID, "batch.header.producer_id", {"batch": batch(producer_id=1)}),
        ("a wrong checksum", "CORRUPT_BATCH", "batch.header.crc32c", {"batch": batch(crc32c=1)}),
        ("a wrong count", "CORRUPT_BATCH", "batch.header.count", {"batch": batch(count=3)}),
        ("what nothing fits", "UNROUTABLE", "", records | {"mandatory": True, "routing_key": "b"}),
    ):
        request: Any = exchanges_pb2.PublishRequest
        yield "Publish", what, reason, field, request(**{"exchange": EXCHANGE, "routing_key": "a"} | values)
