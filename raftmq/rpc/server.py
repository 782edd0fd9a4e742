"""The peer listener: streams of frames from other nodes, forwarded calls, and "who are you?".

A stream begins with a hello. It is refused, once and for all, where it cannot be meant for this process: another
cluster, another node, another protocol, or a boot of the sender that is over. Of two streams of one (node, channel)
the newer one counts: frames that are still on their way in the older one are dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from grpc import aio

from raftmq.errors import InvalidArgument, NotReady, PreconditionFailed
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, PeerInfo, Receiver, SnapshotPart
from raftmq.rpc.codec import NUMBER_MAX, Decoded, MalformedFrame, decode_frame, node_id, parse_frame
from raftmq.rpc.interceptor import CallCounts, CallInterceptor, CallLimits, Context
from raftmq.rpc.options import MAX_MESSAGE_BYTES, server_options
from raftmq.rpc.peer_stream import BOOT_METADATA, PROTOCOL_VERSION
from raftmq.rpc.snapshot_codec import encode_part, requested

HELLO_TIMEOUT_S = 10.0
_REASONS_LOGGED_MAX = 256

CALL_LIMITS = CallLimits(MAX_MESSAGE_BYTES, calls=2**20, arrival_s=HELLO_TIMEOUT_S)
"""No limit on calls: a flood of forwarded ones must not keep a stream out. What they hold is bounded elsewhere."""

ForwardHandler = Callable[[peer_pb2.ForwardRequest], Awaitable[peer_pb2.ForwardResponse]]
"""Answers a forwarded call. Raises RaftmqError; anything else is a bug."""
SnapshotHandler = Callable[[GroupId, LogIndex], AsyncGenerator[SnapshotPart, None]]
"""Parts of a snapshot from an entry on. Raises RaftmqError."""
IdentifyHandler = Callable[[peer_pb2.IdentifyRequest], Awaitable[peer_pb2.IdentifyResponse]]

_log = structlog.get_logger(__name__)


class HelloRefused(Exception):
    """This stream will never do. The text goes to the peer's log."""


@dataclass(frozen=True, slots=True)
class InboundStats:
    """What arrived, over all peers, since the start. ``faults``: parts of messages that were dropped as malformed."""

    streams: int
    messages: int
    bytes: int
    faults: int
    stale_messages: int
    refused_streams: int


@dataclass(eq=False, slots=True)
class _Stream:
    """A stream whose hello was accepted. Compared by identity."""

    peer: PeerInfo
    channel: Channel
    has_faulted: bool = False


