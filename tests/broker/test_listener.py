"""The listener's manners: errors with trailers, nothing from inside in them, limits, and an end in order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from raftmq import status
from raftmq.broker import CallCounts, ClientServer
from raftmq.errors import InternalError, MessageTooLarge, NotEnoughReplicas, Outcome, Overloaded, Unimplemented
from raftmq.ids import GroupId, LogIndex, Offset, Term
from raftmq.ports import BatchRow
from raftmq.records.batch import make_batch
from raftmq.rpc.interceptor import Context, guarded
from raftmq.v1 import broker_pb2, types_pb2
from tests.broker.cluster import MAX_MESSAGE_BYTES, Node, refusal

PRODUCE = "/raftmq.v1.Broker/Produce"
SECRET = "the password is swordfish"


def produce(size: int = 1) -> broker_pb2.ProduceRequest:
    return broker_pb2.ProduceRequest(
        topic="orders", partition=0, batch=make_batch([types_pb2.Record(value=bytes(size))])
    )


async def test_an_error_of_raftmq_arrives_whole(node: Node) -> None:
    node.host.errors = [NotEnoughReplicas("1 of 2", retry_after_ms=70, metadata={"in_sync": "1"})]
    error = await refusal(node.broker.Produce(produce()))
    assert type(error) is NotEnoughReplicas
    assert (error.message, error.retry_after_ms, error.metadata) == ("1 of 2", 70, {"in_sync": "1"})


async def test_a_bug_is_told_by_its_id_alone(node: Node) -> None:
    node.host.errors = [ValueError(SECRET)]
    with capture_logs() as logs:
        error = await refusal(node.broker.Produce(produce()))
    assert (type(error), error.outcome) == (InternalError, Outcome.UNKNOWN)
    assert SECRET not in repr((error.message, error.metadata))
    [logged] = logs
    assert logged["error_id"] in error.message
    assert SECRET in str(logged["exc_info"])
    await node.broker.Produce(produce())


async def test_a_timeout_inside_is_a_bug_and_not_a_deadline(node: Node) -> None:
    node.host.errors = [TimeoutError(SECRET)]
    with capture_logs():
        error = await refusal(node.broker.Produce(produce()))
    assert type(error) is InternalError


async def test_calls_are_counted_by_method_and_end(node: Node) -> None:
    node.host.errors = [NotEnoughReplicas("x"), NotEnoughReplicas("y")]
    for _ in range(2):
        await refusal(node.broker.Produce(produce()))
    await node.broker.Produce(produce())
    await node.broker.GetServerInfo(broker_pb2.GetServerInfoRequest())
    assert node.server.counts.snapshot() == {
        ("/raftmq.v1.Broker/GetServerInfo", "OK"): 1,
        (PRODUCE, "NOT_ENOUGH_REPLICAS"): 2,
        (PRODUCE, "OK"): 1,
    }


async def test_an_unknown_method_is_said_to_be_unimplemented(node: Node) -> None:
    call = node.channel.unary_unary("/raftmq.v1.Broker/Nothing", request_serializer=None, response_deserializer=None)
    error = await refusal(call(b""))
    assert (type(error), error.outcome) == (Unimplemented, Outcome.NOT_APPLIED)
    assert "/raftmq.v1.Broker/Nothing" in error.message
    assert node.server.counts.snapshot() == {("unknown", "UNIMPLEMENTED"): 1}


async def test_a_request_above_the_limit_is_refused_and_the_next_is_served(node: Node) -> None:
    error = await refusal(node.broker.Produce(produce(MAX_MESSAGE_BYTES)))
    assert type(error) is MessageTooLarge
    assert node.host.produced == []
    await node.broker.Produce(produce())


async def test_a_compressed_request_is_measured_as_it_will_be(node: Node) -> None:
    """Two mebibytes of zeros are two kilobytes on the wire."""
    error = await refusal(node.broker.Produce(produce(MAX_MESSAGE_BYTES), compression=grpc.Compression.Gzip))
    assert type(error) is MessageTooLarge
    await node.broker.Produce(produce())


async def test_an_answer_may_be_larger_than_any_request(node: Node) -> None:
    batch = BatchRow(Offset(0), 1, LogIndex(2), Term(7), 0, b"", bytes(3 * MAX_MESSAGE_BYTES))
    node.host.logs[GroupId(1)] = [batch]
    answer = await node.broker.Fetch(broker_pb2.FetchRequest(topic="orders", partition=0, offset=0))
    assert len(answer.batches[0].records) == 3 * MAX_MESSAGE_BYTES


async def test_too_many_calls_at_once_are_refused(node: Node) -> None:
    server = ClientServer("127.0.0.1:0", node.calls, max_message_bytes=MAX_MESSAGE_BYTES, max_concurrent_calls=1)
    port = await server.start()
    node.host.stuck = True
    entered = asyncio.Event()
    node.host.on_leader_asked = lambda group: entered.set()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(PRODUCE, request_serializer=None, response_deserializer=None)
        held = call(produce().SerializeToString())
        await entered.wait()
        error = await refusal(call(produce().SerializeToString()))
        held.cancel()
    await server.stop(0)
    assert type(error) is Overloaded


async def test_a_call_that_its_client_gave_up_is_ended_and_not_counted_as_an_error(node: Node) -> None:
    ended = asyncio.Event()

    async def behaviour(request: bytes, context: Context) -> bytes:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        return b""

    counts = CallCounts()
    task = asyncio.ensure_future(guarded("m", behaviour, counts)(b"", None))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert counts.snapshot() == {}


async def test_a_client_that_leaves_in_the_middle_of_an_answer_is_no_bug(node: Node) -> None:
    async def behaviour(request: bytes, context: Context) -> bytes:
        raise cast(Any, aio).InternalError("what writing raises")

    counts = CallCounts()
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await guarded("m", behaviour, counts)(b"", None)  # type: ignore[arg-type]
    assert (logs, counts.snapshot()) == ([], {})


async def test_a_taken_port_is_an_error(node: Node) -> None:
    first = ClientServer("127.0.0.1:0", node.calls, max_message_bytes=MAX_MESSAGE_BYTES)
    port = await first.start()
    second = ClientServer(f"127.0.0.1:{port}", node.calls, max_message_bytes=MAX_MESSAGE_BYTES)
    try:
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await second.start()
    finally:
        await first.stop(0)
        await first.stop(0)


async def test_a_call_under_way_may_end_while_the_listener_stops(node: Node) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    original = node.host.produce

    async def slow(*args: object) -> object:
        entered.set()
        await leave.wait()
        return await original(*args)  # type: ignore[arg-type]

    node.host.produce = slow  # type: ignore[method-assign, assignment]
    call = node.broker.Produce(produce())
    await entered.wait()
    stopping = asyncio.create_task(node.server.stop(30))
    await asyncio.sleep(0)
    leave.set()
    assert (await call).receipt.count == 1
    await stopping
    error = await refusal(node.broker.Produce(produce(), timeout=2))
    assert status.is_bare(error)
    assert [one.group for one in node.host.produced] == [GroupId(1)]


async def test_a_behaviour_that_yields_its_responses_is_guarded_too(node: Node) -> None:
    """As those of other libraries do: health, reflection."""
    watch: Any = node.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service="raftmq.v1.Broker"))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    await node.server.stop(5)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await watch.code() is grpc.StatusCode.OK
    assert node.server.counts.snapshot() == {("/grpc.health.v1.Health/Watch", "OK"): 1}
