"""Bad requests about consumer groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from raftmq.v1 import groups_pb2
from tests.hostile.node import GROUP, TOPIC
from tests.hostile.rows import Row, filled, row

GROUPS = "/raftmq.v1.Groups"
INVALID = "INVALID_ARGUMENT"
BAD_NAMES = {"NUL": "a\0b", "a path": "../../etc/passwd", "a space": "a b", "250 characters": "x" * 250}
FAR = 2**64 - 1


def group_rows() -> Iterator[Row]:
    for method, kind in (
        ("Heartbeat", groups_pb2.HeartbeatRequest),
        ("CommitOffsets", groups_pb2.CommitOffsetsRequest),
        ("FetchOffsets", groups_pb2.FetchOffsetsRequest),
        ("DescribeConsumerGroup", groups_pb2.DescribeConsumerGroupRequest),
        ("ResetOffsets", groups_pb2.ResetOffsetsRequest),
        ("DeleteOffsets", groups_pb2.DeleteOffsetsRequest),
        ("DeleteConsumerGroup", groups_pb2.DeleteConsumerGroupRequest),
    ):
        yield row(f"{GROUPS}/{method}", "no group", kind(), INVALID, "group")
        for what, name in BAD_NAMES.items():
            yield row(f"{GROUPS}/{method}", what, filled(kind, {"group": name}), INVALID, "group")
    yield from _heartbeats()
    yield from _commits()
    yield from _others()


def _heartbeats() -> Iterator[Row]:
    def beat(what: str, field: str, reason: str = INVALID, **values: Any) -> Row:
        joining = {"group": GROUP, "member_id": "m", "topics": [TOPIC]}
        return row(f"{GROUPS}/Heartbeat", what, filled(groups_pb2.HeartbeatRequest, joining | values), reason, field)

    yield beat("no member", "member_id", member_id="")
    yield beat("a member of spaces", "member_id", member_id="  ")
    yield beat("a bad instance", "instance_id", instance_id="a/b")
    yield beat("an escape for people", "client_id", client_id="\x1b[2J")
    yield beat("a long rack", "rack", rack="r" * 254)
    yield beat("no topic", "topics", topics=[])
    yield beat("a bad topic", "topics[1]", topics=[TOPIC, ".. /"])
    yield beat("a hundred and one topics", "topics", topics=[f"t{number}" for number in range(101)])
    yield beat("an unknown assignor", "assignor", assignor=77)
    yield beat("a session backwards", "session_timeout", session_timeout=Duration(seconds=-1))
    yield beat("a session of a week", "session_timeout", session_timeout=Duration(seconds=7 * 86_400))
    yield beat("no time to rebalance", "rebalance_timeout", rebalance_timeout=Duration())
    yield beat("a wait backwards", "max_wait", max_wait=Duration(seconds=-1))
    yield beat(
        "too many partitions",
        "owned",
        owned=[groups_pb2.TopicPartitions(topic=TOPIC, partitions=[0] * 10_001)],
    )
    yield beat("of a stranger", "member_id", "UNKNOWN_MEMBER", member_epoch=FAR)
    yield beat("a stranger's farewell", "member_id", "UNKNOWN_MEMBER", leave=True)


def _commits() -> Iterator[Row]:
    def commit(what: str, field: str, reason: str = INVALID, *, member: str = "", epoch: int = 0, **one: Any) -> Row:
        offset = filled(groups_pb2.OffsetToCommit, {"topic": TOPIC, "offset": 0} | one)
        request = groups_pb2.CommitOffsetsRequest(group=GROUP, member_id=member, member_epoch=epoch, offsets=[offset])
        return row(f"{GROUPS}/CommitOffsets", what, request, reason, field)

    yield row(f"{GROUPS}/CommitOffsets", "nothing", groups_pb2.CommitOffsetsRequest(group=GROUP), INVALID, "offsets")
    yield commit("a bad member", "member_id", member="a b")
    yield commit("a stranger", "member_id", "UNKNOWN_MEMBER", member="m", epoch=1)
    yield commit("an epoch of nobody", "member_epoch", epoch=1)
    yield commit("an offset of 2^63", "offsets[0].offset", offset=2**63)
    yield commit("long metadata", "offsets[0].metadata", metadata="x" * 4097)
    yield commit("an unknown topic", "offsets[0].topic", "UNKNOWN_TOPIC", topic="nope")
    yield commit("an internal topic", "offsets[0].topic", topic="__groups")
    yield commit("no such partition", "offsets[0].partition", "UNKNOWN_PARTITION", partition=2**32 - 1)
    many = groups_pb2.CommitOffsetsRequest(group=GROUP, offsets=[groups_pb2.OffsetToCommit(topic=TOPIC)] * 10_001)
    yield row(f"{GROUPS}/CommitOffsets", "ten thousand and one", many, INVALID, "offsets")
    large = groups_pb2.OffsetToCommit(topic=TOPIC, metadata="x" * 4096)
    many = groups_pb2.CommitOffsetsRequest(group=GROUP, offsets=[large] * 200)
    yield row(f"{GROUPS}/CommitOffsets", "800 KiB of metadata", many, "MESSAGE_TOO_LARGE", "offsets")


def _others() -> Iterator[Row]:
    topics = [groups_pb2.TopicPartitions(topic="nope")]
    fetch = groups_pb2.FetchOffsetsRequest(group=GROUP, topics=topics)
    yield row(f"{GROUPS}/FetchOffsets", "an unknown topic", fetch, "UNKNOWN_TOPIC", "topics[0].topic")
    fetch = groups_pb2.FetchOffsetsRequest(group=GROUP, member_id="m")
    yield row(f"{GROUPS}/FetchOffsets", "a stranger", fetch, "UNKNOWN_MEMBER", "member_id")
    far = groups_pb2.ListConsumerGroupsRequest(coordinator=2**32 - 1)
    yield row(f"{GROUPS}/ListConsumerGroups", "of no coordinator", far, INVALID, "coordinator")
    for method, kind in (
        ("FetchOffsets", groups_pb2.FetchOffsetsRequest),
        ("DescribeConsumerGroup", groups_pb2.DescribeConsumerGroupRequest),
        ("DeleteConsumerGroup", groups_pb2.DeleteConsumerGroupRequest),
    ):
        yield row(f"{GROUPS}/{method}", "an unknown one", filled(kind, {"group": "nope"}), "UNKNOWN_GROUP", "group")

    def reset(what: str, field: str, reason: str = INVALID, **values: Any) -> Row:
        wish = {"group": GROUP, "topic": groups_pb2.TopicPartitions(topic=TOPIC)} | values
        return row(f"{GROUPS}/ResetOffsets", what, filled(groups_pb2.ResetOffsetsRequest, wish), reason, field)

    unknown = groups_pb2.TopicPartitions(topic="nope")
    beyond = groups_pb2.TopicPartitions(topic=TOPIC, partitions=[0, 2**32 - 1])
    yield reset("no topic", "topic.topic", topic=groups_pb2.TopicPartitions(), earliest=True)
    yield reset("to nowhere", "to")
    yield reset("an unknown topic", "topic.topic", "UNKNOWN_TOPIC", topic=unknown, earliest=True)
    yield reset("no such partition", "topic.partitions[1]", "UNKNOWN_PARTITION", topic=beyond, earliest=True)
    yield reset("to no time", "appended_at", appended_at=Timestamp(nanos=-1))
    for what, field, reason, topic in (
        ("no topic", "topic.topic", INVALID, groups_pb2.TopicPartitions()),
        ("an unknown topic", "topic.topic", "UNKNOWN_TOPIC", unknown),
        ("no such partition", "topic.partitions[1]", "UNKNOWN_PARTITION", beyond),
    ):
        request = groups_pb2.DeleteOffsetsRequest(group=GROUP, topic=topic)
        yield row(f"{GROUPS}/DeleteOffsets", what, request, reason, field)
