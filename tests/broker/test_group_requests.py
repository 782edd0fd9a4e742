"""What a heartbeat says of partitions, where a node does not know every topic."""

from __future__ import annotations

import pytest

from raftmq.broker.group_requests import beat_of, expect_known
from raftmq.errors import NotReady, Outcome
from raftmq.groups.types import TopicPartition
from raftmq.v1 import groups_pb2

IDS = {"orders": 7}


def heartbeat(*owned: groups_pb2.TopicPartitions) -> groups_pb2.HeartbeatRequest:
    return groups_pb2.HeartbeatRequest(group="g", member_id="m", member_epoch=1, owned=owned)


def test_a_topic_goes_by_its_id_or_else_by_its_name() -> None:
    request = heartbeat(
        groups_pb2.TopicPartitions(topic="orders", partitions=[0, 2]),
        groups_pb2.TopicPartitions(topic="other", topic_id=9, partitions=[1]),
    )
    assert beat_of(request, IDS).owned == {TopicPartition(7, 0), TopicPartition(7, 2), TopicPartition(9, 1)}
    expect_known(request, IDS)


def test_a_topic_that_does_not_exist_any_more_is_nobodys() -> None:
    request = heartbeat(groups_pb2.TopicPartitions(topic="gone", partitions=[0]))
    assert beat_of(request, IDS).owned == frozenset()


def test_a_topic_that_this_node_may_just_not_know_is_not_taken_for_given_up() -> None:
    request = heartbeat(
        groups_pb2.TopicPartitions(topic="orders", partitions=[0]),
        groups_pb2.TopicPartitions(topic="new", partitions=[0]),
    )
    with pytest.raises(NotReady) as refused:
        expect_known(request, IDS)
    assert refused.value.field == "owned[1].topic"
    assert refused.value.outcome is Outcome.NOT_APPLIED
