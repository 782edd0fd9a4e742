"""The image: what each event makes of it, that nothing in it changes, and events that do not fit."""

from __future__ import annotations

import dataclasses

import pytest

from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, PartitionId, ProducerId, ReplicaId, StoreId
from raftmq.metadata.events import (
    AssignmentChanged,
    ClusterVersionRaised,
    Event,
    NodeFenced,
    NodeRegistered,
    NodeUnfenced,
    PartitionAssigned,
    ProducerIdsAllocated,
    TopicAltered,
    TopicCreated,
    TopicDeleted,
)
from raftmq.metadata.image import MetadataImage, NodeRecord, PartitionRecord
from raftmq.records.poison import PoisonEntry


def replica(node: int, store: int = 7) -> ReplicaId:
    return ReplicaId(NodeId(node), StoreId(store))


def registered(node: int, boot: int = 1, **changes: str) -> NodeRegistered:
    event = NodeRegistered(replica(node), BootCount(boot), "host", 9401, "peer", 9501, 9601, "", 1)
    return dataclasses.replace(event, **changes)  # type: ignore[arg-type]


def created(topic_id: int, name: str, first_group: int, partitions: int = 2) -> TopicCreated:
    assigned = (
        PartitionAssigned(GroupId(first_group + number), PartitionId(number), (replica(1), replica(2)))
        for number in range(partitions)
    )
    return TopicCreated(topic_id, name, 2, 2, 1 << 20, tuple(assigned))


def image_of(*happened: Event) -> MetadataImage:
    image = MetadataImage()
    for event in happened:
        image = image.replay(event)
    return image


def test_the_first_image_is_empty() -> None:
    image = MetadataImage()
    assert (image.version, image.nodes, image.topics, image.groups) == (0, {}, {}, {})
    assert (image.next_group_id, image.next_topic_id, image.next_producer_id, image.cluster_version) == (1, 1, 1, 1)


def test_a_node_registers() -> None:
    image = image_of(registered(4, rack="r1"))
    assert image.nodes == {
        4: NodeRecord(replica(4), BootCount(1), "host", 9401, "peer", 9501, 9601, "r1", False, 1),
    }


def test_a_node_that_registers_again_stays_fenced() -> None:
    image = image_of(registered(4), NodeFenced(NodeId(4)), registered(4, boot=2, host="elsewhere"))
    node = image.nodes[NodeId(4)]
    assert (node.fenced, node.boot, node.host) == (True, 2, "elsewhere")
    assert not image.replay(NodeUnfenced(NodeId(4))).nodes[NodeId(4)].fenced


def test_a_topic_is_found_by_name_and_by_group() -> None:
    image = image_of(created(1, "a", 1), created(2, "b", 3, partitions=3))
    assert sorted(image.topics) == ["a", "b"]
    assert (image.next_group_id, image.next_topic_id) == (6, 3)
    found = image.partition(GroupId(4))
    assert found is not None
    topic, partition = found
    assert topic is image.topics["b"]
    assert partition == PartitionRecord(GroupId(4), PartitionId(1), (replica(1), replica(2)))
    assert image.partition(GroupId(6)) is None


def test_a_deleted_topic_is_gone_and_its_numbers_are_not_used_again() -> None:
    image = image_of(created(1, "a", 1), created(2, "b", 3), TopicDeleted(1))
    assert sorted(image.topics) == ["b"]
    assert sorted(image.groups) == [3, 4]
    assert image.partition(GroupId(1)) is None
    again = image.replay(created(3, "a", 5))
    assert again.topics["a"].topic_id == 3
    assert sorted(again.groups) == [3, 4, 5, 6]


def test_an_assignment_changes() -> None:
    image = image_of(created(1, "a", 1), AssignmentChanged(GroupId(2), (replica(3),)))
    assert [partition.replicas for partition in image.topics["a"].partitions] == [
        (replica(1), replica(2)),
        (replica(3),),
    ]


def test_counters_grow() -> None:
    image = image_of(ProducerIdsAllocated(NodeId(1), ProducerId(1), 1000), ClusterVersionRaised(3))
    assert (image.next_producer_id, image.cluster_version) == (1001, 3)


def test_an_image_never_changes() -> None:
    before = image_of(registered(1), created(1, "a", 1))
    copy = (dict(before.nodes), dict(before.topics), dict(before.groups), before.digest())
    for event in (registered(2), NodeFenced(NodeId(1)), created(2, "b", 3), TopicDeleted(1)):
        assert before.replay(event) != before
    assert (dict(before.nodes), dict(before.topics), dict(before.groups), before.digest()) == copy
    with pytest.raises(TypeError):
        before.nodes[NodeId(9)] = before.nodes[NodeId(1)]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.version = LogIndex(1)  # type: ignore[misc]


@pytest.mark.parametrize(
    "event",
    [
        NodeFenced(NodeId(9)),
        NodeUnfenced(NodeId(9)),
        created(2, "a", 3),  # the name is taken
        created(1, "b", 3),  # the topic id is used up
        created(3, "b", 3),
        created(2, "b", 2),  # the groups are used up
        created(2, "b", 4),
        dataclasses.replace(created(2, "b", 3), partitions=created(2, "b", 3).partitions[::-1]),
        TopicCreated(2, "b", 1, 1, 1024, (PartitionAssigned(GroupId(3), PartitionId(0), ()),)),
        TopicDeleted(2),
        TopicAltered(2, 2, 1024, 0, 0, 1000, 1),
        ProducerIdsAllocated(NodeId(1), ProducerId(2), 1000),
        ProducerIdsAllocated(NodeId(1), ProducerId(1), 0),
        ClusterVersionRaised(1),
        AssignmentChanged(GroupId(3), (replica(1),)),
        AssignmentChanged(GroupId(1), ()),
    ],
)
def test_an_event_that_does_not_fit_is_poison(event: Event) -> None:
    image = image_of(registered(1), created(1, "a", 1))
    with pytest.raises(PoisonEntry):
        image.replay(event)


def test_the_digest_tells_images_apart_and_not_the_way_they_came_about() -> None:
    one = image_of(registered(1), registered(2), created(1, "a", 1))
    other = image_of(registered(2), created(1, "a", 1), registered(1))
    assert one.digest() == other.digest()
    different = [one.at(LogIndex(5)), one.replay(NodeFenced(NodeId(1))), one.replay(ClusterVersionRaised(2))]
    assert len({image.digest() for image in (one, *different)}) == 4
