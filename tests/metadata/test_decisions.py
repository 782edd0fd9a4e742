"""What the controller's leader decides, and what it refuses, with the field to blame."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import (
    AlreadyExists,
    InvalidArgument,
    NotEnoughReplicas,
    PreconditionFailed,
    RaftmqError,
    UnknownNode,
    UnknownTopic,
)
from raftmq.ids import BootCount, GroupId, NodeId, PartitionId, ProducerId, ReplicaId, StoreId
from raftmq.metadata import decisions
from raftmq.metadata.decisions import CreateTopic, TopicPolicy
from raftmq.metadata.events import (
    ClusterVersionRaised,
    Event,
    NodeFenced,
    NodeRegistered,
    NodeUnfenced,
    PartitionAssigned,
    ProducerIdsAllocated,
    TopicCreated,
    TopicDeleted,
)
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.placement import Load
from raftmq.partition.message_ids import DEFAULT_WINDOW

POLICY = TopicPolicy()


def replica(node: int) -> ReplicaId:
    return ReplicaId(NodeId(node), StoreId(0xABC0 + node))


def registration(node: int, **changes: Any) -> NodeRegistered:
    event = NodeRegistered(replica(node), BootCount(1), "host", 9401, "peer", 9501, 9601, "", 1)
    return dataclasses.replace(event, **changes)


def replayed(image: MetadataImage, happened: list[Event]) -> MetadataImage:
    for event in happened:
        image = image.replay(event)
    return image


def cluster(nodes: int) -> MetadataImage:
    return replayed(MetadataImage(), [registration(node) for node in range(1, nodes + 1)])


THREE = cluster(3)


def refused(image: MetadataImage, policy: TopicPolicy = POLICY, **wish: Any) -> RaftmqError:
    with pytest.raises(RaftmqError) as caught:
        decisions.create_topic(image, CreateTopic(**{"name": "t"} | wish), policy)
    return caught.value


class TestCreateTopic:
    def test_defaults(self) -> None:
        assert decisions.create_topic(THREE, CreateTopic("t"), POLICY) == [
            TopicCreated(
                topic_id=1,
                name="t",
                replication_factor=3,
                min_in_sync_replicas=2,
                max_batch_bytes=1024 * 1024,
                partitions=(
                    PartitionAssigned(GroupId(1), PartitionId(0), (replica(1), replica(2), replica(3))),
                    PartitionAssigned(GroupId(2), PartitionId(1), (replica(2), replica(1), replica(3))),
                    PartitionAssigned(GroupId(3), PartitionId(2), (replica(3), replica(1), replica(2))),
                ),
                message_id_window_ms=DEFAULT_WINDOW.age_ms,
                message_id_window_count=DEFAULT_WINDOW.count,
            )
        ]

    def test_wishes(self) -> None:
        wish = CreateTopic(
            "t",
            partitions=2,
            replication_factor=2,
            min_in_sync_replicas=2,
            max_batch_bytes=2048,
            retention_ms=5,
            retention_bytes=6,
        )
        (event,) = decisions.create_topic(THREE, wish, POLICY)
        assert isinstance(event, TopicCreated)
        assert (event.replication_factor, event.min_in_sync_replicas, event.max_batch_bytes) == (2, 2, 2048)
        assert [len(partition.replicas) for partition in event.partitions] == [2, 2]
        assert (event.retention_ms, event.retention_bytes) == (5, 6)
        topic = replayed(THREE, [event]).topics["t"]
        assert (topic.retention_ms, topic.retention_bytes) == (5, 6)

    @pytest.mark.parametrize(
        ("factor", "wanted", "default", "result"),
        [
            (0, 0, 0, 3),
            (0, 0, 4, 4),
            (0, 5, 4, 5),
            (3, 0, 4, 2),  # the default belongs to the default replication factor
            (4, 0, 0, 3),
            (2, 0, 0, 2),
            (1, 0, 0, 1),
        ],
    )
    def test_min_in_sync_defaults_to_the_majority(self, factor: int, wanted: int, default: int, result: int) -> None:
        policy = TopicPolicy(replication_factor=5, min_in_sync_replicas=default)
        wish = CreateTopic("t", replication_factor=factor, min_in_sync_replicas=wanted)
        (event,) = decisions.create_topic(cluster(5), wish, policy)
        assert isinstance(event, TopicCreated)
        assert event.min_in_sync_replicas == result

    @pytest.mark.parametrize("name", ["a", "A.b_c-9", "_x", "...", "x" * 249])
    def test_good_names(self, name: str) -> None:
        assert decisions.create_topic(THREE, CreateTopic(name), POLICY)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            ".",
            "..",
            "__x",
            "__",
            "a/b",
            "a b",
            "a\n",
            "\n",
            "a\0",
            "é",
            "e\u0301",
            "\u202ea",
            "x" * 250,
            "x" * 2**20,
        ],
    )
    def test_bad_names(self, name: str) -> None:
        error = refused(THREE, name=name)
        assert (type(error), error.field) == (InvalidArgument, "name")
        assert len(error.message) < 200

    @pytest.mark.parametrize(
        ("wish", "field"),
        [
            ({"partitions": 10_001}, "partitions"),
            ({"partitions": 2**32 - 1}, "partitions"),
            ({"partitions": -1}, "partitions"),
            ({"replication_factor": -1}, "replication_factor"),
            ({"max_batch_bytes": 1023}, "max_batch_bytes"),
            ({"max_batch_bytes": 8 * 1024 * 1024 + 1}, "max_batch_bytes"),
            ({"retention_ms": -1}, "retention"),
            ({"retention_bytes": -1}, "retention_bytes"),
            ({"retention_bytes": 2**62 + 1}, "retention_bytes"),
            ({"min_in_sync_replicas": 1}, "min_in_sync_replicas"),
            ({"min_in_sync_replicas": 4}, "min_in_sync_replicas"),
            ({"replication_factor": 2, "min_in_sync_replicas": 1}, "min_in_sync_replicas"),
        ],
    )
    def test_numbers_out_of_range(self, wish: dict[str, Any], field: str) -> None:
        error = refused(THREE, **wish)
        assert (type(error), error.field) == (InvalidArgument, field)

    @pytest.mark.parametrize(
        ("policy", "field"),
        [(TopicPolicy(topics_total_max=1), "name"), (TopicPolicy(partitions_total_max=5), "partitions")],
    )
    def test_more_than_the_cluster_may_have(self, policy: TopicPolicy, field: str) -> None:
        first = decisions.create_topic(THREE, CreateTopic("first"), policy)
        error = refused(replayed(THREE, first), policy)
        assert (type(error), error.field) == (PreconditionFailed, field)
        assert "limits.max_" in error.message

    def test_more_replicas_than_nodes(self) -> None:
        error = refused(THREE, replication_factor=4)
        assert (type(error), error.field) == (PreconditionFailed, "replication_factor")

    def test_more_replicas_than_live_nodes(self) -> None:
        image = THREE.replay(NodeFenced(NodeId(2)))
        assert isinstance(refused(image), NotEnoughReplicas)
        (event,) = decisions.create_topic(image, CreateTopic("t", replication_factor=2), POLICY)
        assert isinstance(event, TopicCreated)
        assert {one.node for partition in event.partitions for one in partition.replicas} == {1, 3}

    def test_a_name_is_given_once(self) -> None:
        image = replayed(THREE, decisions.create_topic(THREE, CreateTopic("t"), POLICY))
        error = refused(image)
        assert (type(error), error.field) == (AlreadyExists, "name")

    def test_new_topics_go_where_there_is_room(self) -> None:
        one = CreateTopic("a", partitions=2, replication_factor=1)
        image = replayed(THREE, decisions.create_topic(THREE, one, POLICY))
        assert decisions.loads(image) == {1: Load(1, 1), 2: Load(1, 1)}
        wish = CreateTopic("b", partitions=1, replication_factor=1)
        (event,) = decisions.create_topic(image, wish, POLICY)
        assert isinstance(event, TopicCreated)
        assert event.partitions == (PartitionAssigned(GroupId(3), PartitionId(0), (replica(3),)),)


class TestDeleteTopic:
    def test_by_its_id(self) -> None:
        image = replayed(THREE, decisions.create_topic(THREE, CreateTopic("t"), POLICY))
        assert decisions.delete_topic(image, "t") == [TopicDeleted(1)]

    @pytest.mark.parametrize("name", ["t", "", "x" * 2**20])
    def test_an_unknown_one(self, name: str) -> None:
        with pytest.raises(UnknownTopic) as caught:
            decisions.delete_topic(THREE, name)
        assert len(caught.value.message) < 300

    def test_a_reserved_one(self) -> None:
        with pytest.raises(InvalidArgument) as caught:
            decisions.delete_topic(THREE, "__groups")
        assert caught.value.field == "name"


class TestRegisterNode:
    def test_a_new_node(self) -> None:
        assert decisions.register_node(THREE, registration(4)) == [registration(4)]

    def test_nothing_new(self) -> None:
        assert decisions.register_node(THREE, registration(2)) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"boot": BootCount(2)},
            {"host": "elsewhere"},
            {"client_port": 1},
            {"peer_host": "elsewhere"},
            {"peer_port": 1},
            {"http_port": 0},
            {"rack": "r"},
            {"max_cluster_version": 2},
        ],
    )
    def test_something_new(self, change: dict[str, Any]) -> None:
        assert decisions.register_node(THREE, registration(2, **change)) == [registration(2, **change)]

    def test_a_fenced_node_that_says_nothing_new(self) -> None:
        assert decisions.register_node(THREE.replay(NodeFenced(NodeId(2))), registration(2)) == []

    def test_another_disk(self) -> None:
        with pytest.raises(PreconditionFailed, match=r"store abc2, this one is 63: its disk was replaced") as caught:
            decisions.register_node(THREE, registration(2, id=ReplicaId(NodeId(2), StoreId(0x63))))
        assert caught.value.field == "id.store"

    def test_an_older_copy_of_the_disk(self) -> None:
        image = THREE.replay(registration(2, boot=BootCount(9)))
        with pytest.raises(PreconditionFailed, match="older copy"):
            decisions.register_node(image, registration(2, boot=BootCount(8)))

    def test_a_version_that_is_too_old(self) -> None:
        image = replayed(MetadataImage(), [registration(1, max_cluster_version=2), ClusterVersionRaised(2)])
        with pytest.raises(PreconditionFailed, match="upgrade"):
            decisions.register_node(image, registration(2, max_cluster_version=1))

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"id": ReplicaId(NodeId(0), StoreId(1))}, "id.node"),
            ({"id": ReplicaId(NodeId(2**31), StoreId(1))}, "id.node"),
            ({"id": ReplicaId(NodeId(4), StoreId(0))}, "id.store"),
            ({"id": ReplicaId(NodeId(4), StoreId(2**63))}, "id.store"),
            ({"boot": 0}, "boot"),
            ({"host": ""}, "host"),
            ({"host": "x" * 254}, "host"),
            ({"peer_host": ""}, "peer_host"),
            ({"rack": "x" * 254}, "rack"),
            ({"client_port": 0}, "client_port"),
            ({"peer_port": 65536}, "peer_port"),
            ({"http_port": -1}, "http_port"),
        ],
    )
    def test_nonsense(self, change: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidArgument) as caught:
            decisions.register_node(THREE, registration(4, **change))
        assert caught.value.field == field


class TestFencing:
    def test_there_and_back(self) -> None:
        two = NodeId(2)
        assert decisions.unfence_node(THREE, two) == []
        assert decisions.fence_node(THREE, two) == [NodeFenced(two)]
        fenced = THREE.replay(NodeFenced(two))
        assert decisions.fence_node(fenced, two) == []
        assert decisions.unfence_node(fenced, two) == [NodeUnfenced(two)]

    def test_an_unknown_node(self) -> None:
        for decide in (decisions.fence_node, decisions.unfence_node, decisions.allocate_producer_ids):
            with pytest.raises(UnknownNode):
                decide(THREE, NodeId(4))


def test_producer_ids_are_given_in_blocks_that_do_not_overlap() -> None:
    image = THREE
    blocks = []
    for node in (1, 3, 1):
        (event,) = decisions.allocate_producer_ids(image, NodeId(node))
        image = image.replay(event)
        blocks.append(event)
    assert blocks == [
        ProducerIdsAllocated(NodeId(node), ProducerId(first), 1000) for node, first in ((1, 1), (3, 1001), (1, 2001))
    ]


wishes = st.one_of(
    st.tuples(st.just("create"), st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 3)),
    st.tuples(st.just("delete"), st.sampled_from("abc")),
    st.tuples(st.just("register"), st.integers(1, 4), st.integers(1, 3)),
    st.tuples(st.just("fence"), st.integers(1, 4)),
    st.tuples(st.just("unfence"), st.integers(1, 4)),
    st.tuples(st.just("allocate"), st.integers(1, 4)),
)


def decided(image: MetadataImage, wish: tuple[Any, ...]) -> list[Event]:
    match wish:
        case ("create", name, partitions, factor):
            return decisions.create_topic(image, CreateTopic(name, partitions, factor), POLICY)
        case ("delete", name):
            return decisions.delete_topic(image, name)
        case ("register", node, boot):
            return decisions.register_node(image, registration(node, boot=BootCount(boot)))
        case ("fence", node):
            return decisions.fence_node(image, NodeId(node))
        case ("unfence", node):
            return decisions.unfence_node(image, NodeId(node))
        case _:
            return decisions.allocate_producer_ids(image, NodeId(wish[1]))


@given(st.lists(wishes, max_size=40))
def test_whatever_is_decided_can_be_replayed_and_numbers_are_never_reused(script: list[tuple[Any, ...]]) -> None:
    image = MetadataImage()
    used: list[int] = []
    for wish in script:
        try:
            happened = decided(image, wish)
        except RaftmqError:
            continue
        for event in happened:
            image = image.replay(event)
            if isinstance(event, TopicCreated):
                used.extend(partition.group for partition in event.partitions)
        # A wish that is fulfilled gives no more events, except one that asks for more each time.
        if wish[0] in ("register", "fence", "unfence"):
            assert decided(image, wish) == []
        in_topics = sorted(one.group for topic in image.topics.values() for one in topic.partitions)
        assert in_topics == sorted(image.groups)
    assert used == list(range(1, image.next_group_id))
