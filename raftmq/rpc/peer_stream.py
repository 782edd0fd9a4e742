"""One outgoing stream: dialled, greeted, filled, and dialled again when it ends.

    pause --> dial --> hello --> accepted --> pump ... ended --> probe --> pause
      ^                  |       on_peer_up                      on_peer_lost if proven
      '--- refused, timeout                                                 |
      '---------------------------------------------------------------------'

A channel is made for every dial: what it says about a connection is then about *this* attempt, and gRPC's own
reconnect back-off, which would answer from memory, is never asked.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Protocol

import structlog
from grpc import aio

from raftmq.ids import BootCount, NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, PeerInfo
from raftmq.rpc.codec import encode_frame
from raftmq.rpc.options import MAX_MESSAGE_BYTES, channel_options
from raftmq.rpc.outbox import Outbox, OutboxLimits
from raftmq.rpc.probe import Verdict, probe

PROTOCOL_VERSION = 1
SEND_METHOD = "/raftmq.internal.v1.Peer/Send"
BOOT_METADATA = "raftmq-boot"
"""Initial metadata of an accepted stream: the boot count of the process that accepted it."""

HANDSHAKE_TIMEOUT_S = 1.5
"""From the dial to the acceptance of the hello."""
PROBE_TIMEOUT_S = 0.5
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 1.0

_Call = aio.StreamUnaryCall[bytes, bytes]

_log = structlog.get_logger(__name__)


class LinkEvents(Protocol):
    """What a link tells its owner."""

    def on_peer_up(self, node: NodeId, channel: Channel) -> None: ...

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None: ...


def join_address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Route:
    """A stream's two ends: who we are to whom, and where the other one listens."""

    cluster_id: str
    me: PeerInfo
    node: NodeId
    host: str
    port: int
    channel: Channel

    @property
    def address(self) -> str:
        return join_address(self.host, self.port)

    def hello(self) -> bytes:
        """The first message of the stream."""
        message = peer_pb2.Hello(
            cluster_id=self.cluster_id,
            boot_count=self.me.boot,
            to_node=self.node,
            channel=peer_pb2.Channel.ValueType(self.channel),
            protocol_version=PROTOCOL_VERSION,
        )
        sender = getattr(message, "from")  # a keyword in Python
        sender.node, sender.store = self.me.node, self.me.store
        return peer_pb2.Frame(hello=message).SerializeToString()


@dataclass(frozen=True, slots=True)
class LinkStats:
    """One stream's counters since the link was made. ``frames``: queued; ``messages``: sent, several frames in each."""

    node: NodeId
    channel: Channel
    is_up: bool
    frames: int
    messages: int
    bytes: int
    dropped_frames: int
    connects: int
    overflows: int
    queued_pieces: int
    """Wait to be sent now; a frame is a few of them."""
    queued_bytes: int


