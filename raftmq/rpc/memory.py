"""``Transport`` without sockets, clocks and tasks: frames wait in the same queues, as the same bytes, until ``run``.

For tests of what stands above the transport. It passes the conformance suite of the port beside the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raftmq.ids import NodeId, ReplicaId
from raftmq.ports import Channel, Frame, PeerInfo, Receiver
from raftmq.rpc.codec import decode_frame, encode_frame, parse_frame
from raftmq.rpc.outbox import Outbox, OutboxLimits

Deliver = Callable[[NodeId, NodeId, Channel, Frame], bool]
"""Decides about a message from one node to another: False loses it."""


@dataclass(slots=True)
class _Link:
    source: PeerInfo
    target: PeerInfo
    channel: Channel
    outbox: Outbox
    is_cut: bool = False
    is_up: bool = False


@dataclass(slots=True)
class MemoryNetwork:
    """All nodes of a cluster in one process. ``run`` goes through the links in order of (source, target, channel)."""

    limits: OutboxLimits = field(default_factory=OutboxLimits)
    deliver: Deliver = lambda source, target, channel, frame: True
    _nodes: dict[NodeId, tuple[PeerInfo, Receiver]] = field(default_factory=dict)
    _links: dict[tuple[NodeId, NodeId, Channel], _Link] = field(default_factory=dict)

    def attach(self, identity: PeerInfo, receiver: Receiver) -> MemoryTransport:
        """Add a node. Links to and from it come up in the next ``run``."""
        for other, _ in self._nodes.values():
            for source, target in ((identity, other), (other, identity)):
                for channel in Channel:
                    key = (source.node, target.node, channel)
                    self._links[key] = _Link(source, target, channel, Outbox(self.limits))
        self._nodes[identity.node] = (identity, receiver)
        return MemoryTransport(self, identity.node)

    def cut(self, source: NodeId, target: NodeId) -> None:
        """Nothing gets from `source` to `target` any more; the other direction is not touched."""
        for channel in Channel:
            link = self._links[source, target, channel]
            link.is_cut = True
            self._take_down(link)

    def heal(self, source: NodeId, target: NodeId) -> None:
        """End a cut: the links come up in the next ``run``."""
        for channel in Channel:
            self._links[source, target, channel].is_cut = False

    def kill(self, node: NodeId) -> None:
        """Remove a node whose process is provably gone: who had a stream to it is told."""
        identity, _ = self._nodes.pop(node)
        links = [self._links.pop(key) for key in sorted(self._links) if node in key[:2]]
        for link in links:
            if link.target.node == node and link.is_up and link.channel is Channel.RAFT:
                self._nodes[link.source.node][1].on_peer_lost(node, identity.boot)

    def send(self, source: NodeId, target: NodeId, channel: Channel, frame: Frame) -> None:
        """See ``ports.Transport.send``."""
        link = self._links.get((source, target, channel))
        if link is not None and link.is_up and not link.outbox.offer(encode_frame(frame)):
            self._take_down(link)

    def run(self) -> int:
        """Bring up what can be up, then deliver until nothing waits. The number of messages delivered."""
        delivered = 0
        is_busy = True
        while is_busy:
            is_busy = False
            for key in sorted(self._links):
                link = self._links[key]
                if not link.is_up and not link.is_cut:
                    link.is_up = is_busy = True
                    self._nodes[link.source.node][1].on_peer_up(link.target.node, link.channel)
                while (data := link.outbox.take()) is not None:
                    is_busy = True
                    delivered += self._deliver_one(link, data)
        return delivered

    def _deliver_one(self, link: _Link, data: bytes) -> int:
        source, target = link.source, link.target
        decoded = decode_frame(
            parse_frame(data), ReplicaId(source.node, source.store), ReplicaId(target.node, target.store)
        )
        assert not decoded.faults, decoded.faults
        if not self.deliver(source.node, target.node, link.channel, decoded.frame):
            return 0
        self._nodes[target.node][1].on_frame(source, decoded.frame)
        return 1

    def _take_down(self, link: _Link) -> None:
        link.is_up = False
        link.outbox.clear()


@dataclass(frozen=True, slots=True)
class MemoryTransport:
    """One node's end of a ``MemoryNetwork``."""

    network: MemoryNetwork
    node: NodeId

    def send(self, node: NodeId, channel: Channel, frame: Frame) -> None:
        """See ``ports.Transport.send``."""
        self.network.send(self.node, node, channel, frame)
