"""A node without the outside world: replicas, controller and calls, wired together.

``server`` puts gRPC, RocksDB and a process around it; ``sim`` puts virtual time, a scripted network and a disk in
memory around the very same thing.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

import structlog

from raftmq.broker import Forwarder, RoutingCounts, ServerFacts, assemble
from raftmq.broker.lag_watch import LagWatch
from raftmq.broker.leaders import Leaders
from raftmq.broker.offsets import Offsets
from raftmq.broker.queues.dead_letters import DeadLetters
from raftmq.broker.view import View
from raftmq.config import NodeConfig
from raftmq.controller.acquaintances import Acquaintances
from raftmq.controller.caretaker import Caretaker
from raftmq.controller.controller import Controller
from raftmq.controller.formation import Formation
from raftmq.controller.groups import GROUP_METHODS, Groups
from raftmq.controller.operations import Operations
from raftmq.controller.reconciler import Reconciler
from raftmq.coordinator.coordinator import Coordinator
from raftmq.coordinator.positions import READ_POSITIONS, Positions
from raftmq.errors import NotReady, RaftmqError
from raftmq.ids import CONTROLLER_GROUP, BootCount, GroupId, LogIndex, NodeId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.metadata.events import NodeRegistered
from raftmq.metadata.features import CLUSTER_VERSION, DRAIN_SHARED
from raftmq.metadata.image import MetadataImage
from raftmq.ports import Channel, Clock, Frame, LeaderNotice, PeerInfo, SnapshotPart, Store
from raftmq.raft.config import RaftConfig
from raftmq.raft.types import Membership
from raftmq.replica.answers import BatchReader
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.host import ReplicaHost
from raftmq.replica.installing import SnapshotOrder
from raftmq.replica.leading import Events
from raftmq.replica.manager import Replicas
from raftmq.replica.queues.host import QueueHost
from raftmq.replica.queues.line import Sharing
from raftmq.replica.queues.upkeep import QueueUpkeep, Rules
from raftmq.replica.settings import ReplicaSettings
from raftmq.replica.snapshots import LogReader, SnapshotReceiver, SnapshotSender

_log = structlog.get_logger(__name__)

COMMIT_NEWS_DELAY_MS = 10
"""See ``RaftConfig``: with one record in flight, half of a partition's messages would tell of nothing but a commit."""


class Links(Protocol):
    """What a node needs of its connections to the others: ``ports.Transport``, peers and forwarded calls."""

    def send(self, node: NodeId, channel: Channel, frame: Frame) -> None: ...
    def set_peers(self, peers: Mapping[NodeId, tuple[str, int]]) -> None: ...
    def hurry(self, node: NodeId) -> None: ...
    async def forward(
        self, node: NodeId, request: peer_pb2.ForwardRequest, timeout_s: float
    ) -> peer_pb2.ForwardResponse: ...
    async def identify(
        self, host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
    ) -> peer_pb2.IdentifyResponse: ...
    def fetch_snapshot(
        self, node: NodeId, group: GroupId, from_index: LogIndex
    ) -> AsyncGenerator[SnapshotPart, None]: ...


class Reader(BatchReader, LogReader, Protocol):
    """Reads the disk off the loop."""


@dataclass(slots=True)
class Elections:
    """What this node's replicas went through since the start, over all groups."""

    campaigns: int = 0
    """Terms in which votes were asked for here."""
    won: int = 0
    leaderships_ended: int = 0
    halts: int = 0
    started_over: int = 0
    """Replicas that were found damaged, and get everything from the others again."""


