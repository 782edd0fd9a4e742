"""ProduceStream: pipelined, a result for each batch as it is settled, and nothing that a batch does ends the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest
from grpc import aio
from structlog.testing import capture_logs

from raftmq import status
from raftmq.broker import produce_stream
from raftmq.errors import (
    InvalidArgument,
    NoLeader,
    NotEnoughReplicas,
    NotLeader,
    Outcome,
    RaftmqError,
    ShuttingDown,
    Unavailable,
    UnknownPartition,
    UnknownTopic,
)
from raftmq.ids import GroupId, LogIndex, NodeId, Offset, Term
from raftmq.records.batch import make_batch
from raftmq.replica.waits import Ack
from raftmq.v1 import broker_pb2, types_pb2
from tests.broker.cluster import Node, open_streams, refusal, running

METHOD = "/raftmq.v1.Broker/ProduceStream"
Request = broker_pb2.ProduceStreamRequest
Response = broker_pb2.ProduceStreamResponse


def produce(value: bytes = b"v", *, topic: str = "orders", partition: int = 0) -> broker_pb2.ProduceRequest:
    return broker_pb2.ProduceRequest(
        topic=topic, partition=partition, batch=make_batch([types_pb2.Record(value=value)])
    )


def requests(*produces: broker_pb2.ProduceRequest) -> list[Request]:
    return [Request(correlation_id=100 + n, produce=one) for n, one in enumerate(produces)]


async def results(node: Node, asked: Iterable[Request]) -> dict[int, Response]:
    """Everything that comes back, by correlation id; the stream must end well."""
    found: dict[int, Response] = {}
    async for response in node.broker.ProduceStream(iter(asked)):
        assert response.correlation_id not in found
        found[response.correlation_id] = response
    return found


def opened(node: Node) -> Any:
    """A stream to write to and read from. (Its stubs demand an iterator of requests, gRPC does not.)"""
    return cast(Any, node.broker.ProduceStream)()


def error_in(response: Response) -> RaftmqError:
    assert response.WhichOneof("result") == "error", response
    return status.from_message(response.error)


async def test_every_batch_has_its_receipt_and_partitions_keep_the_order(node: Node) -> None:
    found = await results(node, requests(*(produce(b"%d" % n, partition=n % 2 * 2) for n in range(50))))
    assert sorted(found) == list(range(100, 150))
    for n in range(50):
        receipt = found[100 + n].response.receipt
        assert (receipt.partition, receipt.base_offset, receipt.count) == (n % 2 * 2, n // 2, 1)


async def test_a_stream_without_requests_ends_well(node: Node) -> None:
    assert await results(node, []) == {}
    assert node.server.counts.snapshot() == {(METHOD, "OK"): 1}


async def test_bad_batches_are_results_and_their_neighbours_are_appended(node: Node) -> None:
    wrong = produce()
    wrong.batch.header.crc32c ^= 1
    bad = [
        (wrong, "CORRUPT_BATCH", "batch.header.crc32c"),
        (produce(topic=""), "INVALID_ARGUMENT", "topic"),
        (produce(partition=9), "UNKNOWN_PARTITION", "partition"),
        (broker_pb2.ProduceRequest(), "INVALID_ARGUMENT", "topic"),
        (produce(bytes(5000), topic="single"), "MESSAGE_TOO_LARGE", "batch"),
    ]
    asked = [one for case in bad for one in (produce(), case[0])]
    found = await results(node, [*requests(*asked), Request(correlation_id=1)])
    for n, (_, reason, field) in enumerate(bad):
        assert found[100 + 2 * n].response.receipt.base_offset == n
        error = error_in(found[101 + 2 * n])
        assert (error.reason, error.field, error.outcome) == (reason, field, Outcome.NOT_APPLIED)
    assert error_in(found[1]).field == "topic", "a message without a request is a request for nothing"
    assert len(node.host.produced) == len(bad)


async def test_an_unknown_topic_is_a_result_after_the_news_did_not_come(node: Node) -> None:
    found = await results(node, requests(produce(topic="nope"), produce()))
    assert type(error_in(found[100])) is UnknownTopic
    assert found[101].response.receipt.count == 1


@pytest.mark.parametrize(
    "error",
    [
        NotEnoughReplicas("1 of 2", metadata={"in_sync": "1"}, retry_after_ms=70),
        NotLeader("node 2 leads", metadata={"leader_node": "2", "leader_epoch": "8"}),
        Unavailable("later", outcome=Outcome.UNKNOWN),
    ],
)
async def test_what_the_leader_refuses_is_told_whole(node: Node, error: RaftmqError) -> None:
    node.host.errors = [error]
    found = await results(node, requests(produce(), produce()))
    told = error_in(found[100])
    assert type(told) is type(error)
    assert (told.message, told.outcome, told.metadata, told.retry_after_ms) == (
        error.message, error.outcome, error.metadata, error.retry_after_ms,
    )  # fmt: skip
    assert found[101].response.receipt.base_offset == 0


async def test_a_bug_is_told_by_its_id_and_the_stream_goes_on(node: Node) -> None:
    node.host.errors = [KeyError("inside")]
    with capture_logs() as logs:
        found = await results(node, requests(produce(), produce()))
    error = error_in(found[100])
    [logged] = logs
    assert (error.reason, error.outcome) == ("INTERNAL", Outcome.UNKNOWN)
    assert logged["error_id"] in error.message
    assert "inside" not in error.message
    assert found[101].response.receipt.count == 1


async def test_batches_for_other_leaders_are_handed_on_one_by_one(pair: tuple[Node, Node]) -> None:
    first, second = pair
    found = await results(first, requests(*(produce(partition=n % 2) for n in range(6))))
    assert [found[100 + n].response.header.node_id for n in range(6)] == [1, 2] * 3
    assert len(first.hops) == len(second.host.produced) == len(first.host.produced) == 3


async def test_who_must_not_be_forwarded_learns_who_leads(pair: tuple[Node, Node]) -> None:
    asked = produce(partition=1)
    asked.no_forward = True
    error = error_in((await results(pair[0], requests(asked)))[100])
    assert (type(error), error.metadata["leader_node"]) == (NotLeader, "2")
    assert pair[0].hops == []


async def test_nothing_waits_for_a_leader_because_what_follows_would_overtake_it() -> None:
    async with running(1, leaders={0: 1, 1: 1}) as [node]:
        found = await results(node, requests(produce(partition=2), produce()))
        assert type(error_in(found[100])) is NoLeader
        assert found[101].response.receipt.count == 1


async def test_results_come_as_batches_are_settled_not_as_they_were_sent(node: Node) -> None:
    original = node.host.produce
    held = asyncio.Event()

    async def slow(group: GroupId, *rest: object) -> object:
        if group == 1:
            await held.wait()
        return await original(group, *rest)  # type: ignore[arg-type]

    node.host.produce = slow  # type: ignore[method-assign, assignment]
    call = node.broker.ProduceStream(iter(requests(produce(partition=0), produce(partition=2))))
    first = await anext(aiter(call))
    assert first.correlation_id == 101
    held.set()
    assert (await anext(aiter(call))).correlation_id == 100


@pytest.mark.parametrize(
    ("count", "size", "most"),
    [
        (500, 10, produce_stream.IN_FLIGHT_MAX),
        (60, 1024 * 1024 - 1000, produce_stream.IN_FLIGHT_BYTES_MAX // (1024 * 1024 - 1000)),
    ],
)
async def test_what_is_in_flight_is_bounded_in_batches_and_bytes(
    node: Node, count: int, size: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request is not read before there is room, however much the client has sent."""
    original = node.host.produce
    held, full = asyncio.Event(), asyncio.Event()
    under_way, peak = 0, 0

    async def slow(*args: object) -> object:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        if under_way == most:
            full.set()
        await held.wait()
        under_way -= 1
        return await original(*args)  # type: ignore[arg-type]

    node.host.produce = slow  # type: ignore[method-assign, assignment]

    async def release() -> None:
        await full.wait()
        # Other calls get through meanwhile: the bound is each stream's own, and the loop is not starved.
        await node.broker.GetServerInfo(broker_pb2.GetServerInfoRequest())
        assert under_way == most
        held.set()

    found, _ = await asyncio.gather(results(node, requests(*(produce(bytes(size)) for _ in range(count)))), release())
    assert len(found) == count
    assert peak == most