class PeerLink:
    """Keeps one stream to one peer open and sends frames on it, until it is closed.

    Frames are queued only while the stream is accepted: what waited for a peer that was away would be stale.
    """

    def __init__(self, route: Route, events: LinkEvents, rng: random.Random, limits: OutboxLimits) -> None:
        self.route = route
        self._events = events
        self._rng = rng
        self._outbox = Outbox(limits)
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._call: _Call | None = None
        self._cut = ""  # why this side ended the stream that is up
        self._last_refusal = ""
        self._frames = self._messages = self._bytes = self._dropped = self._connects = self._overflows = 0
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"link to node {route.node}, {route.channel.name}"
        )
        self._task.add_done_callback(_report_crash)

    @property
    def stats(self) -> LinkStats:
        return LinkStats(
            self.route.node,
            self.route.channel,
            self._call is not None,
            self._frames,
            self._messages,
            self._bytes,
            self._dropped,
            self._connects,
            self._overflows,
            self._outbox.pieces,
            self._outbox.bytes,
        )

    def send(self, frame: Frame) -> None:
        """Queue `frame`, or drop it where the stream is down, or full: then the stream starts over."""
        if self._call is None or self._cut:
            self._dropped += 1
            return
        pieces = encode_frame(frame)
        if any(len(piece.data) > MAX_MESSAGE_BYTES for piece in pieces):
            self._dropped += 1
            _log.error("frame_too_large", node=self.route.node, limit=MAX_MESSAGE_BYTES)
        elif self._outbox.offer(pieces):
            self._frames += 1
            self._wake.set()
        else:
            self._dropped += 1
            self._overflows += 1
            self._cut = "its queue is full"
            self._call.cancel()

    def hurry(self) -> None:
        """The peer is known to be up: do not wait for the end of the back-off."""
        self._hurry.set()

    async def close(self) -> None:
        """End the stream. Nothing is called back afterwards. Idempotent."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        failures = 0
        while True:
            self._hurry.clear()
            self._cut = ""
            boot = await self._stream()
            failures = failures + 1 if boot is None else 0
            if boot is not None and not self._cut and self.route.channel is Channel.RAFT:
                verdict = await probe(self.route.host, self.route.port, PROBE_TIMEOUT_S)
                if verdict is Verdict.GONE:
                    self._events.on_peer_lost(self.route.node, boot)
            await self._pause(failures)

    async def _pause(self, failures: int) -> None:
        ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures, 16))
        try:
            async with asyncio.timeout(self._rng.uniform(ceiling / 2, ceiling)):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _stream(self) -> BootCount | None:
        """Dial, and pump until the stream ends. The boot count of the peer, or None where it was never accepted."""
        options = channel_options(self.route.channel)
        async with aio.insecure_channel(self.route.address, options=options) as channel:
            call: _Call = channel.stream_unary(SEND_METHOD, None, None)(None)
            call.add_done_callback(lambda _: self._wake.set())
            boot = await self._handshake(call)
            if boot is None:
                await self._refused(call)
            else:
                await self._live(call, boot)
            return boot

    async def _handshake(self, call: _Call) -> BootCount | None:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await _write(call, self.route.hello())
                metadata = dict(await call.initial_metadata() or ())
        except TimeoutError:
            self._cut = f"no answer within {HANDSHAKE_TIMEOUT_S} s"
            return None
        boot = str(metadata.get(BOOT_METADATA, ""))
        return BootCount(int(boot)) if boot.isdecimal() else None

    async def _refused(self, call: _Call) -> None:
        call.cancel()
        reason = self._cut or await _status(call)
        if reason != self._last_refusal:  # a peer that is down for an hour is one line, not thousands
            self._last_refusal = reason
            _log.warning("peer_stream_refused", **self._name, reason=reason)

    async def _live(self, call: _Call, boot: BootCount) -> None:
        self._call = call
        self._connects += 1
        self._last_refusal = ""
        _log.info("peer_stream_up", **self._name, boot=boot)
        self._events.on_peer_up(self.route.node, self.route.channel)
        try:
            await self._pump(call)
        finally:
            self._call = None
            self._outbox.clear()
        _log.info("peer_stream_down", **self._name, reason=self._cut or await _status(call))

    async def _pump(self, call: _Call) -> None:
        while not call.done():
            self._wake.clear()
            message = self._outbox.take()
            if message is None:
                await self._wake.wait()
            elif await _write(call, message):
                self._messages += 1
                self._bytes += len(message)

    @property
    def _name(self) -> dict[str, object]:
        return {"node": self.route.node, "channel": self.route.channel.name, "address": self.route.address}


async def _write(call: _Call, message: bytes) -> bool:
    """False where the stream has ended."""
    try:
        await call.write(message)
    except (aio.AioRpcError, asyncio.InvalidStateError):
        return False
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return False  # the call was cancelled, not this task
    return True


async def _status(call: _Call) -> str:
    return f"{(await call.code()).name}: {await call.details()}"


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        task.get_loop().call_exception_handler(
            {"message": f"{task.get_name()} crashed", "exception": task.exception(), "task": task}
        )
