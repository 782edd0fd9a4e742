"""The peer listener against peers that do not behave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from grpc import aio
from structlog.testing import capture_logs

from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Frame
from raftmq.rpc.codec import encode_frame
from raftmq.rpc.options import MAX_MESSAGE_BYTES, channel_options
from raftmq.rpc.peer_stream import BOOT_METADATA

from .nodes import CLUSTER, PATIENCE_S, Node, RawCall, append, heartbeat, hello, info, open_stream

REFUSED = grpc.StatusCode.FAILED_PRECONDITION


@pytest_asyncio.fixture
async def node() -> AsyncIterator[Node]:
    node = await Node(2).start()
    yield node
    await node.stop()


@pytest_asyncio.fixture
async def channel(node: Node) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(f"127.0.0.1:{node.port}", options=channel_options()) as channel:
        yield channel


def wire(frame: Frame) -> bytes:
    return b"".join(piece.data for piece in encode_frame(frame))


async def code(call: RawCall) -> grpc.StatusCode:
    """How a stream ended; fails where it does not end."""
    return await asyncio.wait_for(call.code(), PATIENCE_S)


async def accepted(channel: aio.Channel, greeting: bytes) -> RawCall:
    """A stream whose hello was accepted."""
    call = open_stream(channel)
    await call.write(greeting)
    assert dict(await call.initial_metadata())[BOOT_METADATA] == "1"
    return call


BAD_HELLOS = {
    "another cluster": (hello(cluster_id="cluster-b"), "another cluster"),
    "no cluster": (hello(cluster_id=""), "another cluster"),
    "another target": (hello(to_node=3), "this is node 2, not 3"),
    "itself": (hello(node=2), "this is node 2 too"),
    "another protocol": (hello(version=2), "protocol 2"),
    "no protocol": (hello(version=0), "protocol 0"),
    "no channel": (hello(channel=0), "channel 0"),
    "unknown channel": (hello(channel=7), "channel 7"),
    "no node": (hello(node=0), "0 is no node"),
    "node out of range": (hello(node=2**31), "is no node"),
    "no store": (hello(store=0), "store and boot"),
    "store out of range": (hello(store=2**63), "store and boot"),
    "no boot": (hello(boot=0), "store and boot"),
    "boot out of range": (hello(boot=2**63), "store and boot"),
    "a frame instead": (wire(heartbeat(1)), "begins with a hello"),
    "no frame": (b"\xff\xff", "Error parsing"),
    "nothing": (b"", "begins with a hello"),
}


@pytest.mark.parametrize("name", BAD_HELLOS)
async def test_a_wrong_hello_is_refused_with_a_reason(node: Node, channel: aio.Channel, name: str) -> None:
    greeting, reason = BAD_HELLOS[name]
    call = open_stream(channel)
    await call.write(greeting)
    assert await code(call) is REFUSED
    assert reason in str(await call.details())
    assert node.server.stats.refused_streams == 1
    assert node.server.stats.streams == 0
    assert node.server.boots == {}


async def test_a_stream_that_ends_before_its_hello_is_refused(node: Node, channel: aio.Channel) -> None:
    call = open_stream(channel)
    await call.done_writing()
    assert await code(call) is REFUSED


async def test_a_refusal_is_logged_once(node: Node, channel: aio.Channel) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            call = open_stream(channel)
            await call.write(hello(to_node=3))
            assert await code(call) is REFUSED
    assert [entry["event"] for entry in logs] == ["peer_stream_refused"]
    assert node.server.stats.refused_streams == 3


async def test_nothing_is_accepted_before_there_is_a_cluster(node: Node, channel: aio.Channel) -> None:
    node.server.cluster_id = ""
    call = open_stream(channel)
    await call.write(hello(cluster_id=""))
    assert await code(call) is REFUSED
    assert "not in a cluster yet" in str(await call.details())
    node.server.cluster_id = CLUSTER
    await accepted(channel, hello())


async def test_an_accepted_stream_delivers_and_ends_well(node: Node, channel: aio.Channel) -> None:
    call = await accepted(channel, hello(boot=3))
    await call.write(wire(heartbeat(1)))
    await call.done_writing()
    assert await call == peer_pb2.SendResponse().SerializeToString()
    assert node.recorder.frames == [(info(1, boot=3), heartbeat(1))]


async def test_a_boot_that_is_over_is_refused(node: Node, channel: aio.Channel) -> None:
    await accepted(channel, hello(boot=5))
    call = open_stream(channel)
    await call.write(hello(boot=4))
    assert await code(call) is REFUSED
    assert "boot 4 of node 1 is over" in str(await call.details())


async def test_another_store_of_a_node_has_boots_of_its_own(node: Node, channel: aio.Channel) -> None:
    await accepted(channel, hello(boot=5))
    await accepted(channel, hello(boot=1, store=77))
    assert sorted(node.server.boots.values()) == [1, 5]


@pytest.mark.parametrize(
    "newer",
    [hello(boot=1, channel=1), hello(boot=2, channel=1), hello(boot=2, channel=2)],
    ids=["same boot", "newer boot", "newer boot, other channel"],
)
async def test_frames_of_a_stream_that_was_replaced_are_dropped(node: Node, channel: aio.Channel, newer: bytes) -> None:
    older_call = await accepted(channel, hello(boot=1, channel=1))
    newer_call = await accepted(channel, newer)
    await older_call.write(wire(heartbeat(1)))
    assert await code(older_call) is grpc.StatusCode.ABORTED
    await newer_call.write(wire(heartbeat(2)))
    await node.recorder.until(lambda: node.recorder.beats == [2])
    assert node.server.stats.stale_messages == 1


async def test_the_two_channels_of_a_node_live_side_by_side(node: Node, channel: aio.Channel) -> None:
    raft_call = await accepted(channel, hello(channel=1))
    bulk_call = await accepted(channel, hello(channel=2))
    await raft_call.write(wire(heartbeat(1)))
    await bulk_call.write(wire(append(9)))
    await node.recorder.until(lambda: len(node.recorder.frames) == 2)
    assert (node.recorder.beats, node.recorder.appended) == ([1], [9])


async def test_rubbish_is_dropped_and_counted_and_the_stream_goes_on(node: Node, channel: aio.Channel) -> None:
    corrupt = peer_pb2.Frame.FromString(wire(append(5, b"payload")))
    corrupt.messages[0].append_entries.entries[0].payload = b"PAYLOAD"
    call = await accepted(channel, hello())
    with capture_logs() as logs:
        for message in (b"\xff\xff", corrupt.SerializeToString(), b"", wire(heartbeat(1))):
            await call.write(message)
        await node.recorder.until(lambda: bool(node.recorder.frames))
    assert node.recorder.frames == [(info(1), heartbeat(1))]
    assert node.server.stats.faults == 2
    assert [entry["event"] for entry in logs] == ["peer_message_dropped"], "once for the stream, not per frame"


async def test_a_message_above_the_cap_ends_its_stream_only(node: Node, channel: aio.Channel) -> None:
    call = await accepted(channel, hello())
    async with aio.insecure_channel(
        f"127.0.0.1:{node.port}", options=(("grpc.max_send_message_length", -1),)
    ) as reckless:
        large = await accepted(reckless, hello(node=3))
        await large.write(bytes(MAX_MESSAGE_BYTES + 1))
        assert await code(large) is grpc.StatusCode.RESOURCE_EXHAUSTED
    await call.write(wire(heartbeat(1)))
    await node.recorder.until(lambda: node.recorder.beats == [1])


async def test_one_port_takes_one_listener(node: Node) -> None:
    """By default gRPC lets two servers share a port, and each loses half of its connections."""
    second = Node(3)
    second.port = node.port
    with pytest.raises(OSError, match="cannot listen"):
        await second.start()
