"""What is refused before anybody looks at a request: too large, too many, too slow, unknown; for every method alike."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio

from raftmq import status
from raftmq.broker.forwarding import error_of
from raftmq.errors import DeadlineExceeded, InvalidArgument, MessageTooLarge, Outcome, Overloaded, Unimplemented
from raftmq.rpc.interceptor import CallCounts, CallInterceptor, CallLimits
from raftmq.rpc.options import MAX_MESSAGE_BYTES
from raftmq.v1 import broker_pb2, types_pb2
from tests.hostile.node import METHODS, PATIENCE_S, TOPIC, Node

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
LIMIT = 16 * 2**20
"""What a node takes by default."""


# -- a real node: every method of both listeners ----------------------------------------------------------------------

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_message_above_the_limit_says_so(node: Node, method: str) -> None:
    """The peers' listener takes whatever a client may send, and what goes around it; gRPC's own refusal is bare."""
    is_peer = "/raftmq.internal." in method
    with node.unchanged():
        error = node.call(method, [bytes(MAX_MESSAGE_BYTES + 1 if is_peer else LIMIT + 1)]).error
    assert type(error) is MessageTooLarge
    assert is_peer or (error.outcome, str(LIMIT) in error.message) == (Outcome.NOT_APPLIED, True)


@pytest.mark.parametrize("method", ["/raftmq.v1.Broker/Nothing", "/raftmq.internal.v1.Peer/Nothing", "/a.b/C", "/x"])
def test_an_unknown_method_says_so(node: Node, method: str) -> None:
    with node.unchanged():
        error = node.call(method, [b""]).error
    assert (type(error), error and error.outcome) == (Unimplemented, Outcome.NOT_APPLIED)


def test_a_bomb_is_measured_as_it_will_be(node: Node) -> None:
    """64 MiB of zeros are 64 KiB on the wire."""
    before = node.memory_mib()
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        with node.unchanged():
            error = node.call("/raftmq.v1.Broker/Produce", [bytes(64 * 2**20)], compression=compression).error
        assert type(error) is MessageTooLarge
    assert node.memory_mib() - before < 3 * 2 * LIMIT // 2**20


def test_too_much_metadata_is_refused_by_the_library(node: Node) -> None:
    """It never reaches the node, so that there are no trailers: the outcome is told as unknown."""
    with node.unchanged():
        error = node.call("/raftmq.v1.Broker/GetServerInfo", [b""], metadata=[("x", "y" * 20_000)]).error
    assert error is not None
    assert (error.code, status.is_bare(error)) == ("RESOURCE_EXHAUSTED", True)


@pytest.mark.parametrize("timeout", [1e-9, 1e6, 1e9])
def test_absurd_deadlines_are_clamped(node: Node, timeout: float) -> None:
    fetch = broker_pb2.FetchRequest(topic=TOPIC, partition=0, offset=0)
    fetch.max_wait.FromSeconds(1)
    with node.unchanged():
        error = node.call("/raftmq.v1.Broker/Fetch", [fetch.SerializeToString()], timeout=timeout).error
    assert (error is None) == (timeout > 1)


def test_streams_that_say_nothing_more_hold_nobody_up(node: Node) -> None:
    """Opened, begun and left: without an end of the client's side, for as long as its connection lives."""
    ends = threading.Event()

    def forever(first: bytes) -> Iterator[bytes]:
        yield first
        ends.wait(PATIENCE_S)

    subscription = broker_pb2.Subscription(topic=TOPIC, partition=0, offset=0)
    firsts = {
        "/raftmq.v1.Broker/Subscribe": broker_pb2.SubscribeRequest(subscription=subscription).SerializeToString(),
        "/raftmq.v1.Broker/ProduceStream": b"",
    }
    before = node.memory_mib()
    with node.connection() as channel:
        with node.unchanged():
            calls = [
                channel.stream_stream(method)(forever(first), timeout=PATIENCE_S)
                for method, first in firsts.items()
                for _ in range(50)
            ]
        assert node.memory_mib() - before < 32
        ends.set()
        for call in calls:
            call.cancel()


