"""The same hop as in production: a transport, a peer listener, and errors as statuses in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import pytest
from structlog.testing import capture_logs

from raftmq.broker import CallCounts, Calls, Forwarder
from raftmq.config.models import MESSAGE_BYTES_MAX
from raftmq.errors import (
    DeadlineExceeded,
    InternalError,
    LeadershipLost,
    MessageTooLarge,
    NotEnoughReplicas,
    Outcome,
    RaftmqError,
    Unavailable,
)
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, PeerInfo, SnapshotPart
from raftmq.records.batch import make_batch
from raftmq.rpc.server import PeerServer
from raftmq.rpc.transport import GrpcTransport
from raftmq.v1 import broker_pb2, types_pb2
from tests.broker.cluster import Node
from tests.broker.fakes import CLUSTER_ID
from tests.clock import LoopClock

PRODUCE = "/raftmq.v1.Broker/Produce"
FORWARD = "/raftmq.internal.v1.Peer/Forward"


class Deaf:
    """``Receiver`` that hears nothing: no frames are sent here."""

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None: ...
    def on_peer_up(self, node: NodeId, channel: Channel) -> None: ...
    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None: ...


def info(number: int) -> PeerInfo:
    return PeerInfo(NodeId(number), StoreId(100 + number), BootCount(1))


@asynccontextmanager
async def way_to(calls: Calls, counts: CallCounts) -> AsyncIterator[Forwarder]:
    """From node 2 to node 1, which answers with `calls`."""

    async def serve(call: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
        response = await calls.serve(call.method, call.request, call.remaining_ms or None, forwarded=True)
        return peer_pb2.ForwardResponse(response=response)

    async def identify(_request: peer_pb2.IdentifyRequest) -> peer_pb2.IdentifyResponse:
        return peer_pb2.IdentifyResponse()

    async def send_snapshot(_group: GroupId, _index: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        for part in list[SnapshotPart]():
            yield part

    peers = PeerServer("127.0.0.1:0", info(1), CLUSTER_ID, Deaf(), serve, identify, send_snapshot, counts)
    port = await peers.start()
    transport = GrpcTransport(info(2), CLUSTER_ID, Deaf(), Random(1))
    transport.set_peers({NodeId(1): ("127.0.0.1", port)})

    async def forward(node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes:
        call = peer_pb2.ForwardRequest(
            cluster_id=CLUSTER_ID, from_node=2, method=method, request=request, remaining_ms=remaining_ms
        )
        return (await transport.forward(node, call, remaining_ms / 1000)).response

    try:
        yield Forwarder(forward)
    finally:
        await transport.close()
        await peers.close()


def produce() -> bytes:
    batch = make_batch([types_pb2.Record(value=b"v")])
    return broker_pb2.ProduceRequest(topic="orders", partition=0, batch=batch).SerializeToString()


async def test_an_answer_comes_back_as_it_was_given(node: Node) -> None:
    counts = CallCounts()
    async with way_to(node.calls, counts) as forwarder:
        data = await forwarder(NodeId(1), PRODUCE, produce(), 10_000)
    assert broker_pb2.ProduceResponse.FromString(data).receipt.count == 1
    assert counts.snapshot()[FORWARD, "OK"] == 1


@pytest.mark.parametrize(
    "error",
    [
        NotEnoughReplicas("1 of 2", metadata={"in_sync": "1"}),
        LeadershipLost("gone"),
        DeadlineExceeded("late", outcome=Outcome.APPLIED, metadata={"base_offset": "4"}),
    ],
)
async def test_an_error_comes_back_with_its_outcome(node: Node, error: RaftmqError) -> None:
    node.host.errors = [error]
    async with way_to(node.calls, CallCounts()) as forwarder:
        with pytest.raises(type(error)) as caught:
            await forwarder(NodeId(1), PRODUCE, produce(), 10_000)
    told = caught.value
    assert (told.outcome, told.message, told.metadata) == (error.outcome, error.message, error.metadata)


async def test_a_bug_over_there_is_told_by_its_id(node: Node) -> None:
    node.host.errors = [KeyError("inside")]
    async with way_to(node.calls, CallCounts()) as forwarder:
        with capture_logs() as logs, pytest.raises(InternalError) as caught:
            await forwarder(NodeId(1), PRODUCE, produce(), 10_000)
    [logged] = [one for one in logs if "error_id" in one]
    assert logged["error_id"] in caught.value.message
    assert "inside" not in caught.value.message


async def test_a_node_that_hangs_answers_before_its_caller_gives_up(node: Node, clock: LoopClock) -> None:
    node.host.on_stuck = partial(clock.advance, 60)
    node.host.stuck = True
    counts = CallCounts()
    async with way_to(node.calls, counts) as forwarder:
        with pytest.raises(DeadlineExceeded) as caught:
            await forwarder(NodeId(1), PRODUCE, produce(), 60_000)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert counts.snapshot()[FORWARD, "DEADLINE_EXCEEDED"] == 1


async def test_a_node_without_an_address_was_sent_nothing(node: Node) -> None:
    async with way_to(node.calls, CallCounts()) as forwarder:
        with pytest.raises(Unavailable) as caught:
            await forwarder(NodeId(3), PRODUCE, produce(), 1_000)
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_what_a_client_may_send_comes_over_the_hop(node: Node) -> None:
    """The largest message that a configuration can allow, which other nodes take whatever theirs allows."""
    padding = types_pb2.Record(value=bytes(MESSAGE_BYTES_MAX - 100))
    request = broker_pb2.ProduceRequest(topic="orders", partition=0, records=[padding])
    body = request.SerializeToString()
    assert MESSAGE_BYTES_MAX - 200 < len(body) <= MESSAGE_BYTES_MAX
    async with way_to(node.calls, CallCounts()) as forward:
        with pytest.raises(MessageTooLarge) as refused:
            await forward(NodeId(1), PRODUCE, body, 60_000)
    assert (refused.value.outcome, refused.value.field) == (Outcome.NOT_APPLIED, "records"), (
        "the topic's limit, not gRPC's"
    )
