"""Composition root: the only module that builds the concrete classes of a node, starts them and stops them in order.

    start   disk ─> peer listener ─> formation ─> transport ─> replicas ─> controller ─> client listener ─> caretaker
    stop    caretaker ─> leadership handed over ─> client listener ─> replicas ─> transport, peer listener ─> disk

A node that cannot trust its disk any more stops at once, without the order: see ``Node.failed``.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import structlog
import uvloop
from structlog.typing import EventDict

from raftmq.broker.admin_service import AdminService
from raftmq.broker.broker_service import BrokerService, ServerFacts
from raftmq.broker.calls import Calls
from raftmq.broker.cluster_service import ClusterService
from raftmq.broker.forwarding import Forwarder
from raftmq.broker.interceptor import CallCounts, guarded
from raftmq.broker.server import FORWARD_METHOD, ClientServer
from raftmq.broker.view import View
from raftmq.config import ClusterConfig, NodeConfig
from raftmq.controller.caretaker import Caretaker
from raftmq.controller.controller import Controller
from raftmq.controller.formation import Formation, empty_answer
from raftmq.controller.joining import join, known_formation
from raftmq.controller.reconciler import reconcile
from raftmq.errors import NotReady, RaftmqError
from raftmq.ids import CONTROLLER_GROUP, BootCount, GroupId, NodeId, ReplicaId
from raftmq.internal.v1 import peer_pb2
from raftmq.metadata.events import VERSION, NodeRegistered
from raftmq.metadata.image import MetadataImage
from raftmq.ports import Channel, Frame, LeaderNotice, PeerInfo, StorageRefused
from raftmq.raft.config import RaftConfig
from raftmq.raft.types import Membership
from raftmq.replica.driver import Driver, SystemClock
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.host import ReplicaHost
from raftmq.replica.manager import Events, Replicas, ReplicaSettings
from raftmq.rpc.calls import identify
from raftmq.rpc.outbox import OutboxLimits
from raftmq.rpc.peer_stream import join_address
from raftmq.rpc.server import PeerServer
from raftmq.rpc.transport import GrpcTransport
from raftmq.storage.rocks import RocksStore
from raftmq.version import __version__

_log = structlog.get_logger(__name__)

EXIT_STORAGE_FAILED = 70
"""Exit status after a failed write or sync (EX_SOFTWARE of sysexits.h): what is on disk must be looked at anew."""
CLIENT_GRACE_S = 2.0
"""How long calls that are under way may take when the node stops."""
EXIT_REFUSED = 78
"""Exit status where the node must not start like this (EX_CONFIG): the text on stderr says what to do."""


class _Inbox:
    """``rpc.Receiver`` that can be given its replicas later: the peer listener is up before there are any."""

    def __init__(self) -> None:
        self.replicas: Replicas | None = None
        self.transport: GrpcTransport | None = None
        self._boots: dict[NodeId, BootCount] = {}

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        if self.replicas is not None:
            self.replicas.on_frame(peer, frame)
        if self._boots.get(peer.node) != peer.boot and self.transport is not None:
            # It has just come up, so our own links to it need not wait out their pause.
            self._boots[peer.node] = peer.boot
            self.transport.hurry(peer.node)

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        if self.replicas is not None:
            self.replicas.on_peer_up(node, channel)

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        _log.warning("peer process is gone", node=node, boot=boot)
        if self.replicas is not None:
            self.replicas.on_peer_lost(node, boot)


class Node(Events):
    """One running node. ``failed`` is set when its disk failed: the process must end at once."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._inbox = _Inbox()
        self._formation: Formation | None = None
        self._image = MetadataImage()
        self._image_due = False
        self._serving = False
        self._counts = CallCounts()
        self._closers = AsyncExitStack()
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    # -- starting ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Serve. Returns when clients are answered. Raises StorageRefused, OSError (a port is taken)."""
        config = self._config
        self._store = await asyncio.to_thread(RocksStore, config.data_directory, node=config.node_id)
        self._closers.push_async_callback(asyncio.to_thread, self._store.close)
        identity = self._store.identity
        self._me = ReplicaId(config.node_id, identity.store_id)
        self._info = PeerInfo(config.node_id, identity.store_id, identity.boot_count)
        _log.info("disk opened", store=f"{identity.store_id:x}", boot=identity.boot_count, suspect=identity.suspect)
        if identity.suspect:
            _log.warning("this disk may have lost synced data; this node votes again in a group when it has caught up")
        self._peers = PeerServer(
            str(config.peer_bind),
            self._info,
            "",
            self._inbox,
            guarded(FORWARD_METHOD, self._serve_forwarded, self._counts),
            self._identified,
        )
        await self._peers.start()
        self._closers.push_async_callback(self._peers.close)
        self._formation = known_formation(self._store) or await self._join()
        self._peers.cluster_id = self._formation.cluster_id
        self._start_replicas(self._formation)
        self._closers.push_async_callback(self._transport.close)
        self._closers.push_async_callback(self._driver.stop)
        await self._client_server.start()
        self._closers.push_async_callback(self._client_server.stop, CLIENT_GRACE_S)
        self._serving = True
        caretaker = asyncio.create_task(self._care.run(), name="caretaker")
        self._closers.push_async_callback(self._hand_over)
        self._closers.callback(caretaker.cancel)
        _log.info("serving clients", address=str(config.client_bind), cluster=self._formation.cluster_id)

    async def _join(self) -> Formation:
        async def ask(
            host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
        ) -> peer_pb2.IdentifyResponse:
            return await identify(join_address(host, port), request, timeout_s)

        return await join(
            self._config, self._me, self._store, ask, lambda reason: _log.info("not in a cluster yet", reason=reason)
        )

    def _start_replicas(self, formation: Formation) -> None:
        config, cluster = self._config, self._config.cluster
        rng = random.Random()
        self._transport = GrpcTransport(
            self._info, formation.cluster_id, self._inbox, rng, OutboxLimits(max_bytes=cluster.limits.peer_queue_bytes)
        )
        self._driver = Driver(self._store, self._storage_failed)
        self._replicas = Replicas(
            self._me, _settings(config), self._store, self._transport, SystemClock(), rng, self._driver.wake, self
        )
        self._host = ReplicaHost(self._replicas, self._driver)
        forwarder = Forwarder(self._forward)
        self._controller = Controller(cluster, formation.cluster_id, self._host, forwarder)
        view = View(self._host, self._controller)
        facts = ServerFacts(
            self._info.boot,
            cluster.limits.max_message_bytes,
            cluster.limits.max_batch_bytes,
            cluster.timeouts.produce_timeout_ms,
        )
        entries = {
            **BrokerService(view, forwarder, facts, rng).entries(),
            **AdminService(view).entries(),
            **ClusterService(view, self._store).entries(),
        }
        self._calls = Calls(self._host, self._controller, forwarder, entries, rng)
        self._client_server = ClientServer(
            str(config.client_bind),
            self._calls,
            max_message_bytes=cluster.limits.max_message_bytes,
            counts=self._counts,
        )
        self._care = Caretaker(
            self._controller, self._host, self._registration(), forwarder, cluster.timeouts.session_timeout_ms
        )
        self._inbox.replicas, self._inbox.transport = self._replicas, self._transport
        self._follow_image()
        self._driver.start(self._replicas)
        if self._replicas.group(CONTROLLER_GROUP) is None:
            voters = frozenset(formation.voters) if self._me in formation.voters else frozenset()
            self._replicas.create(CONTROLLER_GROUP, Membership(voters), eager=self._me == min(formation.voters))

    def _registration(self) -> NodeRegistered:
        config = self._config
        client, peer = config.client_address, config.peer_address
        return NodeRegistered(
            id=self._me,
            boot=self._info.boot,
            host=client.host,
            client_port=client.port,
            peer_host=peer.host,
            peer_port=peer.port,
            http_port=config.entry.http_port,
            rack=config.rack,
            max_cluster_version=VERSION,
        )

    # -- what other nodes ask ------------------------------------------------------------------------------------------

    async def _identified(self, _request: peer_pb2.IdentifyRequest) -> peer_pb2.IdentifyResponse:
        if self._formation is None:
            return empty_answer(self._me, self._config.cluster.seed_digest)
        return self._formation.answer(self._me)

    async def _serve_forwarded(self, call: peer_pb2.ForwardRequest, _context: object) -> peer_pb2.ForwardResponse:
        if not self._serving:
            raise NotReady("this node is still starting")
        if call.method.startswith("/"):
            response = await self._calls.serve(call.method, call.request, call.remaining_ms or None, forwarded=True)
        else:
            response = await self._controller.handle(call.method, call.request, call.remaining_ms)
        return peer_pb2.ForwardResponse(response=response)

    async def _forward(self, node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes:
        assert self._formation is not None
        call = peer_pb2.ForwardRequest(
            cluster_id=self._formation.cluster_id,
            from_node=self._me.node,
            method=method,
            request=request,
            remaining_ms=remaining_ms,
        )
        response = await self._transport.forward(node, call, remaining_ms / 1000)
        return response.response

    # -- what changes --------------------------------------------------------------------------------------------------

    def leader_known(self, notice: LeaderNotice) -> None:
        if self._serving:
            self._controller.tell_news()

    def group_progressed(self, group: ReplicaGroup) -> None:
        if group.id == CONTROLLER_GROUP and not self._image_due:
            # Not from inside the pump: following the image creates and removes groups.
            self._image_due = True
            asyncio.get_running_loop().call_soon(self._follow_image)

    def _follow_image(self) -> None:
        self._image_due = False
        image = self._controller.image
        if image is not self._image or not self._serving:
            self._image = image
            addresses = {node: self._address(node, image) for node in {*self._config.peers, *image.nodes}}
            self._transport.set_peers({node: a for node, a in addresses.items() if node != self._me.node})
            self._replicas.set_nodes(sorted(addresses))
            reconcile(image, self._replicas)
        self._controller.tell_news()

    def _address(self, node: NodeId, image: MetadataImage) -> tuple[str, int]:
        """Where to dial a node: the file's override, else what the node registered, else the file."""
        registered = image.nodes.get(node)
        if node in self._config.entry.peer_overrides or registered is None:
            address = self._config.dial(node) if node != self._me.node else self._config.peer_address
            return address.host, address.port
        return registered.peer_host, registered.peer_port

    def _storage_failed(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    # -- stopping ------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Hand leadership over, answer what is under way, close the disk. Bounded by ``shutdown_timeout_ms``."""
        await self._closers.aclose()

    async def _hand_over(self) -> None:
        """Ask an in-sync replica of every group led here to take over, and wait until they have."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.cluster.timeouts.shutdown_timeout_ms / 1000
        stuck: set[GroupId] = set()
        while loop.time() < deadline:
            led = [group for group in self._host.led_groups() if group not in stuck]
            if not led:
                return
            for group in led:
                try:
                    self._host.transfer(group, None)
                except RaftmqError as error:
                    _log.info("leadership stays until the end", group=group, reason=error.message)
                    stuck.add(group)
            await asyncio.sleep(0.05)


def _settings(config: NodeConfig) -> ReplicaSettings:
    timeouts, limits = config.cluster.timeouts, config.cluster.limits
    return ReplicaSettings(
        raft=RaftConfig(
            election_timeout=timeouts.election_timeout_ms,
            heartbeat_interval=timeouts.heartbeat_interval_ms,
            group_heartbeats=False,
        ),
        replica_lag_max=timeouts.replica_lag_max_ms,
        tail_bytes=limits.tail_cache_bytes,
    )


# -- the process
# ---------------------------------------------------------------------------------------------------------


async def _main(config: NodeConfig) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    node = Node(config)
    starting = asyncio.create_task(node.start(), name="start")
    stop = asyncio.create_task(stopping.wait(), name="stop")
    ends: set[asyncio.Future[Any]] = {stop, node.failed}
    await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if node.failed.done():
        _fail_stop(node.failed.result())
    _log.info("stopping")
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
    await node.stop()
    _log.info("stopped")
    return 0


def _fail_stop(error: BaseException) -> None:
    """After a failed write nothing that this process believes of its disk is certain: it ends here and now."""
    _log.critical("storage failed: this node stops", error=str(error) or repr(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_STORAGE_FAILED)


def run(cluster: ClusterConfig, node_id: NodeId) -> int:
    """Run one node until it is told to stop (SIGTERM, SIGINT). Returns the exit status."""
    if not __debug__:
        print("raftmq does not run under python -O: its assertions guard the data", file=sys.stderr)
        return EXIT_REFUSED
    config = cluster.node(node_id)
    _configure_logging(node_id)
    os.umask(0o077)
    _log.info("starting", version=__version__, pid=os.getpid(), data=str(config.data_directory))
    try:
        return uvloop.run(_main(config))
    except (StorageRefused, OSError) as refusal:
        print(f"raftmq: node {node_id} cannot start: {refusal}", file=sys.stderr)
        return EXIT_REFUSED


def _configure_logging(node_id: NodeId) -> None:
    def with_node(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["node"] = node_id
        return event

    structlog.configure(
        processors=[
            with_node,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "node", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
