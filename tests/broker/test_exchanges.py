"""Exchanges, declared and published to over gRPC; records end in fake hosts, by topic and partition."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from raftmq import status
from raftmq.broker.publishing import COUNTED_MAX, OTHERS, RoutingCounts
from raftmq.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    MessageTooLarge,
    NoLeader,
    NotEnoughReplicas,
    NotReady,
    Outcome,
    PreconditionFailed,
    UnknownExchange,
    Unroutable,
)
from raftmq.ids import CONTROLLER_GROUP, GroupId, NodeId
from raftmq.metadata.binding import bind
from raftmq.metadata.events import ExchangeDeclared
from raftmq.metadata.exchange import Binding, ExchangeKind
from raftmq.records.batch import decode_records, make_batch
from raftmq.records.slots import partition_for_key
from raftmq.v1 import exchanges_pb2, types_pb2
from tests.broker.cluster import Node, refusal
from tests.clock import LoopClock

Publish = exchanges_pb2.PublishRequest
WireBinding = exchanges_pb2.Binding
TOPIC, FANOUT = exchanges_pb2.EXCHANGE_KIND_TOPIC, exchanges_pb2.EXCHANGE_KIND_FANOUT
RECORD = types_pb2.Record(value=b"v")


def routes(*nodes: Node) -> None:
    """What these nodes know: "events" leads to "single" by ``a.#`` and to "orders" by ``#.b``; "dead" leads nowhere.
    One that is alone leads all partitions."""
    for node in nodes:
        if len(nodes) == 1:
            node.host.leaders = dict.fromkeys(map(GroupId, range(5)), node.host.me)
        image = node.cluster.image
        for name, kind in (("dead", ExchangeKind.FANOUT), ("events", ExchangeKind.TOPIC)):
            image = image.replay(ExchangeDeclared(name, kind, ""))
        for topic, key in (("single", "a.#"), ("orders", "#.b")):
            for event in bind(image, "events", Binding(topic=topic, routing_key=key)):
                image = image.replay(event)
        node.cluster.image = image


async def declare(node: Node, name: str, kind: Any = FANOUT, **values: Any) -> exchanges_pb2.ExchangeInfo:
    request = exchanges_pb2.DeclareExchangeRequest(name=name, kind=kind, **values)
    return (await node.exchanges.DeclareExchange(request)).exchange


async def test_declared_bound_listed_and_deleted(node: Node) -> None:
    assert (await declare(node, "spare")).kind == FANOUT
    declared = await declare(node, "events", TOPIC, alternate_exchange="spare")
    assert declared == exchanges_pb2.ExchangeInfo(name="events", kind=TOPIC, alternate_exchange="spare")
    binding = WireBinding(topic="orders", routing_key="a.*")
    bound = await node.exchanges.Bind(exchanges_pb2.BindRequest(exchange="events", binding=binding))
    assert list(bound.exchange.bindings) == [binding]
    assert bound.metadata_version == node.cluster.image.version
    again = await node.exchanges.Bind(exchanges_pb2.BindRequest(exchange="events", binding=binding))
    assert (again.exchange, again.metadata_version) == (bound.exchange, bound.metadata_version)

    listed = await node.exchanges.ListExchanges(exchanges_pb2.ListExchangesRequest())
    assert [one.name for one in listed.exchanges] == ["events", "spare"]
    named = await node.exchanges.ListExchanges(exchanges_pb2.ListExchangesRequest(names=["spare", "nope"]))
    assert [one.name for one in named.exchanges] == ["spare"]

    in_use = await refusal(node.exchanges.DeleteExchange(exchanges_pb2.DeleteExchangeRequest(name="spare")))
    assert isinstance(in_use, PreconditionFailed)
    await node.exchanges.DeleteExchange(exchanges_pb2.DeleteExchangeRequest(name="spare", force=True))
    unbound = await node.exchanges.Unbind(exchanges_pb2.UnbindRequest(exchange="events", binding=binding))
    assert unbound.exchange == exchanges_pb2.ExchangeInfo(name="events", kind=TOPIC)


async def test_headers_of_a_binding_are_the_same_in_any_order(node: Node) -> None:
    await declare(node, "h", exchanges_pb2.EXCHANGE_KIND_HEADERS)
    headers = [types_pb2.Header(name=name, value=name.encode()) for name in ("b", "a")]
    for ordered in (headers, headers[::-1]):
        binding = WireBinding(topic="orders", headers=ordered, match=exchanges_pb2.HEADER_MATCH_ANY)
        bound = await node.exchanges.Bind(exchanges_pb2.BindRequest(exchange="h", binding=binding))
        assert [header.name for header in bound.exchange.bindings[0].headers] == ["a", "b"]
        assert (len(bound.exchange.bindings), bound.exchange.bindings[0].match) == (1, exchanges_pb2.HEADER_MATCH_ANY)


async def test_what_is_only_validated_changes_nothing(node: Node) -> None:
    before = node.cluster.image
    assert (await declare(node, "events", TOPIC, validate_only=True)).name == "events"
    assert node.cluster.image is before
    assert type(await refusal(node.exchanges.DeclareExchange(exchanges_pb2.DeclareExchangeRequest(name="x")))) is (
        InvalidArgument
    )
    await declare(node, "events", TOPIC)
    other = exchanges_pb2.DeclareExchangeRequest(name="events", kind=FANOUT, validate_only=True)
    assert isinstance(await refusal(node.exchanges.DeclareExchange(other)), AlreadyExists)


async def test_the_controllers_leader_decides_whoever_is_asked(pair: tuple[Node, Node]) -> None:
    first, second = pair
    await declare(second, "events", TOPIC)
    assert sorted(first.cluster.image.exchanges) == ["events"]
    assert [hop[:2] for hop in second.hops] == [(1, "/raftmq.v1.Exchanges/DeclareExchange")]


def key_of(partition: int) -> bytes:
    """A key that belongs to `partition` of three."""
    return next(key for key in (b"%d" % n for n in range(99)) if partition_for_key(key, 3) == partition)


def values_in(node: Node, group: int) -> list[bytes]:
    """Of all records that the node's host was given for a group."""
    found = []
    for produced in node.host.produced:
        if produced.group == group:
            header = types_pb2.BatchHeader.FromString(produced.batch.header_bytes)
            found += [record.value for record in decode_records(header, produced.batch.payload)]
    return found


