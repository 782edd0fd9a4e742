"""Liveness between nodes, not between replicas: its cost must not grow with partitions times peers.

Every interval a node sends each other node one heartbeat. It names the version of the sender's *led set* for that
receiver: the groups that the sender leads and the receiver holds, with their terms. The list itself travels only
when it changed or the receiver holds another version. The receiver follows those groups' leaders as long as the
node is heard; a follower's timer asks for the node's last sign of life only when it fires (``leader_contact``).

The acknowledgement says which version is held now, and *disputes* the groups whose leader the receiver does not follow:
its own term is higher, or it has no such replica. A leader counts a follower as alive only if that follower's node
acknowledged a version that holds the group and does not dispute it (``follower_contact``), so a leader whose followers
went on to another term steps down, as Raft's check-quorum asks.

Pure: time comes in as ticks, frames go out as values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raftmq.ids import BootCount, GroupId, NodeId, ReplicaId, StoreId, Term, Tick
from raftmq.ports import DiskLevel, LedSet, NodeHeartbeat, NodeHeartbeatAck, PeerInfo

NEVER = Tick(-(1 << 62))


@dataclass(slots=True)
class _Peer:
    """What is known of, and told to, one other node."""

    # as the one who hears
    boot: BootCount = BootCount(0)
    store: StoreId = StoreId(0)
    heard: Tick = NEVER
    disk: DiskLevel = DiskLevel.AMPLE
    held_version: int = 0
    held: dict[GroupId, Term] = field(default_factory=dict)
    disputed: dict[GroupId, Term] = field(default_factory=dict)
    # as the one who leads
    led: dict[GroupId, Term] = field(default_factory=dict)
    led_version: int = 1
    added_in: dict[GroupId, int] = field(default_factory=dict)
    acked_version: int = 0
    acked: Tick = NEVER
    disputes: dict[GroupId, Term] = field(default_factory=dict)
    sequence: int = 0


class NodeHeartbeats:
    """All of one node's liveness. ``local_term(group)``: the term of this node's replica, None without one."""

    def __init__(self, local_term: Callable[[GroupId], Term | None]) -> None:
        self.disk = DiskLevel.AMPLE
        """Room on this node's disk; told with every heartbeat."""
        self.shaken: Callable[[NodeId], None] = lambda node: None
        """Told which node is about to stand for less than before: what ``leader_contact`` and ``follower_contact`` say
        now of its replicas they may not say again. Nobody is told of silence: see ``is_steady``."""
        self._local_term = local_term
        self._peers: dict[NodeId, _Peer] = {}
        self._dead: dict[NodeId, BootCount] = {}

    def set_disk(self, level: DiskLevel) -> None:
        """How much room this node's disk has now."""
        self.disk = level

    def takes_records(self) -> bool:
        """This node's disk is not full."""
        return self.disk is not DiskLevel.FULL

    # -- membership of the cluster ---------------------------------------------------------------------------------

    def set_peers(self, nodes: list[NodeId]) -> None:
        """The other nodes of the cluster."""
        for gone in [node for node in self._peers if node not in nodes]:
            self.shaken(gone)
            del self._peers[gone]
        for node in nodes:
            self._peers.setdefault(node, _Peer())

    @property
    def nodes(self) -> list[NodeId]:
        return sorted(self._peers)

    # -- what this node leads --------------------------------------------------------------------------------------

    def lead(self, group: GroupId, term: Term, nodes: set[NodeId]) -> None:
        """This node leads `group` in `term`; `nodes` hold its replicas."""
        for node, peer in self._peers.items():
            if node not in nodes:
                self._unlead(peer, group)
            elif peer.led.get(group) != term:
                peer.led_version += 1
                peer.led[group] = term
                peer.added_in[group] = peer.led_version
                peer.disputes.pop(group, None)

    def unlead(self, group: GroupId) -> None:
        """This node no longer leads `group`. Must be called before anything else is told of the change."""
        for peer in self._peers.values():
            self._unlead(peer, group)

    @staticmethod
    def _unlead(peer: _Peer, group: GroupId) -> None:
        if group in peer.led:
            peer.led_version += 1
            del peer.led[group]
            peer.added_in.pop(group, None)
            peer.disputes.pop(group, None)

    def beat(self, node: NodeId) -> NodeHeartbeat:
        """The heartbeat for `node`, to be sent now."""
        peer = self._peers[node]
        peer.sequence += 1
        known = peer.acked_version == peer.led_version
        led = None if known else LedSet(peer.led_version, dict(sorted(peer.led.items())))
        return NodeHeartbeat(peer.sequence, peer.led_version, led, self.disk)

    def on_ack(self, sender: PeerInfo, ack: NodeHeartbeatAck, now: Tick) -> list[tuple[GroupId, Term]]:
        """Take an acknowledgement; returns (group, higher term) of leaderships that are over."""
        peer = self._peers.get(sender.node)
        if peer is None or ack.led_version > peer.led_version:
            return []
        disputes = {group: term for group, term in ack.disputed.items() if group in peer.led}
        if (ack.led_version, disputes) != (peer.acked_version, peer.disputes):
            self.shaken(sender.node)
        peer.acked, peer.acked_version, peer.disputes = now, ack.led_version, disputes
        return [(group, term) for group, term in sorted(peer.disputes.items()) if term > peer.led[group]]

    # -- what other nodes lead -------------------------------------------------------------------------------------

    def heard(self, sender: PeerInfo, now: Tick) -> bool:
        """A frame of `sender` arrived. True if its process is not the one heard before (a restart)."""
        peer = self._peers.get(sender.node)
        if peer is None:
            return False
        restarted = peer.boot != sender.boot or peer.store != sender.store
        if restarted:
            if sender.boot < peer.boot and sender.store == peer.store:
                return False  # a late frame of an earlier process
            self.shaken(sender.node)
            peer.boot, peer.store = sender.boot, sender.store
            peer.held, peer.held_version, peer.disputed = {}, 0, {}
            peer.acked_version = 0
        peer.heard = now
        if self._dead.get(sender.node, sender.boot) != sender.boot:
            del self._dead[sender.node]  # another process; a late frame of the dead one proves nothing
        return restarted

    def lost(self, node: NodeId, boot: BootCount) -> bool:
        """There is proof that this process of `node` is gone. False if another one was heard meanwhile."""
        if self.boot_of(node) not in (boot, 0):
            return False
        self._dead[node] = boot
        return True

    def reached(self, node: NodeId) -> None:
        """A stream to `node` was established: whatever runs there is alive."""
        self._dead.pop(node, None)

    def is_dead(self, member: ReplicaId) -> bool:
        """The process that held this replica is known to be gone, or its node to speak for another disk."""
        return member.node in self._dead or self.store_of(member.node) not in (0, member.store)

    def disk_of(self, node: NodeId) -> DiskLevel:
        """As `node` said last; of one that was never heard, AMPLE."""
        peer = self._peers.get(node)
        return DiskLevel.AMPLE if peer is None else peer.disk

    def is_short(self, member: ReplicaId) -> bool:
        """The disk of this replica is running full, or is full."""
        return self.disk_of(member.node) is not DiskLevel.AMPLE

    def on_heartbeat(
        self, sender: PeerInfo, beat: NodeHeartbeat
    ) -> tuple[NodeHeartbeatAck, list[tuple[GroupId, Term]]]:
        """Take a heartbeat; returns the answer, and (group, term) of leaderships that are news here."""
        peer = self._peers.get(sender.node)
        if peer is None:
            return NodeHeartbeatAck(beat.sequence, 0, {}), []
        peer.disk = beat.disk
        news: list[tuple[GroupId, Term]] = []
        if beat.led is not None:
            news = [(g, t) for g, t in sorted(beat.led.terms.items()) if peer.held.get(g) != t]
            self.shaken(sender.node)
            peer.held, peer.held_version = dict(beat.led.terms), beat.led.version
            peer.disputed = {}
            for group in peer.held:
                self._dispute(peer, group)
        # Otherwise, if it leads other groups than we know of, the answer names the old version and the list follows.
        return NodeHeartbeatAck(beat.sequence, peer.held_version, dict(sorted(peer.disputed.items()))), news

    def term_changed(self, group: GroupId) -> None:
        """The term of this node's replica changed, or the replica came or went."""
        for peer in self._peers.values():
            if group in peer.held:
                self._dispute(peer, group)

    def _dispute(self, peer: _Peer, group: GroupId) -> None:
        local = self._local_term(group)
        if local is None or local > peer.held[group]:
            peer.disputed[group] = Term(0) if local is None else local
        else:
            peer.disputed.pop(group, None)

    # -- questions ---------------------------------------------------------------------------------------------------

    def leader_contact(self, group: GroupId, term: Term, leader: ReplicaId) -> Tick:
        """When `leader` was last known to lead `group` in `term`."""
        peer = self._peers.get(leader.node)
        if peer is None or peer.store != leader.store or peer.held.get(group) != term:
            return NEVER
        return peer.heard

    def follower_contact(self, group: GroupId, term: Term, member: ReplicaId) -> Tick:
        """When `member` was last known to follow this node's leadership of `group` in `term`."""
        peer = self._peers.get(member.node)
        if peer is None or peer.store != member.store or peer.led.get(group) != term:
            return NEVER
        if group in peer.disputes or peer.acked_version < peer.added_in[group]:
            return NEVER
        return peer.acked

    def is_steady(self, node: NodeId, since: Tick) -> bool:
        """`node` was heard, and has acknowledged a heartbeat, at `since` or later."""
        peer = self._peers.get(node)
        return peer is not None and min(peer.heard, peer.acked) >= since

    def last_heard(self, node: NodeId) -> Tick:
        """When any frame of `node` arrived last."""
        peer = self._peers.get(node)
        return NEVER if peer is None else peer.heard

    def silence(self, node: NodeId, now: Tick) -> int:
        """Milliseconds since `node` was heard last; far more than any timeout if it never was."""
        return now - self.last_heard(node)

    def is_gone(self, member: ReplicaId, now: Tick, patience: int) -> bool:
        """Its process is known to be gone, or was not heard of for longer than `patience`."""
        return self.is_dead(member) or self.silence(member.node, now) > patience

    def store_of(self, node: NodeId) -> StoreId:
        """The disk that `node` last spoke for; 0 if it was never heard."""
        peer = self._peers.get(node)
        return StoreId(0) if peer is None else peer.store

    def boot_of(self, node: NodeId) -> BootCount:
        """Boot count that `node` last spoke with; 0 if it was never heard."""
        peer = self._peers.get(node)
        return BootCount(0) if peer is None else peer.boot
