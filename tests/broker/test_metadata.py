from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

import raftmq
from raftmq.broker.broker_service import API_LEVEL
from raftmq.broker.queues.tokens import pack
from raftmq.errors import AlreadyExists, NotReady, Outcome, PreconditionFailed
from raftmq.metadata.decisions import CreateTopic
from raftmq.v1 import admin_pb2, broker_pb2, queue_pb2
from tests.broker.cluster import FACTS, LEADER_WAIT_S, ORDERS, SINGLE, Node, refusal
from tests.broker.fakes import CLUSTER_ID, image_of, topic_record
from tests.clock import LoopClock


async def test_metadata_names_nodes_topics_and_leaders(node: Node) -> None:
    answer = await node.broker.GetMetadata(broker_pb2.GetMetadataRequest())
    assert answer.header.cluster_id == CLUSTER_ID
    assert (answer.controller_node_id, answer.metadata_version) == (1, 41)
    assert [(one.node_id, one.host, one.port) for one in answer.nodes] == [
        (1, "127.0.0.1", 9401),
        (2, "127.0.0.1", 9402),
        (3, "127.0.0.1", 9403),
    ]
    assert [topic.name for topic in answer.topics] == ["orders", "single"]
    orders = answer.topics[0]
    assert (orders.topic_id, orders.replication_factor, orders.min_in_sync_replicas) == (1, 3, 2)
    assert orders.hash_slots == 16_384
    assert [(p.partition, p.group_id, p.leader_node_id, list(p.replicas)) for p in orders.partitions] == [
        (0, 1, 1, [1, 2, 3]),
        (1, 2, 2, [1, 2, 3]),
        (2, 3, 1, [1, 2, 3]),
    ]


@pytest.mark.parametrize(
    ("asked", "told"), [([], ["orders", "single"]), (["single", "nope", "single"], ["single"]), (["nope"], [])]
)
async def test_metadata_of_some_topics_leaves_out_the_unknown(node: Node, asked: list[str], told: list[str]) -> None:
    answer = await node.broker.GetMetadata(broker_pb2.GetMetadataRequest(topics=asked))
    assert [topic.name for topic in answer.topics] == told


async def test_topics_are_listed_and_described(node: Node) -> None:
    listed = await node.admin.ListTopics(admin_pb2.ListTopicsRequest())
    described = await node.admin.DescribeTopic(admin_pb2.DescribeTopicRequest(name="single"))
    assert [topic.name for topic in listed.topics] == ["orders", "single"]
    assert described.topic == listed.topics[1]


async def test_the_server_says_what_it_is(node: Node) -> None:
    answer = await node.broker.GetServerInfo(broker_pb2.GetServerInfoRequest())
    assert answer.header.node_id == 1
    assert (answer.version, answer.api_level, answer.boot_count) == (raftmq.__version__, API_LEVEL, FACTS.boot_count)
    assert (answer.max_message_bytes, answer.max_batch_bytes) == (FACTS.max_message_bytes, FACTS.max_batch_bytes)


async def test_a_new_producer_gets_an_id_and_epoch_zero(node: Node) -> None:
    answers = [await node.broker.InitProducer(broker_pb2.InitProducerRequest()) for _ in range(2)]
    assert [(one.producer_id, one.producer_epoch) for one in answers] == [(1001, 0), (1002, 0)]


async def test_a_known_producer_gets_its_next_epoch(node: Node) -> None:
    request = broker_pb2.InitProducerRequest(producer_id=7, producer_epoch=4)
    answer = await node.broker.InitProducer(request)
    assert (answer.producer_id, answer.producer_epoch) == (7, 5)
    assert node.cluster.producer_id == 1000


async def test_a_producer_without_epochs_left_must_ask_for_an_id(node: Node) -> None:
    request = broker_pb2.InitProducerRequest(producer_id=7, producer_epoch=2**31 - 1)
    error = await refusal(node.broker.InitProducer(request))
    assert (type(error), error.field) == (PreconditionFailed, "producer_epoch")


