"""Nodes with a real listener and real links, and what they heard."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable

from grpc import aio

from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, Offset, ReplicaId, StoreId, Term
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, GroupMessage, NodeHeartbeat, PeerInfo, SnapshotPart
from raftmq.raft.messages import AppendEntries, AppendReply
from raftmq.raft.types import Entry, EntryKind
from raftmq.records.entry import CHAIN_START, seal
from raftmq.rpc.outbox import OutboxLimits
from raftmq.rpc.server import PeerServer
from raftmq.rpc.transport import GrpcTransport

CLUSTER = "cluster-a"
PATIENCE_S = 30.0
"""Far more than anything here takes: only a test that has failed waits for it."""


def info(node: int, boot: int = 1) -> PeerInfo:
    return PeerInfo(NodeId(node), StoreId(node * 1_000), BootCount(boot))


def replica(node: int) -> ReplicaId:
    return ReplicaId(NodeId(node), StoreId(node * 1_000))


def heartbeat(sequence: int) -> Frame:
    return Frame(heartbeat=NodeHeartbeat(sequence, 0, None))


def reply(match_index: int, source: int = 1, target: int = 2) -> Frame:
    message = AppendReply(replica(source), replica(target), Term(1), LogIndex(match_index))
    return Frame(messages=(GroupMessage(GroupId(1), message),))


def entry(index: int, payload: bytes = b"", term: int = 1) -> Entry:
    sealed = seal(
        previous_chain=CHAIN_START,
        index=LogIndex(index),
        term=Term(term),
        kind=EntryKind.DATA,
        version=1,
        base_offset=Offset(index),
        count=1,
        log_tick=0,
        wall_ms=0,
        inline=b"header",
        payload=payload,
    )
    return Entry(sealed.index, sealed.term, sealed.kind, sealed, sealed.size)


def append(index: int, payload: bytes = b"", source: int = 1, target: int = 2) -> Frame:
    """A frame with one append of one entry."""
    message = AppendEntries(
        replica(source), replica(target), Term(1), LogIndex(index - 1), Term(1), (entry(index, payload),), LogIndex(0)
    )
    return Frame(messages=(GroupMessage(GroupId(1), message),))


class Recorder:
    """A receiver that keeps what it is told, and wakes whoever waits for it."""

    def __init__(self) -> None:
        self.frames: list[tuple[PeerInfo, Frame]] = []
        self.ups: list[tuple[NodeId, Channel]] = []
        self.losses: list[tuple[NodeId, BootCount]] = []
        self.log: list[str] = []
        self._changed = asyncio.Event()

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        self.frames.append((peer, frame))
        self.log.append("frame")
        self._changed.set()

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        self.ups.append((node, channel))
        self.log.append(f"up {channel.name}")
        self._changed.set()

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        self.losses.append((node, boot))
        self.log.append("lost")
        self._changed.set()

    @property
    def appended(self) -> list[int]:
        """Indexes of all entries received, in order of arrival."""
        return [
            item.index
            for _, frame in self.frames
            for message in frame.messages
            if isinstance(message.message, AppendEntries)
            for item in message.message.entries
        ]

    @property
    def beats(self) -> list[int]:
        return [frame.heartbeat.sequence for _, frame in self.frames if frame.heartbeat is not None]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that a call to this receiver makes true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def echo_forward(request: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
    return peer_pb2.ForwardResponse(response=request.request)


class Node:
    """One node: a listener, links, a recorder. ``stop`` and ``start`` restart it on its port with the next boot."""

    def __init__(self, node: int, cluster_id: str = CLUSTER, limits: OutboxLimits | None = None) -> None:
        self.id = NodeId(node)
        self.boot = 0
        self.port = 0
        self.cluster_id = cluster_id
        self.limits = limits
        self.recorder = Recorder()
        self.snapshot: list[SnapshotPart | Exception] = []
        self.snapshots_asked: list[tuple[GroupId, LogIndex]] = []
        self.server: PeerServer
        self.transport: GrpcTransport

    async def start(self) -> Node:
        self.boot += 1
        self.recorder = Recorder()
        identity = info(self.id, self.boot)
        self.server = PeerServer(
            f"127.0.0.1:{self.port}",
            identity,
            self.cluster_id,
            self.recorder,
            echo_forward,
            self.identify,
            self.send_snapshot,
        )
        self.port = await self.server.start()
        self.transport = GrpcTransport(identity, self.cluster_id, self.recorder, random.Random(self.id), self.limits)
        return self

    async def stop(self) -> None:
        await self.transport.close()
        await self.server.close()

    async def send_snapshot(self, group: GroupId, from_index: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        self.snapshots_asked.append((group, from_index))
        for part in self.snapshot:
            if isinstance(part, Exception):
                raise part
            yield part

    async def identify(self, request: peer_pb2.IdentifyRequest) -> peer_pb2.IdentifyResponse:
        return peer_pb2.IdentifyResponse(
            me=peer_pb2.ReplicaId(node=self.id, store=self.id * 1_000), seed_digest=request.seed_digest
        )


def hello(
    node: int = 1,
    boot: int = 1,
    *,
    to_node: int = 2,
    cluster_id: str = CLUSTER,
    channel: int = 1,
    version: int = 1,
    store: int | None = None,
) -> bytes:
    """A stream's first message, as right or wrong as wanted."""
    message = peer_pb2.Hello(
        cluster_id=cluster_id,
        boot_count=boot,
        to_node=to_node,
        channel=peer_pb2.Channel.ValueType(channel),
        protocol_version=version,
    )
    sender = getattr(message, "from")
    sender.node, sender.store = node, node * 1_000 if store is None else store
    return peer_pb2.Frame(hello=message).SerializeToString()


RawCall = aio.StreamUnaryCall[bytes, bytes]


def open_stream(channel: aio.Channel) -> RawCall:
    """A stream of bytes, for peers that do not behave."""
    call: RawCall = channel.stream_unary("/raftmq.internal.v1.Peer/Send", None, None)(None)
    return call
