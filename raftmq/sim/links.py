"""One node's connections to the others, as ``assembly.Links``: what ``rpc.transport`` is in production."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from random import Random
from typing import TYPE_CHECKING

from raftmq.errors import Unavailable
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, SnapshotPart
from raftmq.sim.loop import Handle
from raftmq.sim.network import Network, Stream
from raftmq.sim.transfers import Transfer

if TYPE_CHECKING:
    from raftmq.sim.node import NodeProcess

HANDSHAKE_S = 1.5
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 1.0


class Dialer:
    """Keeps one stream to one node open: dials, is refused, waits, dials again."""

    def __init__(self, links: Links, source: NodeProcess, node: NodeId, channel: Channel, rng: Random) -> None:
        self.source = source
        self.node = node
        self.channel = channel
        self.stream: Stream | None = None
        self._links = links
        self._rng = rng
        self._failures = 0
        self._attempt = 0
        self._timer: Handle | None = None
        self._is_waiting = False
        self._boot = BootCount(0)
        self.is_closed = False

    def dial(self) -> None:
        if self.is_closed:
            return
        self._is_waiting = False
        self._attempt += 1
        self._timer = self.source.loop.call_later(HANDSHAKE_S, self.refused, self._attempt)
        self._links.network.dial(self, self._attempt)

    def hurry(self) -> None:
        """The other node is known to be up."""
        if self._is_waiting and self._timer is not None:
            self._timer.cancel()
            self.dial()

    def close(self) -> None:
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def refused(self, attempt: int) -> None:
        if attempt == self._attempt and self.stream is None and not self._is_waiting:
            self._attempt += 1
            self._failures += 1
            self._pause()

    def accepted(self, attempt: int, stream: Stream) -> None:
        if attempt != self._attempt or self.is_closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.stream = stream
        self._failures = 0
        self._boot = stream.target.info.boot
        self._links.network.opened(stream)
        self.source.on_peer_up(self.node, self.channel)

    def ended(self, stream: Stream) -> None:
        if self.stream is not stream or self.is_closed:
            return
        self.stream = None
        if self.channel is Channel.RAFT:
            self._links.network.probe(self)
        else:
            self._pause()

    def probed(self, gone: bool) -> None:
        if self.is_closed:
            return
        if gone:
            self._links.lost(self.node, self._boot)
        self._pause()

    def _pause(self) -> None:
        ceiling = min(PAUSE_MAX_S, PAUSE_MIN_S * 2.0 ** min(self._failures, 16))
        if self._timer is not None:
            self._timer.cancel()
        self._is_waiting = True
        self._timer = self.source.loop.call_later(self._rng.uniform(ceiling / 2, ceiling), self.dial)


class Links:
    """See the module docstring."""

    def __init__(self, network: Network, source: NodeProcess, rng: Random) -> None:
        self.network = network
        self._source = source
        self._rng = rng
        self._dialers: dict[NodeId, dict[Channel, Dialer]] = {}
        self._lost: dict[NodeId, BootCount] = {}

    def send(self, node: NodeId, channel: Channel, frame: Frame) -> None:
        """See ``ports.Transport.send``."""
        dialers = self._dialers.get(node)
        if dialers is not None and (stream := dialers[channel].stream) is not None:
            self.network.send(stream, frame)

    def set_peers(self, peers: Mapping[NodeId, tuple[str, int]]) -> None:
        """Keep streams to exactly these nodes."""
        for node in sorted(self._dialers.keys() - peers.keys()):
            for dialer in self._dialers.pop(node).values():
                dialer.close()
        for node in sorted(peers.keys() - self._dialers.keys()):
            rng = Random(self._rng.getrandbits(64))
            self._dialers[node] = {c: Dialer(self, self._source, node, c, rng) for c in Channel}
            for dialer in self._dialers[node].values():
                dialer.dial()

    def hurry(self, node: NodeId) -> None:
        """`node` has just come up."""
        for dialer in self._dialers.get(node, {}).values():
            dialer.hurry()

    def hurry_all(self) -> None:
        """Dial at once whatever waits to be dialled again: nobody learns anything from that wait any more."""
        for node in self._dialers:
            self.hurry(node)

    async def forward(
        self, node: NodeId, request: peer_pb2.ForwardRequest, timeout_s: float
    ) -> peer_pb2.ForwardResponse:
        """Have `node` answer a call. Raises RaftmqError."""
        if node not in self._dialers:
            raise Unavailable(f"the address of node {node} is not known")

        async def serve(target: NodeProcess) -> bytes:
            return (await target.serve_forwarded(request)).response

        response = await self.network.call(self._source, self._source.number, node, serve, timeout_s)
        return peer_pb2.ForwardResponse(response=response)

    async def identify(
        self, host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
    ) -> peer_pb2.IdentifyResponse:
        """Ask who listens at an address. Raises RaftmqError."""
        return await self._source.identify(host, port, request, timeout_s)

    def fetch_snapshot(self, node: NodeId, group: GroupId, from_index: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        """The parts of a snapshot of `node`'s replica. Raises RaftmqError."""
        if node not in self._dialers:
            raise Unavailable(f"the address of node {node} is not known")
        return Transfer(self.network, self._source, node, group, from_index).parts()

    def lost(self, node: NodeId, boot: BootCount) -> None:
        """The process is gone for good: told once."""
        if self._lost.get(node) != boot:
            self._lost[node] = boot
            self._source.on_peer_lost(node, boot)