async def test_bytes_that_are_no_message_end_the_stream_after_the_results_of_what_came_before(node: Node) -> None:
    call: Any = node.channel.stream_stream(METHOD, request_serializer=None, response_deserializer=None)
    stream = call(iter([requests(produce())[0].SerializeToString(), b"\xff", b""]))
    first = await stream.read()
    assert Response.FromString(first).response.receipt.count == 1
    error = await refusal(stream.read())
    assert (type(error), error.outcome) == (InvalidArgument, Outcome.NOT_APPLIED)
    await results(node, requests(produce()))
    assert node.server.counts.snapshot() == {(METHOD, "INVALID_ARGUMENT"): 1, (METHOD, "OK"): 1}


async def test_a_node_that_stops_settles_what_is_under_way_and_ends_the_stream(node: Node) -> None:
    original = node.host.produce
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(*args: object) -> object:
        entered.set()
        await leave.wait()
        return await original(*args)  # type: ignore[arg-type]

    node.host.produce = slow  # type: ignore[method-assign, assignment]
    call = opened(node)
    await call.write(requests(produce())[0])
    await entered.wait()
    stopping = asyncio.create_task(node.server.stop(30))
    await asyncio.sleep(0)
    leave.set()
    answer = await call.read()
    assert isinstance(answer, Response)
    assert answer.response.receipt.count == 1
    error = await refusal(call.read())
    assert (type(error), error.retriable) == (ShuttingDown, True)
    await stopping


