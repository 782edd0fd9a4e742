"""Forwarded calls, and the question who somebody is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from raftmq.errors import OffsetOutOfRange, Outcome, Unavailable
from raftmq.ids import NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.rpc.server import PeerServer

from .nodes import CLUSTER, PATIENCE_S, Node, info
from .relay import Relay

TWO = NodeId(2)
REQUEST = peer_pb2.ForwardRequest(cluster_id=CLUSTER, from_node=1, request=b"question")


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[tuple[Node, Node]]:
    one, two = await Node(1).start(), await Node(2).start()
    one.transport.set_peers({TWO: ("127.0.0.1", two.port)})
    yield one, two
    await one.stop()
    await two.stop()


async def test_a_forwarded_call_is_answered(pair: tuple[Node, Node]) -> None:
    response = await pair[0].transport.forward(TWO, REQUEST, PATIENCE_S)
    assert response.response == b"question"


async def test_a_node_without_an_address_gets_nothing(pair: tuple[Node, Node]) -> None:
    with pytest.raises(Unavailable) as raised:
        await pair[0].transport.forward(NodeId(9), REQUEST, PATIENCE_S)
    assert raised.value.outcome is Outcome.NOT_APPLIED


async def test_without_a_connection_the_call_surely_did_nothing(pair: tuple[Node, Node]) -> None:
    one, two = pair
    await two.stop()
    with pytest.raises(Unavailable) as raised:
        await one.transport.forward(TWO, REQUEST, PATIENCE_S)
    assert raised.value.outcome is Outcome.NOT_APPLIED


async def test_calls_work_again_after_the_peer_restarted(pair: tuple[Node, Node]) -> None:
    """What fails meanwhile fails as NOT_APPLIED, or as a bare status where the end was not noticed yet."""
    one, two = pair
    await one.transport.forward(TWO, REQUEST, PATIENCE_S)
    await two.stop()
    with pytest.raises((Unavailable, aio.AioRpcError)):
        await one.transport.forward(TWO, REQUEST, PATIENCE_S)
    await two.start()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                response = await one.transport.forward(TWO, REQUEST, PATIENCE_S)
                break
            except (Unavailable, aio.AioRpcError):
                await asyncio.sleep(0)
    assert response.response == b"question"


async def test_a_silent_address_is_unavailable_in_time(pair: tuple[Node, Node]) -> None:
    one, two = pair
    relay = await Relay(two.port).start()
    relay.backward.clear()
    one.transport.set_peers({TWO: ("127.0.0.1", relay.port)})
    with pytest.raises(Unavailable) as raised:
        await one.transport.forward(TWO, REQUEST, timeout_s=0.05)
    assert raised.value.outcome is Outcome.NOT_APPLIED
    await relay.close()


async def test_a_call_for_another_cluster_is_refused(pair: tuple[Node, Node]) -> None:
    request = peer_pb2.ForwardRequest(cluster_id="cluster-b", request=b"question")
    with pytest.raises(aio.AioRpcError) as raised:
        await pair[0].transport.forward(TWO, request, PATIENCE_S)
    trailers = dict(cast("Iterable[tuple[str, str]]", raised.value.trailing_metadata()))
    assert trailers["raftmq-reason"] == "NOT_READY"
    assert trailers["raftmq-outcome"] == "NOT_APPLIED"


async def stubborn(request: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
    """Refuses, never answers, or answers: as the request wants."""
    if request.request == b"refuse":
        raise OffsetOutOfRange("too far", field="offset")
    if request.request == b"hang":
        await asyncio.Event().wait()
    return peer_pb2.ForwardResponse()


async def test_the_answer_of_the_other_node_comes_as_it_is() -> None:
    """Its trailers say what became of the request, and without them nobody knows; this layer does not judge."""

    def ask(what: bytes, timeout_s: float) -> Awaitable[peer_pb2.ForwardResponse]:
        request = peer_pb2.ForwardRequest(cluster_id=CLUSTER, request=what)
        return one.transport.forward(TWO, request, timeout_s)

    one = await Node(1).start()
    server = PeerServer("127.0.0.1:0", info(2), CLUSTER, one.recorder, stubborn, one.identify, one.send_snapshot)
    one.transport.set_peers({TWO: ("127.0.0.1", await server.start())})
    with pytest.raises(aio.AioRpcError) as raised:
        await ask(b"refuse", PATIENCE_S)
    assert raised.value.code() is grpc.StatusCode.OUT_OF_RANGE
    trailers: Any = raised.value.trailing_metadata()
    assert dict(trailers)["raftmq-outcome"] == "NOT_APPLIED"
    with pytest.raises(aio.AioRpcError) as raised:
        await ask(b"hang", 0.2)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await server.close()
    await one.stop()


async def test_a_node_says_who_it_is(pair: tuple[Node, Node]) -> None:
    one, two = pair
    request = peer_pb2.IdentifyRequest(cluster_name="any", seed_digest=b"digest")
    response = await one.transport.identify("127.0.0.1", two.port, request, PATIENCE_S)
    assert (response.me.node, response.seed_digest) == (2, b"digest")


async def test_nobody_there_is_unavailable(pair: tuple[Node, Node]) -> None:
    one, two = pair
    await two.stop()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{two.port}"):
        await one.transport.identify("127.0.0.1", two.port, peer_pb2.IdentifyRequest(), PATIENCE_S)