async def test_one_publish_reaches_every_topic_that_fits_and_tells_of_each(node: Node) -> None:
    routes(node)
    answer = await node.exchanges.Publish(
        Publish(exchange="events", routing_key="a.b", records=[types_pb2.Record(key=key_of(0), value=b"v")])
    )
    assert [result.topic for result in answer.results] == ["single", "orders"]
    [single], [orders] = answer.results[0].partitions, answer.results[1].partitions
    assert (single.receipt.topic, single.receipt.base_offset, single.high_watermark) == ("single", 0, 1)
    assert (orders.partition, orders.receipt.topic) == (0, "orders")
    assert values_in(node, 4) == [b"v"]
    assert answer.metadata_version == node.cluster.image.version
    only = await node.exchanges.Publish(Publish(exchange="events", routing_key="a", records=[RECORD]))
    assert [result.topic for result in only.results] == ["single"]


async def test_a_topic_is_written_to_wherever_its_leader_is(pair: tuple[Node, Node]) -> None:
    first, second = pair
    routes(first, second)
    request = Publish(exchange="events", routing_key="a.b", records=[types_pb2.Record(key=key_of(1), value=b"v")])
    answer = await second.exchanges.Publish(request)
    assert [result.HasField("error") for result in answer.results] == [False, False]
    assert (values_in(first, 4), values_in(second, 2)) == ([b"v"], [b"v"])
    assert [(to, method) for to, method, _ in second.hops] == [(1, "/raftmq.v1.Broker/Produce")]