def plain(value: bytes = b"v") -> broker_pb2.ProduceRequest:
    return broker_pb2.ProduceRequest(topic="orders", partition=0, records=[types_pb2.Record(value=value)])


def settled(offset: int) -> Ack:
    return Ack(Offset(offset), 1, Term(3), LogIndex(9), 0, (NodeId(1), NodeId(2)), False, 0, 0, 0)


async def begun(node: Node, count: int) -> None:
    """Wait until the node has begun so many requests."""
    while len(node.host.begun) < count:
        await node.broker.GetServerInfo(broker_pb2.GetServerInfoRequest())


@pytest.mark.parametrize("joins", [False, True])
async def test_plain_records_are_begun_without_a_task_and_settled_results_share_a_message_if_asked_to(
    node: Node, joins: bool
) -> None:
    node.host.begins = True
    call = opened(node)
    for n in range(4):
        await call.write(Request(correlation_id=n, produce=plain(b"%d" % n), join_results=joins))
    await begun(node, 4)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "produce-stream-batch"]
    for offset, (_, done) in enumerate(node.host.begun):  # all in one pass of the loop
        done(NotEnoughReplicas("one only") if offset == 2 else settled(offset))
    messages = [await call.read() for _ in range(1 if joins else 4)]
    found = [one for message in messages for one in (message, *message.more)]
    assert [one.correlation_id for one in found] == [0, 1, 2, 3]
    assert [one.response.receipt.base_offset for one in found if one.HasField("response")] == [0, 1, 3]
    assert type(error_in(found[2])) is NotEnoughReplicas
    await call.done_writing()
    assert await call.read() is cast(Any, aio).EOF


async def test_nothing_is_begun_ahead_of_a_batch_that_has_a_task(node: Node) -> None:
    original = node.host.produce
    entered = asyncio.Semaphore(0)
    held = asyncio.Event()

    async def slow(*args: object) -> object:
        entered.release()
        await held.wait()
        return await original(*args)  # type: ignore[arg-type]

    node.host.produce = slow  # type: ignore[method-assign, assignment]
    node.host.begins = True
    call = opened(node)
    for n, one in enumerate((produce(b"first"), plain(b"second"))):
        await call.write(Request(correlation_id=n, produce=one))
        await entered.acquire()
    held.set()
    assert [(await call.read()).response.receipt.base_offset for _ in range(2)] == [0, 1]
    assert node.host.begun == []


async def test_a_client_that_goes_takes_its_waits_along(node: Node) -> None:
    node.host.stuck = True
    entered = asyncio.Event()
    node.host.on_leader_asked = lambda group: entered.set()
    call = opened(node)
    await call.write(requests(produce())[0])
    await entered.wait()
    call.cancel()
    await open_streams(node, 0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("produce-stream")]
    assert (METHOD, "OK") not in node.server.counts.snapshot()


def test_errors_in_answers_say_what_a_status_says() -> None:
    for error in [
        UnknownPartition("no", field="partition"),
        NotEnoughReplicas("é" * 400, retry_after_ms=1500, metadata={"in_sync": "1"}),
        Unavailable("?", outcome=Outcome.APPLIED),
    ]:
        wire = status.encode(error)
        by_status = status.decode(wire.code, wire.message, wire.trailers)
        by_message = status.from_message(types_pb2.Error.FromString(status.to_message(error).SerializeToString()))
        assert vars(by_message) == vars(by_status)
        assert type(by_message) is type(by_status) is type(error)


def test_an_error_of_a_later_version_is_the_general_one_of_its_code() -> None:
    later = types_pb2.Error(code=14, reason="TOO_MUCH_RAIN", message="wet")
    told = status.from_message(later)
    assert (type(told), told.outcome, told.metadata) == (Unavailable, Outcome.UNKNOWN, {"reason": "TOO_MUCH_RAIN"})
    assert type(status.from_message(types_pb2.Error(code=9999, reason="X"))) is RaftmqError
