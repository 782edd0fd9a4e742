"""Subscribe: pushed in order and without a gap, within what the client has granted, by any node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from grpc.aio import EOF  # type: ignore[attr-defined]

from raftmq.broker.subscribing import METHOD as FETCH
from raftmq.errors import (
    InvalidArgument,
    NoLeader,
    NotLeader,
    OffsetOutOfRange,
    RaftmqError,
    ShuttingDown,
    UnknownPartition,
    UnknownTopic,
)
from raftmq.ids import GroupId, NodeId
from raftmq.records.batch import decode_records, make_batch
from raftmq.v1 import broker_pb2, types_pb2
from tests.broker.cluster import Node, open_streams, refusal
from tests.broker.fakes import FakeHost

METHOD = "/raftmq.v1.Broker/Subscribe"
Request = broker_pb2.SubscribeRequest
PLENTY = 2**40


@pytest.fixture(autouse=True)
def long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    original = FakeHost.__init__

    def patient(host: FakeHost, me: int, leaders: dict[int, int]) -> None:
        original(host, me, leaders)
        host.polls = True

    monkeypatch.setattr(FakeHost, "__init__", patient)


def opened(node: Node) -> Any:
    """A stream to write to and read from. (Its stubs demand an iterator of requests, gRPC does not.)"""
    return cast(Any, node.broker.Subscribe)()


def subscription(partition: int = 0, offset: int = 0, *, no_forward: bool = False) -> broker_pb2.Subscription:
    return broker_pb2.Subscription(topic="orders", partition=partition, offset=offset, no_forward=no_forward)


async def fill(node: Node, batches: int, *, size: int = 3, partition: int = 0, padding: int = 0) -> None:
    """So many batches of so many records."""
    for number in range(batches):
        records = [types_pb2.Record(value=b"%d.%d" % (number, place) + bytes(padding)) for place in range(size)]
        request = broker_pb2.ProduceRequest(topic="orders", partition=partition, batch=make_batch(records))
        await node.broker.Produce(request)


async def take(call: Any, batches: int) -> list[types_pb2.StoredBatch]:
    """The next batches, which must follow each other."""
    taken: list[types_pb2.StoredBatch] = []
    while len(taken) < batches:
        answer = await call.read()
        assert isinstance(answer, broker_pb2.SubscribeResponse)
        assert answer.next_offset == answer.batches[-1].base_offset + answer.batches[-1].header.count
        taken += answer.batches
    assert len(taken) == batches
    return taken


def offsets(batches: Sequence[types_pb2.StoredBatch]) -> list[int]:
    return [batch.base_offset for batch in batches]


async def nothing_comes(node: Node, call: Any, asked: int) -> None:
    """The server asks its log no more: it waits for credit."""
    for _ in range(3):
        await node.broker.GetServerInfo(broker_pb2.GetServerInfoRequest())
    assert len(node.host.asked) == asked
    assert not call.done()


def test_an_answer_is_a_fetch_response_under_another_name() -> None:
    """Its bytes are sent as such."""
    fields = [
        [(field.number, field.name, field.type, field.is_repeated) for field in message.DESCRIPTOR.fields]
        for message in (broker_pb2.FetchResponse, broker_pb2.SubscribeResponse)
    ]
    assert fields[0] == fields[1]


async def test_batches_are_pushed_as_they_become_visible(node: Node) -> None:
    await fill(node, 2)
    call = opened(node)
    await call.write(Request(subscription=subscription(), records=PLENTY, bytes=PLENTY))
    first = await take(call, 2)
    assert [record.value for record in decode_records(first[0].header, first[0].records)] == [b"0.0", b"0.1", b"0.2"]
    for number in range(3):
        await fill(node, 1)
        assert offsets(await take(call, 1)) == [6 + 3 * number]
    call.cancel()


async def test_it_begins_with_the_batch_that_holds_the_offset(node: Node) -> None:
    await fill(node, 3)
    call = opened(node)
    await call.write(Request(subscription=subscription(offset=4), records=PLENTY, bytes=PLENTY))
    assert offsets(await take(call, 2)) == [3, 6]
    call.cancel()


async def test_credit_in_records_is_added_up_and_used_up(node: Node) -> None:
    await fill(node, 10)
    call = opened(node)
    await call.write(Request(subscription=subscription(), records=4, bytes=PLENTY))
    assert offsets(await take(call, 2)) == [0, 3]  # 4, 1, -2
    await nothing_comes(node, call, asked=1)
    await call.write(Request(records=2))  # 0
    await call.write(Request(records=1))  # 1, -2
    assert offsets(await take(call, 1)) == [6]
    await call.write(Request(records=9))  # 7, 4, 1, -2
    assert offsets(await take(call, 3)) == [9, 12, 15]
    call.cancel()


async def test_credit_in_bytes_too(node: Node) -> None:
    await fill(node, 10, size=1, padding=100)
    size = len(make_batch([types_pb2.Record(value=b"0.0" + bytes(100))]).records)
    call = opened(node)
    await call.write(Request(subscription=subscription(), records=PLENTY, bytes=2 * size + 1))
    assert offsets(await take(call, 3)) == [0, 1, 2]
    await call.write(Request(bytes=size - 1))  # 0
    await call.write(Request(bytes=1))
    assert offsets(await take(call, 1)) == [3]
    call.cancel()


async def test_a_batch_larger_than_any_grant_comes_through(node: Node) -> None:
    await fill(node, 2, size=1000, padding=100)
    call = opened(node)
    await call.write(Request(subscription=subscription(), records=1, bytes=1))
    [batch] = await take(call, 1)
    assert batch.header.count == 1000
    assert len(batch.records) > 100_000
    await nothing_comes(node, call, asked=1)
    await call.write(Request(records=1000, bytes=len(batch.records)))
    assert offsets(await take(call, 1)) == [1000]
    call.cancel()


@pytest.mark.parametrize("credit", [{}, {"records": 5}, {"bytes": 5}])
async def test_without_credit_of_both_kinds_nothing_is_sent(node: Node, credit: dict[str, int]) -> None:
    await fill(node, 1)
    call = opened(node)
    await call.write(Request(subscription=subscription(), **credit))
    await nothing_comes(node, call, asked=0)
    call.cancel()


async def test_credit_has_a_ceiling_instead_of_an_overflow(node: Node) -> None:
    await fill(node, 1)
    call = opened(node)
    most = 2**64 - 1
    await call.write(Request(subscription=subscription(), records=most, bytes=most))
    await call.write(Request(records=most, bytes=most))
    assert offsets(await take(call, 1)) == [0]
    call.cancel()


async def test_who_closes_their_side_gets_what_they_have_credit_for(node: Node) -> None:
    await fill(node, 5)
    call = opened(node)
    await call.write(Request(subscription=subscription(), records=6, bytes=PLENTY))
    await call.done_writing()
    assert offsets(await take(call, 2)) == [0, 3]
    assert await call.read() is EOF
    assert node.server.counts.snapshot()[METHOD, "OK"] == 1


async def test_an_empty_stream_ends_well(node: Node) -> None:
    call = opened(node)
    await call.done_writing()
    assert await call.read() is EOF


REFUSED = [
    (Request(), InvalidArgument, "subscription"),
    (Request(records=1, bytes=1), InvalidArgument, "subscription"),
    (broker_pb2.Subscription(), InvalidArgument, "subscription.topic"),
    (broker_pb2.Subscription(topic="nope", partition=0, offset=0), UnknownTopic, "subscription.topic"),
    (broker_pb2.Subscription(topic="orders", offset=0), InvalidArgument, "subscription.partition"),
    (broker_pb2.Subscription(topic="orders", partition=7, offset=0), UnknownPartition, "subscription.partition"),
    (broker_pb2.Subscription(topic="orders", partition=0), InvalidArgument, "subscription.offset"),
    (broker_pb2.Subscription(topic="orders", partition=0, offset=2**63), InvalidArgument, "subscription.offset"),
    (
        broker_pb2.Subscription(topic="orders", partition=0, offset=0, isolation=7),  # type: ignore[arg-type]
        InvalidArgument,
        "subscription.isolation",
    ),
]


@pytest.mark.parametrize(("wrong", "kind", "field"), REFUSED)
async def test_what_cannot_be_subscribed_to_is_refused_with_the_field(
    node: Node, wrong: Request | broker_pb2.Subscription, kind: type[RaftmqError], field: str
) -> None:
    request = wrong if isinstance(wrong, Request) else Request(subscription=wrong, records=1, bytes=1)
    error = await refusal(node.broker.Subscribe(iter([request])).read())
    assert (type(error), error.field) == (kind, field)
    assert node.host.asked == []


async def test_a_second_subscription_ends_the_stream(node: Node) -> None:
    call = opened(node)
    await call.write(Request(subscription=subscription(), records=1, bytes=1))
    await call.write(Request(subscription=subscription()))
    error = await refusal(call.read())
    assert (type(error), error.field) == (InvalidArgument, "subscription")


async def test_bytes_that_are_no_message_end_the_stream(node: Node) -> None:
    raw = node.channel.stream_stream(METHOD, request_serializer=None, response_deserializer=None)
    first = Request(subscription=subscription(), records=1, bytes=1).SerializeToString()
    error = await refusal(raw(iter([first, b"\xff"])).read())
    assert type(error) is InvalidArgument


async def test_an_offset_that_is_out_of_range_ends_it_with_the_bounds(node: Node) -> None:
    node.host.errors = [OffsetOutOfRange("gone", field="offset", metadata={"log_start_offset": "7"})]
    error = await refusal(
        node.broker.Subscribe(iter([Request(subscription=subscription(), records=1, bytes=1)])).read()
    )
    assert (type(error), error.field, error.metadata) == (
        OffsetOutOfRange, "subscription.offset", {"log_start_offset": "7"},
    )  # fmt: skip


async def test_a_node_that_does_not_lead_asks_the_one_that_does(pair: tuple[Node, Node]) -> None:
    first, second = pair
    await fill(second, 3, partition=1)
    call = opened(first)
    await call.write(Request(subscription=subscription(partition=1), records=PLENTY, bytes=PLENTY))
    answer = await call.read()
    assert isinstance(answer, broker_pb2.SubscribeResponse)
    assert (offsets(answer.batches), answer.header.node_id) == ([0, 3, 6], 2)
    assert {hop[:2] for hop in first.hops} == {(2, FETCH)}
    call.cancel()


async def test_it_goes_on_under_the_next_leader(pair: tuple[Node, Node]) -> None:
    first, second = pair
    await fill(first, 2)
    call = opened(first)
    await call.write(Request(subscription=subscription(), records=PLENTY, bytes=PLENTY))
    assert offsets(await take(call, 2)) == [0, 3]
    second.host.logs[GroupId(1)] = list(first.host.logs[GroupId(1)])
    for node in pair:
        node.host.leaders[GroupId(1)] = NodeId(2)
    first.host.news.set()
    await fill(second, 1)
    assert offsets(await take(call, 1)) == [6]
    call.cancel()


async def test_or_ends_with_the_next_leaders_name_where_it_must_not_be_forwarded(node: Node) -> None:
    """Leadership is lost first; who leads next is known a moment later."""
    await fill(node, 1)
    call = opened(node)
    await call.write(Request(subscription=subscription(no_forward=True), records=PLENTY, bytes=PLENTY))
    assert offsets(await take(call, 1)) == [0]
    looked = 0

    def elect(group: GroupId) -> None:
        nonlocal looked
        looked += 1
        if looked == 2:
            node.host.leaders[group] = NodeId(3)

    del node.host.leaders[GroupId(1)]
    node.host.on_leader_asked = elect
    node.host.news.set()
    error = await refusal(call.read())
    assert type(error) is NotLeader
    assert (error.metadata["leader_node"], error.metadata["leader_epoch"]) == ("3", "7")
    assert looked == 2


async def test_or_with_no_leader_where_nobody_leads(node: Node) -> None:
    node.host.leaders.clear()
    request = Request(subscription=subscription(no_forward=True), records=1, bytes=1)
    error = await refusal(node.broker.Subscribe(iter([request])).read())
    assert type(error) is NoLeader


async def test_a_node_that_stops_ends_it_at_once(node: Node) -> None:
    await fill(node, 1)
    idle = opened(node)
    await idle.write(Request(subscription=subscription(), records=PLENTY, bytes=PLENTY))
    await take(idle, 1)
    without_credit = opened(node)
    await without_credit.write(Request(subscription=subscription()))
    silent = opened(node)
    await open_streams(node, 3)
    stopping = asyncio.create_task(node.server.stop(600))
    for call in (idle, without_credit, silent):
        assert type(await refusal(call.read())) is ShuttingDown
    await stopping


async def test_nothing_is_left_of_a_client_that_goes(node: Node) -> None:
    call = opened(node)
    await call.write(Request(subscription=subscription(), records=1, bytes=1))
    await node.host.waiting.wait()
    call.cancel()
    await open_streams(node, 0)
    assert node.host.watchers == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "subscribe-credit"]
    assert (METHOD, "OK") not in node.server.counts.snapshot()