async def test_what_one_topic_refuses_changes_nothing_about_the_others(node: Node) -> None:
    routes(node)
    node.host.errors.append(NotEnoughReplicas("one of two"))
    answer = await node.exchanges.Publish(Publish(exchange="events", routing_key="a.b", records=[RECORD]))
    refused, taken = answer.results
    error = status.from_message(refused.error)
    assert (refused.topic, type(error), error.outcome) == ("single", NotEnoughReplicas, Outcome.NOT_APPLIED)
    assert (taken.topic, taken.HasField("error"), len(taken.partitions)) == ("orders", False, 1)


async def test_all_topics_may_refuse_and_each_says_why(node: Node) -> None:
    routes(node)
    node.host.errors += [NotEnoughReplicas("one of two"), NotEnoughReplicas("one of two")]
    answer = await node.exchanges.Publish(Publish(exchange="events", routing_key="a.b", records=[RECORD]))
    assert [result.error.reason for result in answer.results] == ["NOT_ENOUGH_REPLICAS"] * 2


def late(node: Node, clock: LoopClock, group: int, seconds: float) -> None:
    """Let so much time pass when somebody looks for the group's leader for the fifth time."""
    passes = clock.at_call(5, seconds)
    node.host.on_leader_asked = lambda asked: passes() if asked == group else None


async def test_where_only_some_partitions_took_their_part_the_topics_outcome_is_unknown(
    node: Node, clock: LoopClock
) -> None:
    """Node 2, which leads partition 1, is not there."""
    routes(node)
    node.host.leaders[GroupId(2)] = NodeId(2)
    late(node, clock, 2, 10)
    keys = [key_of(0), key_of(1)]
    answer = await node.exchanges.Publish(
        Publish(
            exchange="events",
            routing_key="b",
            records=[types_pb2.Record(key=key, value=key) for key in keys],
            timeout=Duration(seconds=60),
        )
    )
    [result] = answer.results
    assert [one.WhichOneof("result") for one in result.partitions] == ["receipt", "error"]
    assert (result.error.reason, result.error.detail.outcome) == ("UNAVAILABLE", types_pb2.OUTCOME_UNKNOWN)
    assert result.partitions[1].error.detail.outcome == types_pb2.OUTCOME_NOT_APPLIED


async def test_what_a_topic_waited_for_in_vain_is_told_beside_the_others_receipts(node: Node, clock: LoopClock) -> None:
    routes(node)
    del node.host.leaders[GroupId(4)]
    late(node, clock, 4, 10)
    request = Publish(exchange="events", routing_key="a.b", records=[RECORD], timeout=Duration(seconds=60))
    answer = await node.exchanges.Publish(request)
    without_leader, taken = answer.results
    assert isinstance(status.from_message(without_leader.error), NoLeader | DeadlineExceeded)
    assert not taken.HasField("error")


@pytest.mark.parametrize("mandatory", [True, False])
async def test_the_unroutable(node: Node, mandatory: bool) -> None:
    routes(node)
    request = Publish(exchange="events", routing_key="x", records=[RECORD], mandatory=mandatory)
    if mandatory:
        error = await refusal(node.exchanges.Publish(request))
        assert (type(error), error.outcome) == (Unroutable, Outcome.NOT_APPLIED)
    else:
        assert len((await node.exchanges.Publish(request)).results) == 0
    assert node.host.produced == []


async def test_a_trace_tells_every_step_and_appends_nothing(node: Node) -> None:
    routes(node)
    await declare(node, "in", exchanges_pb2.EXCHANGE_KIND_DIRECT, alternate_exchange="events")
    answer = await node.exchanges.TraceRoute(exchanges_pb2.TraceRouteRequest(exchange="in", routing_key="a.b"))
    assert list(answer.topics) == ["single", "orders"]
    assert [(step.exchange, step.alternate_exchange) for step in answer.steps] == [("in", "events"), ("events", "")]
    assert [binding.routing_key for binding in answer.steps[1].bindings] == ["a.#", "#.b"]
    assert node.host.produced == []