class PeerServer:
    """Listens for the other nodes. Lives on one event loop; ``receiver`` is called on it and must not raise.

    ``cluster_id`` is empty until the node has formed or joined a cluster: until then only Identify is answered.
    """

    def __init__(
        self,
        address: str,
        identity: PeerInfo,
        cluster_id: str,
        receiver: Receiver,
        forward_handler: ForwardHandler,
        identify_handler: IdentifyHandler,
        snapshot_handler: SnapshotHandler,
        counts: CallCounts | None = None,
    ) -> None:
        self.cluster_id = cluster_id
        self._counts = CallCounts() if counts is None else counts
        self._address = address
        self._identity = identity
        self._me = ReplicaId(identity.node, identity.store)
        self._receiver = receiver
        self._forward_handler = forward_handler
        self._identify_handler = identify_handler
        self._snapshot_handler = snapshot_handler
        self._server: aio.Server | None = None
        self._streams: dict[tuple[NodeId, Channel], _Stream] = {}
        self._boots: dict[ReplicaId, BootCount] = {}
        self._reasons_logged: set[str] = set()
        self._accepted = self._messages = self._bytes = self._faults = self._stale = self._refused = 0

    @property
    def stats(self) -> InboundStats:
        return InboundStats(self._accepted, self._messages, self._bytes, self._faults, self._stale, self._refused)

    @property
    def boots(self) -> dict[ReplicaId, BootCount]:
        """The newest boot that each replica's host has said hello with."""
        return dict(self._boots)

    async def start(self) -> int:
        """Listen; the port. Raises OSError where the address is taken or is no address of this machine."""
        server = aio.server(interceptors=(CallInterceptor(self._counts, CALL_LIMITS),), options=server_options())
        server.add_generic_rpc_handlers((self._handlers(),))
        try:
            port = int(server.add_insecure_port(self._address))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}: {error}") from None
        await server.start()
        self._server = server
        return port

    async def close(self) -> None:
        """Stop listening and cut every stream and call. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=None)

    def _handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        # Frames arrive as bytes: what is no frame is counted here, and does not end its stream.
        return grpc.method_handlers_generic_handler(
            "raftmq.internal.v1.Peer",
            {
                "Send": grpc.stream_unary_rpc_method_handler(self._send),
                "Forward": grpc.unary_unary_rpc_method_handler(
                    self._forward,
                    peer_pb2.ForwardRequest.FromString,
                    peer_pb2.ForwardResponse.SerializeToString,
                ),
                "FetchSnapshot": grpc.unary_stream_rpc_method_handler(
                    self._fetch_snapshot,
                    peer_pb2.FetchSnapshotRequest.FromString,
                    peer_pb2.SnapshotPart.SerializeToString,
                ),
                "Identify": grpc.unary_unary_rpc_method_handler(
                    self._identify,
                    peer_pb2.IdentifyRequest.FromString,
                    peer_pb2.IdentifyResponse.SerializeToString,
                ),
            },
        )

    # -- streams ---------------------------------------------------------------------------------------------------

    async def _send(self, messages: AsyncIterator[bytes], context: Context) -> bytes:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                first = await anext(messages, b"")
            stream = self._greet(first)
        except (HelloRefused, MalformedFrame, TimeoutError) as error:
            reason = str(error) or f"no hello within {HELLO_TIMEOUT_S} s"
            self._refuse(reason, context)
            raise PreconditionFailed(reason, field="hello") from None
        await context.send_initial_metadata(((BOOT_METADATA, str(self._identity.boot)),))
        key = (stream.peer.node, stream.channel)
        try:
            async for data in messages:
                if self._streams.get(key) is not stream:
                    self._stale += 1
                    await context.abort(grpc.StatusCode.ABORTED, "a newer stream of this node has taken over")
                self._deliver(stream, data)
        finally:
            if self._streams.get(key) is stream:
                del self._streams[key]
        return peer_pb2.SendResponse().SerializeToString()

    def _greet(self, first: bytes) -> _Stream:
        """The stream that a hello opens; the newest of its (node, channel) from now on."""
        message = parse_frame(first)
        if not message.HasField("hello"):
            raise HelloRefused("a stream begins with a hello")
        hello = message.hello
        sender = getattr(hello, "from")  # a keyword in Python
        peer = PeerInfo(node_id(sender.node), StoreId(sender.store), BootCount(hello.boot_count))
        self._check_hello(hello, peer)
        replica = ReplicaId(peer.node, peer.store)
        if peer.boot > self._boots.get(replica, 0):
            self._boots[replica] = peer.boot
            for channel in Channel:  # what the boot before this one sent is over, on all its streams
                self._streams.pop((peer.node, channel), None)
        stream = _Stream(peer, Channel(hello.channel))
        self._streams[peer.node, stream.channel] = stream
        self._accepted += 1
        _log.info("peer_stream_accepted", node=peer.node, boot=peer.boot, channel=stream.channel.name)
        return stream

    def _check_hello(self, hello: peer_pb2.Hello, peer: PeerInfo) -> None:
        newest = self._boots.get(ReplicaId(peer.node, peer.store), 0)
        if hello.protocol_version != PROTOCOL_VERSION:
            raise HelloRefused(f"protocol {hello.protocol_version}, this node speaks {PROTOCOL_VERSION}")
        if not self.cluster_id:
            raise HelloRefused(f"node {self._me.node} is not in a cluster yet")
        if hello.cluster_id != self.cluster_id:
            raise HelloRefused(f"node {self._me.node} is in another cluster")
        if hello.to_node != self._me.node:
            raise HelloRefused(f"this is node {self._me.node}, not {hello.to_node}")
        if peer.node == self._me.node:
            raise HelloRefused(f"this is node {self._me.node} too")
        if hello.channel not in [int(channel) for channel in Channel]:
            raise HelloRefused(f"channel {hello.channel} is not known here")
        if not (1 <= peer.store <= NUMBER_MAX and 1 <= peer.boot <= NUMBER_MAX):
            raise HelloRefused("store and boot count of the sender are missing or too large")
        if peer.boot < newest:
            raise HelloRefused(f"boot {peer.boot} of node {peer.node} is over, it has said hello with {newest}")

    def _refuse(self, reason: str, context: Context) -> None:
        self._refused += 1
        if reason not in self._reasons_logged and len(self._reasons_logged) < _REASONS_LOGGED_MAX:
            self._reasons_logged.add(reason)
            _log.warning("peer_stream_refused", reason=reason, address=context.peer())

    def _deliver(self, stream: _Stream, data: bytes) -> None:
        self._messages += 1
        self._bytes += len(data)
        peer = stream.peer
        try:
            decoded = decode_frame(parse_frame(data), ReplicaId(peer.node, peer.store), self._me)
        except MalformedFrame as error:
            decoded = Decoded(Frame(), (str(error),))
        if decoded.faults:
            self._faults += len(decoded.faults)
            if not stream.has_faulted:
                stream.has_faulted = True
                _log.warning("peer_message_dropped", node=peer.node, boot=peer.boot, reason=decoded.faults[0])
        if decoded.frame != Frame():
            self._receiver.on_frame(peer, decoded.frame)

    # -- calls -----------------------------------------------------------------------------------------------------

    async def _forward(self, request: peer_pb2.ForwardRequest, _context: Context) -> peer_pb2.ForwardResponse:
        if not self.cluster_id or request.cluster_id != self.cluster_id:
            raise NotReady(f"node {self._me.node} is not in that cluster", field="cluster_id")
        return await self._forward_handler(request)

    async def _fetch_snapshot(
        self, request: peer_pb2.FetchSnapshotRequest, _context: Context
    ) -> AsyncGenerator[peer_pb2.SnapshotPart, None]:
        if not self.cluster_id or request.cluster_id != self.cluster_id:
            raise NotReady(f"node {self._me.node} is not in that cluster", field="cluster_id")
        try:
            wanted = requested(request)
        except MalformedFrame as error:
            raise InvalidArgument(str(error), field="group" if request.group > NUMBER_MAX else "from_index") from None
        async with aclosing(self._snapshot_handler(*wanted)) as parts:
            async for part in parts:
                yield encode_part(part)

    async def _identify(self, request: peer_pb2.IdentifyRequest, _context: Context) -> peer_pb2.IdentifyResponse:
        return await self._identify_handler(request)