class Assembly(Events):
    """Also ``ports.Receiver``: what arrives from other nodes is given to it.

    ``start`` must be called once, before anything else; ``upkeep`` then runs for as long as the node does.
    """

    def __init__(
        self,
        config: NodeConfig,
        formation: Formation,
        store: Store,
        links: Links,
        reader: Reader,
        wake: Callable[[], None],
        clock: Clock,
        rng: Random,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        identity = store.identity
        self.me = ReplicaId(config.node_id, identity.store_id)
        self.elections = Elections()
        self._config = config
        self._formation = formation
        self._links = links
        self._image = MetadataImage()
        self._image_due = False
        self._started = False
        self._boots: dict[NodeId, BootCount] = {}
        self._addresses: dict[NodeId, tuple[str, int]] = {}
        self.replicas = Replicas(self.me, settings(config), store, links, clock, rng, wake, self)
        cluster = config.cluster
        self.snapshots = SnapshotSender(self.replicas, reader, cluster.limits.snapshot_bytes_per_s)
        self.received = SnapshotReceiver(self.replicas, links.fetch_snapshot)
        limits, timeouts = cluster.limits, cluster.timeouts
        self.host = ReplicaHost(self.replicas, reader, clock, limits.produce_memory_bytes, limits.memory_bytes)
        self.queues = QueueHost(self.host, clock, entropy, self._sharing)
        self._queue_upkeep = QueueUpkeep(self.queues, self._queue_rules, self._ruled, limits.queue_held_bytes)
        forwarder = Forwarder(self._forward)
        self.controller = Controller(cluster, formation.cluster_id, self.host, forwarder)
        self._reconciler = Reconciler(self.replicas, self.controller.is_current)
        facts = ServerFacts(
            identity.boot_count, limits.max_message_bytes, limits.max_batch_bytes, timeouts.produce_timeout_ms
        )
        registration = _registration(config, self.me, identity.boot_count)
        self._caretaker = Caretaker(
            self.controller, self.host, registration, forwarder, clock, cluster.timeouts.session_timeout_ms
        )
        self._acquaintances = self._get_acquainted()
        self._groups = Groups(self.host, forwarder, clock)
        self.operations = Operations(
            self.controller, self.host, self._groups, self._caretaker.metadata_group, links.identify, clock
        )
        self.routed = RoutingCounts()
        self.coordinator = Coordinator(
            self.host, lambda: self.controller.image, self.controller.is_current, clock, timeouts.offsets_retention_ms
        )
        self._positions = Positions(self.coordinator, self.host, forwarder, self.controller, clock)
        self._view = view = View(self.host, self.controller, self.queues)
        leaders = Leaders(view, forwarder, rng)
        self.lag = LagWatch(self.coordinator, Offsets(view, leaders), lambda: self.controller.image, clock)
        self.calls = assemble(
            self.host,
            self.queues,
            self.controller,
            self.operations,
            store,
            forwarder,
            facts,
            rng,
            self.coordinator,
            clock,
            self.routed,
        )
        self.dead_letters = DeadLetters(view, self.calls)

    @property
    def is_removed(self) -> bool:
        """An operator has removed this node from the cluster, as far as it was told."""
        return self._caretaker.is_removed

    def start(self) -> None:
        """Dial the others, and run what this disk holds; a new disk gets its replica of the controller's group."""
        self._started = True
        self._adopt(self.controller.image)
        if self.replicas.group(CONTROLLER_GROUP) is None:
            voters = frozenset(self._formation.voters)
            # One who joined later learns until the controller's leader has admitted it.
            first = Membership(voters, learners=frozenset({self.me}) - voters)
            self.replicas.create(CONTROLLER_GROUP, first, eager=self.me == min(voters))

    async def upkeep(self) -> None:
        """Register, fence, balance, drive operations, look after consumer groups and queues; until cancelled."""
        await asyncio.gather(
            self._caretaker.run(),
            self._acquaintances.run(),
            self.operations.run(),
            self.coordinator.run(),
            self._positions.run(),
            self.lag.run(),
            self._queue_upkeep.run(),
            self.dead_letters.run(),
        )

    # -- what other nodes send ---------------------------------------------------------------------------------------

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        self.replicas.on_frame(peer, frame)
        if self._boots.get(peer.node) != peer.boot:
            # It has just come up, so our own links to it need not wait out their pause.
            self._boots[peer.node] = peer.boot
            self._links.hurry(peer.node)

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        self.replicas.on_peer_up(node, channel)

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        _log.warning("process of a peer is gone", peer=node, boot=boot)
        self.replicas.on_peer_lost(node, boot)

    async def serve_forwarded(self, call: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
        """Answer a call that another node could not. Raises RaftmqError."""
        if not self._started:
            raise NotReady("this node is still starting")
        if call.method.startswith("/"):
            response = await self.calls.serve(call.method, call.request, call.remaining_ms or None, forwarded=True)
        elif call.method in GROUP_METHODS:
            response = await self._groups.handle(call.method, call.request, call.remaining_ms)
        elif call.method == READ_POSITIONS:
            response = await self._positions.handle(call.request, call.remaining_ms)
        else:
            response = await self.controller.handle(call.method, call.request, call.remaining_ms)
        return peer_pb2.ForwardResponse(response=response)

    async def _forward(self, node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes:
        call = peer_pb2.ForwardRequest(
            cluster_id=self._formation.cluster_id,
            from_node=self.me.node,
            method=method,
            request=request,
            remaining_ms=remaining_ms,
        )
        response = await self._links.forward(node, call, remaining_ms / 1000)
        return response.response

    # -- what changes ------------------------------------------------------------------------------------------------

    def leader_known(self, notice: LeaderNotice) -> None:
        if notice.leader == self.me.node and notice.in_sync:
            _log.info("replicas in sync", group=notice.group, term=notice.term, nodes=list(notice.in_sync))
        if self._started:
            self.controller.tell_news()

    def group_progressed(self, group: ReplicaGroup) -> None:
        if group.id == CONTROLLER_GROUP and not self._image_due and self._started:
            # Not from inside the pump: following the image creates and removes groups.
            self._image_due = True
            asyncio.get_running_loop().call_soon(self._follow_image)

    def snapshot_ordered(self, order: SnapshotOrder) -> None:
        self.received.ordered(order)

    def campaign_began(self, group: ReplicaGroup) -> None:
        self.elections.campaigns += 1
        _log.info("campaign", group=group.id, term=group.node.term)

    def leadership_began(self, group: ReplicaGroup) -> None:
        self.elections.won += 1
        _log.info("leadership began", group=group.id, term=group.node.term)

    def leadership_ended(self, group: ReplicaGroup) -> None:
        self.elections.leaderships_ended += 1
        _log.info("leadership ended", group=group.id, term=group.node.term)

    def replica_started_over(self, group: GroupId, reason: str) -> None:
        self.elections.started_over += 1
        _log.error("replica is damaged and starts over", group=group, reason=reason)

    def replica_halted(self, group: ReplicaGroup) -> None:
        self.elections.halts += 1
        _log.error("replica halted", group=group.id, term=group.node.term, reason=group.halted)

    def _follow_image(self) -> None:
        self._image_due = False
        image = self.controller.image
        if image is not self._image:
            self._adopt(image)
        self._reconciler.follow(image)
        self.controller.tell_news()

    def _sharing(self, group: GroupId) -> Sharing:
        image = self.controller.image
        found = image.partition(group)
        return Sharing(1 if found is None else len(found[0].partitions), image.cluster_version >= DRAIN_SHARED)

    def _queue_rules(self, group: GroupId) -> Rules | None:
        """Which queue groups a partition should know; None while this node's picture may be one of the past."""
        image = self.controller.image
        found = image.partition(group)
        if found is None or not self.controller.is_current():
            return None
        topic_id = found[0].topic_id
        groups = [one for _, one in sorted(image.queue_groups.items()) if one.topic_id == topic_id]
        return Rules(groups, image.next_queue_group_id)

    def _ruled(self) -> list[GroupId]:
        """Partitions of topics with queue groups."""
        image = self.controller.image
        topics = {one.topic_id for one in image.queue_groups.values()}
        found = [topic for topic in image.topics.values() if topic.topic_id in topics] if topics else []
        return [partition.group for topic in found for partition in topic.partitions]

    def _adopt(self, image: MetadataImage) -> None:
        self._image = image
        # Those that are being added or removed are dialled for as long as that takes.
        nodes = {*self._config.peers, *image.nodes, *image.addresses()} - {self.me.node}
        self._addresses = {node: self._address(node, image) for node in sorted(nodes)}
        strangers = {node: at for node, at in self._acquaintances.addresses.items() if node not in nodes}
        self._links.set_peers(self._addresses | strangers)
        self.replicas.set_nodes(sorted({*nodes, *strangers, self.me.node}))

    def _get_acquainted(self) -> Acquaintances:
        return Acquaintances(
            self._formation.cluster_id,
            self._formation.question(self._config.cluster.cluster, self.me),
            self._links.identify,
            lambda: self._addresses,
            lambda: self.controller.controller() is not None,
            lambda: self._adopt(self._image),
        )

    def _address(self, node: NodeId, image: MetadataImage) -> tuple[str, int]:
        """Where to dial a node: this node's override, else what the node registered, else the file."""
        registered = image.nodes.get(node)
        override = self._config.entry.peer_overrides.get(node)
        if override is not None:
            return override.host, override.port
        if registered is not None:
            return registered.peer_host, registered.peer_port
        if node in image.addresses():
            return image.addresses()[node]
        address = self._config.dial(node)
        return address.host, address.port

    def identified(self, request: peer_pb2.IdentifyRequest) -> peer_pb2.IdentifyResponse:
        """What this node says to ``Identify``: its cluster, and whether that knows the disk which asks."""
        sender = getattr(request, "from")  # a keyword in Python
        known = self.controller.image.admits(ReplicaId(NodeId(sender.node), StoreId(sender.store)))
        image = self.controller.image
        registered = {node: (one.peer_host, one.peer_port) for node, one in image.nodes.items()}
        return self._formation.answer(
            self.me, admits=known and self.controller.is_current(), nodes=registered | image.addresses()
        )

    # -- the end -----------------------------------------------------------------------------------------------------

    async def hand_over(self) -> None:
        """Ask an in-sync replica of every group led here to take over, and wait until they have."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.cluster.timeouts.shutdown_timeout_ms / 1000
        stuck: set[GroupId] = set()
        while loop.time() < deadline:
            led = [group for group in self.host.led_groups() if group not in stuck]
            if not led:
                return
            for group in led:
                try:
                    self.host.transfer(group, None)
                except RaftmqError as error:
                    _log.info("leadership stays until the end", group=group, reason=error.message)
                    stuck.add(group)
            await asyncio.sleep(0.05)


def settings(config: NodeConfig) -> ReplicaSettings:
    """The knobs of the replicas, from cluster.yml."""
    timeouts, limits = config.cluster.timeouts, config.cluster.limits
    return ReplicaSettings(
        raft=RaftConfig(
            election_timeout=timeouts.election_timeout_ms,
            heartbeat_interval=timeouts.heartbeat_interval_ms,
            group_heartbeats=False,
            commit_news_delay=COMMIT_NEWS_DELAY_MS,
        ),
        replica_lag_max=timeouts.replica_lag_max_ms,
        tail_bytes=limits.tail_cache_bytes,
    )


def _registration(config: NodeConfig, me: ReplicaId, boot: BootCount) -> NodeRegistered:
    client, peer = config.client_address, config.peer_address
    return NodeRegistered(
        id=me,
        boot=boot,
        host=client.host,
        client_port=client.port,
        peer_host=peer.host,
        peer_port=peer.port,
        http_port=config.entry.http_port,
        rack=config.rack,
        max_cluster_version=CLUSTER_VERSION,
    )
