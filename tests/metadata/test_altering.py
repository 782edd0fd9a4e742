"""Altering a topic: what changes, what stays, and what is refused by name."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from raftmq.errors import InvalidArgument, RaftmqError, UnexpectedVersion, UnknownTopic
from raftmq.ids import BootCount, NodeId, ReplicaId, StoreId
from raftmq.metadata import decisions
from raftmq.metadata.altering import AlterTopic, alter_topic
from raftmq.metadata.decisions import CreateTopic, TopicPolicy
from raftmq.metadata.depth import DepthLimit, DepthWish, Overflow
from raftmq.metadata.events import Event, NodeRegistered, TopicAltered
from raftmq.metadata.image import MetadataImage

POLICY = TopicPolicy()


def image_of_a_topic() -> MetadataImage:
    image = MetadataImage()
    for node in (1, 2, 3):
        replica = ReplicaId(NodeId(node), StoreId(node))
        image = image.replay(NodeRegistered(replica, BootCount(1), "host", 9401, "peer", 9501, 9601, "", 1))
    wish = CreateTopic("t", partitions=2, max_batch_bytes=4096, retention_ms=60_000)
    [created] = decisions.create_topic(image, wish, POLICY)
    return image.replay(created)


IMAGE = image_of_a_topic()
BEFORE = IMAGE.topics["t"]


def altered(**wish: Any) -> list[Event]:
    return alter_topic(IMAGE, AlterTopic("t", **wish), POLICY)


def refused(**wish: Any) -> RaftmqError:
    with pytest.raises(RaftmqError) as caught:
        altered(**wish)
    return caught.value


@pytest.mark.parametrize(
    ("name", "value", "then"),
    [
        ("min_in_sync_replicas", 3, 3),
        ("max_batch_bytes", 2048, 2048),
        ("max_batch_bytes", 0, POLICY.max_batch_bytes),
        ("retention_ms", 1, 1),
        ("retention_ms", 0, 0),
        ("retention_bytes", 2**40, 2**40),
        ("message_id_window_ms", 5_000, 5_000),
        ("message_id_window_count", 7, 7),
    ],
)
def test_one_setting_changes_and_the_others_stay(name: str, value: int, then: int) -> None:
    [event] = altered(**{name: value})
    topic = IMAGE.replay(event).topics["t"]
    expected = asdict(BEFORE) | {"version": 2, name: then}
    assert asdict(topic) == expected


def test_what_it_has_already_is_no_event() -> None:
    assert altered() == []
    assert altered(retention_ms=60_000, max_batch_bytes=4096, min_in_sync_replicas=0, partitions=2) == []


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"partitions": 3}, "partitions"),
        ({"partitions": 0}, "partitions"),
        ({"replication_factor": 2}, "replication_factor"),
        ({"min_in_sync_replicas": 4}, "min_in_sync_replicas"),
        ({"min_in_sync_replicas": 1}, "min_in_sync_replicas"),
        ({"max_batch_bytes": 1}, "max_batch_bytes"),
        ({"retention_bytes": 2**63}, "retention_bytes"),
        ({"message_id_window_ms": 999}, "message_id_window"),
        ({"message_id_window_count": 1_000_001}, "message_id_window_count"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(wish: dict[str, int], field: str) -> None:
    error = refused(**wish, retention_ms=1)
    assert isinstance(error, InvalidArgument)
    assert error.field == field


def test_a_version_that_is_not_the_present_one_is_refused() -> None:
    error = refused(expected_version=2, retention_ms=1)
    assert isinstance(error, UnexpectedVersion)
    assert error.metadata == {"version": "1"}
    [event] = altered(expected_version=1, retention_ms=1)
    image = IMAGE.replay(event)
    with pytest.raises(UnexpectedVersion):
        alter_topic(image, AlterTopic("t", retention_ms=2, expected_version=1), POLICY)
    assert alter_topic(image, AlterTopic("t", retention_ms=2, expected_version=2), POLICY)


def test_an_unknown_topic() -> None:
    with pytest.raises(UnknownTopic):
        alter_topic(IMAGE, AlterTopic("nope"), POLICY)


def test_a_topic_of_the_time_before_message_ids_keeps_their_default() -> None:
    old = replace(IMAGE, topics={"t": replace(BEFORE, message_id_window_ms=0, message_id_window_count=0)})
    [event] = alter_topic(old, AlterTopic("t", retention_ms=5), POLICY)
    assert isinstance(event, TopicAltered)
    assert (event.message_id_window_ms, event.message_id_window_count) == (
        POLICY.message_id_window_ms,
        POLICY.message_id_window_count,
    )


def test_of_a_depth_limit_only_what_is_named_changes() -> None:
    [first] = altered(depth=DepthWish(max_records=10, overflow=Overflow.SAMPLE))
    assert isinstance(first, TopicAltered)
    assert first.depth == DepthLimit(max_records=10, overflow=Overflow.SAMPLE)
    image = IMAGE.replay(first)
    [second] = alter_topic(image, AlterTopic("t", depth=DepthWish(max_bytes=7, sample_one_in=3)), POLICY)
    assert isinstance(second, TopicAltered)
    assert second.depth == DepthLimit(10, 7, 0, Overflow.SAMPLE, 3)
    [other] = alter_topic(image, AlterTopic("t", retention_ms=5), POLICY)
    assert isinstance(other, TopicAltered)
    assert other.depth == first.depth
    assert altered(depth=DepthWish(max_records=0, overflow=0)) == []


@pytest.mark.parametrize(
    ("field", "wish"),
    [
        ("depth.max_records", DepthWish(max_records=2**64 - 1)),
        ("depth.overflow", DepthWish(overflow=6)),
        ("depth.sample_one_in", DepthWish(sample_one_in=1)),
    ],
)
def test_an_impossible_depth_limit_is_refused(field: str, wish: DepthWish) -> None:
    assert refused(depth=wish).field == field
