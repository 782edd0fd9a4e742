"""``Transport`` over gRPC: for every peer two streams that this node opens, and a connection for unary calls.

this node --- Send (RAFT) ----->  peer     heartbeats, votes, answers, appends at the tail
          --- Send (BULK) ----->           catching up
          --- Forward --------->           requests that only the peer can answer
this node <-- Send ------------   peer     its own streams arrive at our PeerServer
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from raftmq.errors import Unavailable
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, PeerInfo, Receiver, SnapshotPart
from raftmq.rpc.calls import ForwardChannel, fetch_snapshot, identify
from raftmq.rpc.outbox import OutboxLimits
from raftmq.rpc.peer_stream import LinkStats, PeerLink, Route, join_address


@dataclass(frozen=True, slots=True)
class _Peer:
    address: tuple[str, int]
    links: dict[Channel, PeerLink]
    forward: ForwardChannel

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self.links.values()), self.forward.close())


class GrpcTransport:
    """Frames and calls to the other nodes of a cluster. Lives on one event loop; no method is thread-safe.

    `rng` spreads the redials, so that nodes which lost the same peer do not come back in step.
    """

    def __init__(
        self,
        identity: PeerInfo,
        cluster_id: str,
        receiver: Receiver,
        rng: random.Random,
        limits: OutboxLimits | None = None,
    ) -> None:
        self._identity = identity
        self._cluster_id = cluster_id
        self._receiver = receiver
        self._rng = rng
        self._limits = limits or OutboxLimits()
        self._peers: dict[NodeId, _Peer] = {}
        self._lost: dict[NodeId, BootCount] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._dropped_unknown = 0

    # -- Transport -------------------------------------------------------------------------------------------------

    def send(self, node: NodeId, channel: Channel, frame: Frame) -> None:
        """Queue `frame` for `node`. Never blocks, never fails; see ``ports.Transport``."""
        peer = self._peers.get(node)
        if peer is None:
            self._dropped_unknown += 1
        else:
            peer.links[channel].send(frame)

    # -- calls -----------------------------------------------------------------------------------------------------

    async def forward(
        self, node: NodeId, request: peer_pb2.ForwardRequest, timeout_s: float
    ) -> peer_pb2.ForwardResponse:
        """Have `node` answer `request`. See ``ForwardChannel.forward`` for what is raised, and what it means."""
        peer = self._peers.get(node)
        if peer is None:
            raise Unavailable(f"the address of node {node} is not known")
        return await peer.forward.forward(request, timeout_s)

    async def fetch_snapshot(
        self, node: NodeId, group: GroupId, from_index: LogIndex
    ) -> AsyncGenerator[SnapshotPart, None]:
        """The parts of a snapshot of `node`'s replica. See ``calls.fetch_snapshot`` for what is raised."""
        peer = self._peers.get(node)
        if peer is None:
            raise Unavailable(f"the address of node {node} is not known")
        request = peer_pb2.FetchSnapshotRequest(
            cluster_id=self._cluster_id, from_node=self._identity.node, group=group, from_index=from_index
        )
        async with aclosing(fetch_snapshot(join_address(*peer.address), request)) as parts:
            async for part in parts:
                yield part

    async def identify(
        self, host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
    ) -> peer_pb2.IdentifyResponse:
        """Ask who listens at an address, known as a peer or not. Raises Unavailable."""
        return await identify(join_address(host, port), request, timeout_s)

    # -- peers -----------------------------------------------------------------------------------------------------

    def set_peers(self, peers: Mapping[NodeId, tuple[str, int]]) -> None:
        """Keep links to exactly these nodes (this node itself is left out). A changed address means new links."""
        wanted = {node: address for node, address in sorted(peers.items()) if node != self._identity.node}
        for node, peer in list(self._peers.items()):
            if wanted.get(node) != peer.address:
                del self._peers[node]
                self._close_later(peer)
        for node, address in wanted.items():
            if node not in self._peers:
                self._peers[node] = self._make_peer(node, address)

    def hurry(self, node: NodeId) -> None:
        """`node` is known to be up (it has just dialled us): redial it now if a link to it is waiting."""
        peer = self._peers.get(node)
        if peer is not None:
            for link in peer.links.values():
                link.hurry()

    @property
    def stats(self) -> tuple[LinkStats, ...]:
        """Counters of every link, by node and channel."""
        return tuple(link.stats for _, peer in sorted(self._peers.items()) for link in peer.links.values())

    @property
    def dropped_unknown(self) -> int:
        """Frames to nodes that are no peers."""
        return self._dropped_unknown

    async def close(self) -> None:
        """End every link. Nothing is called back afterwards. Idempotent."""
        self.set_peers({})
        while self._closing:
            await asyncio.wait(self._closing)

    # -- LinkEvents ------------------------------------------------------------------------------------------------

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        self._receiver.on_peer_up(node, channel)

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        if self._lost.get(node) != boot:
            self._lost[node] = boot
            self._receiver.on_peer_lost(node, boot)

    def _make_peer(self, node: NodeId, address: tuple[str, int]) -> _Peer:
        host, port = address
        links = {}
        for channel in Channel:
            route = Route(self._cluster_id, self._identity, node, host, port, channel)
            rng = random.Random(self._rng.getrandbits(64))
            links[channel] = PeerLink(route, self, rng, self._limits)
        return _Peer(address, links, ForwardChannel(join_address(host, port)))

    def _close_later(self, peer: _Peer) -> None:
        task = asyncio.get_running_loop().create_task(peer.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