async def test_a_topic_is_created_as_it_was_asked_for(node: Node) -> None:
    request = admin_pb2.CreateTopicRequest(
        name="new",
        partitions=4,
        replication_factor=3,
        min_in_sync_replicas=2,
        max_batch_bytes=4096,
        retention=Duration(seconds=90, nanos=5_000_000),
        retention_bytes=2**40,
        validate_only=True,
        timeout=Duration(seconds=3600),
    )
    answer = await node.admin.CreateTopic(request)
    [(spec, timeout_ms, validate_only)] = node.cluster.created
    assert spec == CreateTopic("new", 4, 3, 2, 4096, 90_005, 2**40)
    assert 10_000 < timeout_ms <= 60_000
    assert validate_only
    assert [partition.group_id for partition in answer.topic.partitions] == [50, 51, 52, 53]


async def test_what_the_controller_refuses_is_told(node: Node) -> None:
    node.cluster.error = AlreadyExists("topic new exists", field="name")
    error = await refusal(node.admin.CreateTopic(admin_pb2.CreateTopicRequest(name="new")))
    assert (type(error), error.field, error.outcome) == (AlreadyExists, "name", Outcome.NOT_APPLIED)


@pytest.mark.parametrize(
    ("service", "method", "request_"),
    [
        ("broker", "ListOffsets", broker_pb2.ListOffsetsRequest(topic="new")),
        ("broker", "Fetch", broker_pb2.FetchRequest(topic="new", partition=0, offset=0)),
        ("admin", "DescribeTopic", admin_pb2.DescribeTopicRequest(name="new")),
        ("queue", "Ack", queue_pb2.AckRequest(topic="single", group="new", tokens=[pack(0, 1, 0, bytes(16))])),
        ("queue", "ResumeGroup", queue_pb2.ResumeGroupRequest(topic="single", group="new")),
    ],
)
async def test_a_node_whose_metadata_is_of_the_past_never_says_that_a_topic_does_not_exist(
    node: Node, clock: LoopClock, service: str, method: str, request_: object
) -> None:
    """Right after a start, and while there is no controller, it cannot tell: clients would take it at its word."""
    node.cluster.current = False
    node.cluster.on_current_asked = clock.at_call(2, LEADER_WAIT_S)
    error = await refusal(getattr(getattr(node, service), method)(request_))
    assert type(error) is NotReady
    assert (error.outcome, error.retriable) == (Outcome.NOT_APPLIED, True)
    known = await node.broker.ListOffsets(broker_pb2.ListOffsetsRequest(topic="single"))
    assert len(known.partitions) == 1, "what it does know, it serves"


@pytest.mark.parametrize(
    ("service", "method", "request_"),
    [
        ("broker", "GetMetadata", broker_pb2.GetMetadataRequest()),
        ("admin", "ListTopics", admin_pb2.ListTopicsRequest()),
    ],
)
async def test_a_node_that_replays_its_metadata_lists_no_topics_until_it_knows_them(
    node: Node, monkeypatch: pytest.MonkeyPatch, service: str, method: str, request_: object
) -> None:
    """A new client would take what is missing for what does not exist."""
    node.cluster.current = False
    assert type(await refusal(getattr(getattr(node, service), method)(request_))) is NotReady
    looks: list[int] = []

    def replaying() -> bool:
        looks.append(1)
        return len(looks) == 3

    monkeypatch.setattr(node.cluster, "was_current", replaying)
    answer = await getattr(getattr(node, service), method)(request_)
    assert [topic.name for topic in answer.topics] == ["orders", "single"]
    assert len(looks) == 3


async def test_a_call_waits_for_a_node_to_learn_of_its_topic(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def learning() -> bool:
        """The news comes between the second look and the third."""
        asked.append(1)
        if len(asked) == 2:
            node.cluster.image = image_of(ORDERS, SINGLE, topic_record("late", [1], topic_id=7))
        return False

    monkeypatch.setattr(node.cluster, "is_current", learning)
    answer = await node.broker.Fetch(broker_pb2.FetchRequest(topic="late", partition=0, offset=0))
    assert answer.header.node_id == 1
    assert len(asked) == 2