async def test_a_batch_goes_whole_to_the_partition_of_its_key_or_of_its_id(node: Node) -> None:
    routes(node)
    batch = make_batch([RECORD, RECORD])
    for key in (b"0", b"1", b"2", b"3"):
        answer = await node.exchanges.Publish(
            Publish(exchange="events", routing_key="b", batch=batch, partition_key=key)
        )
        assert answer.results[0].partitions[0].partition == partition_for_key(key, 3)
    named = make_batch([RECORD], message_id="invoice 7")
    for _ in range(2):
        answer = await node.exchanges.Publish(Publish(exchange="events", routing_key="b", batch=named))
        assert answer.results[0].partitions[0].partition == partition_for_key(b"invoice 7", 3)
    turns = [
        (await node.exchanges.Publish(Publish(exchange="events", routing_key="b", batch=batch)))
        .results[0].partitions[0].partition
        for _ in range(3)
    ]  # fmt: skip
    assert sorted(turns) == [0, 1, 2]
    assert node.host.produced[0].batch.payload == batch.records


async def test_acks_and_the_message_id_reach_each_topic(node: Node) -> None:
    routes(node)
    await node.exchanges.Publish(
        Publish(
            exchange="events", routing_key="a.b", records=[RECORD], acks=types_pb2.ACKS_QUORUM, message_id="invoice 7"
        )
    )
    assert {(one.batch.message_id, one.acks.name) for one in node.host.produced} == {("invoice 7", "QUORUM")}
    assert {one.group for one in node.host.produced} == {4, 1 + partition_for_key(b"invoice 7", 3)}


async def test_an_exchange_of_another_node_is_waited_for_a_moment(pair: tuple[Node, Node]) -> None:
    first, second = pair
    routes(first)
    looks: list[GroupId] = []

    def look(group: GroupId) -> None:
        looks.append(group)
        if looks.count(CONTROLLER_GROUP) == 3:
            second.cluster.image = first.cluster.image

    request = Publish(exchange="events", routing_key="a", records=[RECORD])
    assert isinstance(await refusal(second.exchanges.Publish(request)), UnknownExchange)
    second.host.on_leader_asked = look
    answer = await second.exchanges.Publish(request)
    assert [result.topic for result in answer.results] == ["single"]


async def test_who_is_behind_says_so_to_those_who_know_better(node: Node) -> None:
    routes(node)
    version = node.cluster.image.version
    request = Publish(exchange="events", routing_key="a", records=[RECORD], min_metadata_version=version)
    assert len((await node.exchanges.Publish(request)).results) == 1
    request.min_metadata_version = version + 1
    error = await refusal(node.exchanges.Publish(request))
    assert (type(error), error.field, error.outcome) == (NotReady, "min_metadata_version", Outcome.NOT_APPLIED)


async def test_a_node_that_has_yet_to_learn_routes_nothing(node: Node) -> None:
    """Some binding may be missing yet: to follow the others only would be a loss that nobody sees."""
    routes(node)
    node.cluster.current = False
    error = await refusal(node.exchanges.Publish(Publish(exchange="events", routing_key="a", records=[RECORD])))
    assert (type(error), error.outcome) == (NotReady, Outcome.NOT_APPLIED)
    assert node.host.produced == []


async def test_a_small_request_does_not_become_a_flood(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    routes(node)
    request = Publish(exchange="events", routing_key="a.b", records=[RECORD])
    for name, limit, error in (
        ("TOPICS_MAX", 1, PreconditionFailed),
        ("RECORDS_MAX", 1, MessageTooLarge),
        ("BYTES_MAX", 2 * request.ByteSize() - 1, MessageTooLarge),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(f"raftmq.broker.publishing.{name}", limit)
            assert type(await refusal(node.exchanges.Publish(request))) is error
    assert node.host.produced == []
    assert len((await node.exchanges.Publish(request)).results) == 2


def test_counts_are_bounded_however_many_exchanges_there_are() -> None:
    counts = RoutingCounts()
    for number in range(COUNTED_MAX + 5):
        counts.of(str(number)).published += 1
    counts.of("0").published += 1
    seen = counts.snapshot()
    assert (len(seen), seen["0"].published, seen[OTHERS].published) == (COUNTED_MAX + 1, 2, 5)
