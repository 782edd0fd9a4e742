"""Rows of the table for the Queue service: what, method, messages, reason, field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from raftmq.v1 import queue_pb2, types_pb2
from tests.hostile.node import bodies

QUEUE = "/raftmq.v1.Queue"
TOKEN = b"\x01" + bytes(36)
"""Of partition 0, under a lease that nobody has."""

Parts = tuple[str, str, tuple[bytes, ...], str, str]


def rows(topic: str) -> Iterator[Parts]:
    yield from _receives(topic)
    yield from _verdicts(topic)
    yield from _handed_over(topic)
    yield from _groups(topic)
    yield from _tended(topic)
    yield from _worked(topic)


def _row(name: str, what: str, message: Any, field: str, reason: str = "INVALID_ARGUMENT") -> Parts:
    return what, f"{QUEUE}/{name}", bodies([message]), reason, field


def _receives(topic: str) -> Iterator[Parts]:
    def receive(what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Parts:
        told: dict[str, Any] = {"topic": topic, "group": "g", "partition": 0}
        request = queue_pb2.ReceiveRequest(**(told | values))
        return _row("Receive", what, request, field, reason)

    yield receive("no topic", "topic", topic="")
    yield receive("an unknown topic", "topic", "UNKNOWN_TOPIC", topic="nope")
    yield receive("no group", "group", group="")
    yield receive("a group with a newline", "group", group="a\nb")
    yield receive("a reserved group", "group", group="__g")
    yield receive("a group of a mebibyte", "group", group="x" * 2**20)
    yield receive("no such partition", "partition", "UNKNOWN_PARTITION", partition=2**32 - 1)
    yield receive("four billion messages", "max_messages", max_messages=2**32 - 1)
    yield receive("four gibibytes", "max_bytes", max_bytes=2**32 - 1)
    yield receive("a lease backwards", "lease", lease=Duration(seconds=-1))
    yield receive("a lease of nothing", "lease", lease=Duration())
    yield receive("a wait backwards", "max_wait", max_wait=Duration(seconds=-1))
    yield receive("a worker of a kibibyte", "worker", worker="x" * 1024)
    yield receive("any partition, here", "partition", partition=None, no_forward=True)


def _verdicts(topic: str) -> Iterator[Parts]:
    for name in ("Ack", "Release", "Retry", "Park", "Extend"):
        kind: Any = getattr(queue_pb2, f"{name}Request")

        def verdict(
            what: str, field: str, reason: str = "INVALID_ARGUMENT", name: str = name, kind: Any = kind, **values: Any
        ) -> Parts:
            return _row(name, what, kind(**({"topic": topic, "group": "g", "tokens": [TOKEN]} | values)), field, reason)

        yield verdict("no topic", "topic", topic="")
        yield verdict("no group", "group", group="")
        yield verdict("an unknown group", "group", "UNKNOWN_QUEUE_GROUP")
        yield verdict("no tokens", "tokens", tokens=[])
        yield verdict("ten thousand and one tokens", "tokens", tokens=[TOKEN] * 10_001)
        yield verdict("an empty token", "tokens[0]", tokens=[b""])
        yield verdict("a token of another version", "tokens[1]", tokens=[TOKEN, b"\xff" + TOKEN[1:]])
        yield verdict("a token of a mebibyte", "tokens[0]", tokens=[TOKEN + bytes(2**20)])
        yield verdict("a token of no partition", "tokens[0]", tokens=[b"\x01\xff\xff\xff\xff" + TOKEN[5:]])
        if name == "Ack":
            yield verdict("more keys than tokens", "processed_keys", processed_keys=[b"a", b"b"])
            yield verdict("a key of a mebibyte", "processed_keys[0]", processed_keys=[bytes(2**20)])
        if name == "Retry":
            yield verdict("a delay backwards", "delay", delay=Duration(seconds=-1))
        if name == "Park":
            park = queue_pb2.ParkRequest(topic=topic, group="g", tokens=[TOKEN], reason="x" * 2**20)
            yield _row(name, "a reason of a mebibyte", park, "reason")
        if name in ("Retry", "Park"):
            yield verdict("an error of a mebibyte", "error", error="x" * 2**20)
        if name == "Extend":
            yield verdict("a lease backwards", "lease", lease=Duration(seconds=-1))


def _handed_over(topic: str) -> Iterator[Parts]:
    def hand(what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Parts:
        told: dict[str, Any] = {"topic": topic, "group": "g", "tokens": [TOKEN], "records": [types_pb2.Record()]}
        return _row("AckAndPublish", what, queue_pb2.AckAndPublishRequest(**(told | values)), field, reason)

    yield hand("no topic", "topic", topic="")
    yield hand("no group", "group", group="")
    yield hand("an unknown group", "group", "UNKNOWN_QUEUE_GROUP")
    yield hand("no tokens", "tokens", tokens=[])
    yield hand("a thousand and one tokens", "tokens", tokens=[TOKEN] * 1_001)
    yield hand("one token twice", "tokens[1]", tokens=[TOKEN, TOKEN])
    yield hand("an empty token", "tokens[0]", tokens=[b""])
    yield hand("a token of no partition", "tokens[0]", tokens=[b"\x01\xff\xff\xff\xff" + TOKEN[5:]])
    yield hand("tokens of two partitions", "tokens[1]", tokens=[TOKEN, b"\x01\0\0\0\1" + TOKEN[5:]])
    yield hand("no records", "records", records=[])
    yield hand("ten thousand and one records", "records", records=[types_pb2.Record()] * 10_001)
    yield hand("acks of the leader alone", "acks", acks=types_pb2.ACKS_LEADER)
    yield hand("unknown acks", "acks", acks=77)
    yield hand("more keys than tokens", "processed_keys", processed_keys=[b"a", b"b"])
    yield hand("a key of a mebibyte", "processed_keys[0]", processed_keys=[bytes(2**20)])
    two: dict[str, Any] = {"tokens": [TOKEN, TOKEN[:-1] + b"\1"], "processed_keys": [b"a", b"a"]}
    yield hand("one key twice", "processed_keys[1]", **two)
    yield hand("no time", "timeout", timeout=Duration())

    def find(what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Parts:
        told: dict[str, Any] = {"topic": topic, "group": "g", "keys": [b"k"]}
        return _row("FindProcessedKeys", what, queue_pb2.FindProcessedKeysRequest(**(told | values)), field, reason)

    yield find("no topic", "topic", topic="")
    yield find("no group", "group", group="")
    yield find("an unknown group", "group", "UNKNOWN_QUEUE_GROUP")
    yield find("no keys", "keys", keys=[])
    yield find("a thousand and one keys", "keys", keys=[b"k"] * 1_001)
    yield find("an empty key", "keys[1]", keys=[b"k", b""])
    yield find("a key of a mebibyte", "keys[0]", keys=[bytes(2**20)])
    yield find("an unknown partition", "partitions[0]", "UNKNOWN_PARTITION", partitions=[2**32 - 1])
    yield find("ten thousand and one partitions", "partitions", partitions=[0] * 10_001)


def _groups(topic: str) -> Iterator[Parts]:
    def settings(what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Parts:
        told: Any = queue_pb2.QueueGroupSettings
        request = queue_pb2.SetGroupRequest(topic=topic, group="g", settings=told(**values))
        return _row("SetGroup", what, request, f"settings.{field}", reason)

    for name in ("SetGroup", "DeleteGroup", "DescribeGroup"):
        kind: Any = getattr(queue_pb2, f"{name}Request")
        yield _row(name, "no topic", kind(group="g"), "topic")
        yield _row(name, "no group", kind(topic=topic), "group")
        yield _row(name, "an unknown topic", kind(topic="nope", group="g"), "topic", "UNKNOWN_TOPIC")
    for name in ("DeleteGroup", "DescribeGroup"):
        kind = getattr(queue_pb2, f"{name}Request")
        yield _row(name, "an unknown group", kind(topic=topic, group="g"), "group", "UNKNOWN_QUEUE_GROUP")
    yield _row("ListGroups", "an unknown topic", queue_pb2.ListGroupsRequest(topic="nope"), "topic", "UNKNOWN_TOPIC")
    for what, group in (("a slash", "a/b"), ("a reserved name", "__g"), ("a mebibyte", "x" * 2**20)):
        yield _row("SetGroup", what, queue_pb2.SetGroupRequest(topic=topic, group=group), "group")
    version = queue_pb2.SetGroupRequest(topic=topic, group="g", expected_version=7)
    yield _row("SetGroup", "a version that it does not have", version, "expected_version", "UNEXPECTED_VERSION")
    yield settings("an unknown start", "start", start=77)
    yield settings("an unknown order", "ordering", ordering=77)
    yield settings("an unknown end", "at_end", at_end=77)
    yield settings("an unknown retention", "retention", retention=77)
    yield settings("a lease of a century", "lease", lease=Duration(seconds=100 * 366 * 86400))
    yield settings("a lease backwards", "lease", lease=Duration(seconds=-1))
    yield settings("four billion attempts", "attempts_max", attempts_max=2**32 - 1)
    yield settings("a factor of four billion", "backoff.factor_percent",
                   backoff=queue_pb2.Backoff(factor_percent=2**32 - 1))  # fmt: skip
    yield settings("a jitter of four billion", "backoff.jitter_percent",
                   backoff=queue_pb2.Backoff(jitter_percent=2**32 - 1))  # fmt: skip
    yield settings("a back-off that shrinks", "backoff.max",
                   backoff=queue_pb2.Backoff(first=Duration(seconds=2), max=Duration(seconds=1)))  # fmt: skip
    yield settings("four billion a second", "drain_per_s", drain_per_s=2**32 - 1)
    yield settings("turns by nothing", "fair_by", fair_by="colour")
    yield settings("four billion keys", "processed_keys_max", processed_keys_max=2**32 - 1)
    yield settings("four billion failures", "breaker_failures", breaker_failures=2**32 - 1)
    yield settings("four billion redrives", "redrives_max", redrives_max=2**32 - 1)
    yield settings("dead letters to itself", "dead_letter_topic", dead_letter_topic=topic)
    yield settings("dead letters to a reserved topic", "dead_letter_topic", dead_letter_topic="__groups")
    yield settings("dead letters removed, to nowhere", "dead_letter_topic", dead_letter_remove=True)
    yield settings("dead letters to an unknown topic", "dead_letter_topic", "UNKNOWN_TOPIC", dead_letter_topic="nope")
    yield settings("a pause backwards", "breaker_pause", breaker_pause=Duration(seconds=-1))


def _tended(topic: str) -> Iterator[Parts]:
    def tend(name: str, what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Parts:
        kind: Any = getattr(queue_pb2, f"{name}Request")
        return _row(name, what, kind(**({"topic": topic, "group": "g"} | values)), field, reason)

    parked: Any = queue_pb2.MESSAGE_STATE_PARKED
    peek: dict[str, Any] = {"partition": 0, "state": parked}
    yield tend("Peek", "no partition", "partition", state=parked)
    yield tend("Peek", "no state", "state", partition=0)
    yield tend("Peek", "an unknown state", "state", **(peek | {"state": 77}))
    yield tend("Peek", "four billion messages", "max_messages", **peek, max_messages=2**32 - 1)
    yield tend("Peek", "an offset of 2^64 - 1", "offset", **peek, offset=2**64 - 1)
    yield tend("Peek", "an unknown group", "group", "UNKNOWN_QUEUE_GROUP", **peek)
    yield tend("Redrive", "four billion messages", "max_messages", max_messages=2**32 - 1)
    offsets = queue_pb2.ParkedFilter(offsets=[1])
    yield tend("Redrive", "offsets of no partition", "partition", filter=offsets)
    many = queue_pb2.ParkedFilter(offsets=range(10_001))
    yield tend("Redrive", "ten thousand and one offsets", "filter.offsets", partition=0, filter=many)
    yield tend("Redrive", "no time", "timeout", timeout=Duration())
    late = queue_pb2.ParkedFilter(parked_after=Timestamp(seconds=2**63 - 1))
    yield tend("Redrive", "after all times", "filter.parked_after", filter=late)
    yield tend("Redrive", "an unknown group", "group", "UNKNOWN_QUEUE_GROUP")
    yield tend("SeekGroup", "to nowhere", "offset")
    yield tend("SeekGroup", "to an offset of 2^64 - 1", "offset", offset=2**64 - 1)
    yield tend("SeekGroup", "to a time before all", "appended_at", appended_at=Timestamp(seconds=-(2**63)))
    yield tend("SeekGroup", "not to the earliest", "earliest", earliest=False)
    yield tend("SeekGroup", "of an unknown partition", "partitions[0]", "UNKNOWN_PARTITION", partitions=[2**32 - 1])
    yield tend("SeekGroup", "an unknown group", "group", "UNKNOWN_QUEUE_GROUP", earliest=True)
    yield tend("ResumeGroup", "an unknown group", "group", "UNKNOWN_QUEUE_GROUP")
    yield tend("CancelScheduled", "of no partition", "partition", offset=1)
    yield tend("CancelScheduled", "at no offset", "offset", partition=0)
    yield tend("CancelScheduled", "at an offset of 2^64 - 1", "offset", partition=0, offset=2**64 - 1)
    yield tend("CancelScheduled", "of an unknown group", "group", "UNKNOWN_QUEUE_GROUP", partition=0, offset=1)


def _worked(topic: str) -> Iterator[Parts]:
    def subscribe(what: str, field: str, reason: str = "INVALID_ARGUMENT", **values: Any) -> Parts:
        told: dict[str, Any] = {"topic": topic, "group": "g"}
        request = queue_pb2.WorkRequest(subscription=queue_pb2.ReceiveRequest(**(told | values)))
        return _row("Work", what, request, f"subscription.{field}", reason)

    yield _row("Work", "nothing", queue_pb2.WorkRequest(), "subscription")
    yield _row("Work", "credit first", queue_pb2.WorkRequest(credit=queue_pb2.WorkCredit(messages=1)), "subscription")
    yield subscribe("no topic", "topic", topic="")
    yield subscribe("no group", "group", group="")
    yield subscribe("no such partition", "partition", "UNKNOWN_PARTITION", partition=2**32 - 1)
    yield subscribe("a lease backwards", "lease", lease=Duration(seconds=-1))
    publish = queue_pb2.WorkRequest(ack_and_publish=queue_pb2.AckAndPublishRequest(topic=topic, group="g"))
    yield _row("Work", "records first", publish, "subscription")
    again = queue_pb2.WorkRequest(subscription=queue_pb2.ReceiveRequest(topic=topic, group="g"))
    yield "twice", f"{QUEUE}/Work", bodies([again, again]), "INVALID_ARGUMENT", "subscription"