def test_a_subscriber_that_reads_nothing_costs_no_more_than_its_window(node: Node) -> None:
    """It grants a gibibyte of credit for 32 MiB of records, and takes one answer."""
    record = types_pb2.Record(value=bytes(900 * 1024))
    for _ in range(36):
        produce = broker_pb2.ProduceRequest(topic="canary", partition=1, records=[record])
        node.broker.Produce(produce, timeout=PATIENCE_S)
    subscription = broker_pb2.Subscription(topic="canary", partition=1, offset=0)
    request = broker_pb2.SubscribeRequest(subscription=subscription, records=2**63, bytes=2**30).SerializeToString()
    before = node.memory_mib()
    ends = threading.Event()

    def requests() -> Iterator[bytes]:
        yield request
        ends.wait(PATIENCE_S)

    with node.connection() as channel:
        calls = [
            channel.stream_stream("/raftmq.v1.Broker/Subscribe")(requests(), timeout=PATIENCE_S) for _ in range(10)
        ]
        assert all(next(iter(call)) for call in calls)
        node.canary()
        assert node.memory_mib() - before < 10 * 8
        ends.set()
        for call in calls:
            call.cancel()


# -- a listener of the test's own: limits so low that they are reached ------------------------------------------------


@asynccontextmanager
async def listening(kind: str, limits: CallLimits, behaviour: Any) -> AsyncIterator[tuple[Any, CallInterceptor]]:
    """A method of one kind, behind the interceptor."""
    interceptor = CallInterceptor(CallCounts(), limits)
    server = aio.server(interceptors=(interceptor,))
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(behaviour)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", {"M": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, interceptor
    await server.stop(None)


async def refused(call: Any) -> Any:
    """The error that a stream of the client ends in."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call.read()
    return error_of(caught.value)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0)


async def hold(_request: object, _context: object) -> bytes:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def take_all(requests: AsyncIterator[bytes], _context: object) -> bytes:
    async for _ in requests:
        continue
    return b""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_too_many_is_told_when_to_come_back(kind: str) -> None:
    async with listening(kind, CallLimits(1024, calls=1), hold) as (channel, interceptor):
        held = channel.stream_stream("/x.Y/M")()
        await held.write(b"")
        await until(lambda: interceptor.under_way == 1)
        error = await refused(channel.stream_stream("/x.Y/M")(iter([b""])))
        assert (type(error), error.outcome, error.retry_after_ms > 0) == (Overloaded, Outcome.NOT_APPLIED, True)
        held.cancel()
        await until(lambda: interceptor.under_way == 0)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_request_that_does_not_come_is_waited_for_so_long_only(kind: str) -> None:
    async with listening(kind, CallLimits(1024, arrival_s=0.01), hold) as (channel, interceptor):
        error = await refused(channel.stream_stream("/x.Y/M")())
        assert (type(error), error.outcome) == (DeadlineExceeded, Outcome.NOT_APPLIED)
        assert interceptor.under_way == 0


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_call_without_a_request_is_refused(kind: str) -> None:
    async with listening(kind, CallLimits(1024), hold) as (channel, _):
        call = channel.stream_stream("/x.Y/M")()
        await call.done_writing()
        error = await refused(call)
        assert (type(error), error.outcome) == (InvalidArgument, Outcome.NOT_APPLIED)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_is_measured(kind: str) -> None:
    behaviour = take_all if kind.startswith("stream") else hold
    async with listening(kind, CallLimits(1024), behaviour) as (channel, _):
        call = channel.stream_stream("/x.Y/M")()
        await call.write(bytes(1025))
        error = await refused(call)
        assert (type(error), error.outcome) == (MessageTooLarge, Outcome.NOT_APPLIED)
        assert "1024" in error.message
