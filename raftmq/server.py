"""Composition root of a real node: the only module that builds the concrete classes, and starts and stops them in
order.

    start   http ─> disk ─> peer listener ─> formation ─> transport ─> assembly ─> storage thread ─> clients ─> upkeep
    stop    upkeep ─> leaderships handed over ─> clients ─> storage thread ─> transport, peer listener ─> disk ─> http

A node that cannot trust its disk any more stops at once, without the order: see ``Node.failed``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any

import structlog
import uvloop

from raftmq.assembly import Assembly
from raftmq.broker.server import ClientServer
from raftmq.config import ClusterConfig, NodeConfig
from raftmq.controller.formation import Formation, empty_answer
from raftmq.controller.joining import join, known_formation
from raftmq.errors import NotReady
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, ReplicaId
from raftmq.internal.v1 import peer_pb2
from raftmq.observe.logs import LogSink, logging_to
from raftmq.observe.observed import Observed
from raftmq.observe.pages import Pages
from raftmq.ports import Channel, Frame, PeerInfo, SnapshotPart, StorageError, StorageRefused
from raftmq.replica.budget import MemoryWatch, resident_bytes
from raftmq.replica.driver import Driver, SystemClock
from raftmq.replica.space import SpaceWatch, Watermark, measure
from raftmq.rpc.calls import identify
from raftmq.rpc.interceptor import CallCounts
from raftmq.rpc.outbox import OutboxLimits
from raftmq.rpc.peer_stream import join_address
from raftmq.rpc.server import PeerServer
from raftmq.rpc.transport import GrpcTransport
from raftmq.storage.rocks import RocksStore
from raftmq.version import __version__

_log = structlog.get_logger(__name__)

EXIT_STORAGE_FAILED = 70
"""Exit status after a failed write or sync, or a broken invariant (EX_SOFTWARE of sysexits.h): what is on disk must be
looked at anew."""
EXIT_REFUSED = 78
"""Exit status where the node must not start like this (EX_CONFIG): the text on stderr says what to do."""
CLIENT_GRACE_S = 2.0
"""How long calls that are under way may take when the node stops."""


class Node:
    """One running node, and ``rpc.Receiver``: the peer listener is up before there is an assembly to receive for it.

    ``failed`` is set when its disk failed, or an invariant of its pump or upkeep: the process must end at once.
    """

    def __init__(self, config: NodeConfig, lines_dropped: Callable[[], int]) -> None:
        self._config = config
        self._formation: Formation | None = None
        self._assembly: Assembly | None = None
        self._driver: Driver | None = None
        self._counts = CallCounts()
        self._observed = Observed(config, self._counts, lines_dropped)
        self._closers = AsyncExitStack()
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    # -- start and stop ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Return when clients are served. Raises StorageRefused, OSError (a port is taken)."""
        config, closers, observed = self._config, self._closers, self._observed
        pages = Pages(observed)
        await pages.start()
        closers.push_async_callback(pages.close)
        store = await asyncio.to_thread(RocksStore, config.data_directory, node=config.node_id)
        closers.push_async_callback(asyncio.to_thread, store.close)
        identity = observed.identity = store.identity
        self._me = ReplicaId(config.node_id, identity.store_id)
        _log.info("disk opened", store=f"{identity.store_id:x}", boot=identity.boot_count, suspect=identity.suspect)
        if identity.suspect:
            _log.warning("this disk may have lost synced data: no votes in a group until it has caught up there")
        info = PeerInfo(config.node_id, identity.store_id, identity.boot_count)
        peers = await self._listen_to_peers(info)
        self._formation = known_formation(store) or await join(config, self._me, store, _identify, self._waiting)
        observed.formation = self._formation
        peers.cluster_id = self._formation.cluster_id
        assembly = await self._assemble(store, info, self._formation)
        client_server = ClientServer(
            str(config.client_bind),
            assembly.calls,
            max_message_bytes=config.cluster.limits.max_message_bytes,
            counts=self._counts,
            budget=assembly.host.intake.budget,
            reflection=config.cluster.reflection,
        )
        await client_server.start()
        closers.push_async_callback(client_server.stop, CLIENT_GRACE_S)
        closers.push_async_callback(assembly.hand_over)
        closers.callback(client_server.leave)
        upkeep = asyncio.create_task(assembly.upkeep(), name="upkeep")
        upkeep.add_done_callback(self._upkeep_ended)
        closers.callback(upkeep.cancel)
        observed.is_serving = True
        _log.info("serving clients", address=str(config.client_bind), cluster=self._formation.cluster_id)

    def _waiting(self, reason: str) -> None:
        self._observed.waiting = reason
        _log.info("not in a cluster yet", reason=reason)

    async def _listen_to_peers(self, info: PeerInfo) -> PeerServer:
        bind = str(self._config.peer_bind)
        peers = PeerServer(bind, info, "", self, self._forwarded, self._identified, self._snapshot, self._counts)
        await peers.start()
        self._observed.peers = peers
        self._closers.push_async_callback(peers.close)
        return peers

    async def _assemble(self, store: RocksStore, info: PeerInfo, formation: Formation) -> Assembly:
        limits = OutboxLimits(max_bytes=self._config.cluster.limits.peer_queue_bytes)
        rng = random.Random()
        transport = self._observed.transport = GrpcTransport(info, formation.cluster_id, self, rng, limits)
        self._closers.push_async_callback(transport.close)
        driver = self._driver = self._observed.driver = Driver(store, self._failed)
        assembly = Assembly(self._config, formation, store, transport, driver, driver.wake, SystemClock(), rng)
        self._assembly = assembly
        assembly.start()
        driver.start(assembly.replicas)
        self._observed.assembly = assembly
        self._closers.push_async_callback(driver.stop)
        space = self._observed.space = self._watch_space(store, assembly, driver)
        self._closers.push_async_callback(space.stop)
        await space.start()
        memory = MemoryWatch(assembly.host.intake.budget, resident_bytes)
        self._closers.callback(memory.stop)
        memory.start()
        return assembly

    def _watch_space(self, store: RocksStore, assembly: Assembly, driver: Driver) -> SpaceWatch:
        limits = self._config.cluster.limits
        return SpaceWatch(
            partial(measure, self._config.data_directory),
            Watermark(limits.free_space_percent, limits.free_space_bytes),
            assembly.replicas.heartbeats.set_disk,
            store.reclaim,
            driver.fail,
        )

    async def stop(self) -> None:
        """Hand leadership over, answer what is under way, close the disk. Bounded by ``shutdown_timeout_ms``."""
        self._observed.is_stopping = True
        await self._closers.aclose()

    def _failed(self, error: BaseException) -> None:
        self._observed.failure = str(error) or repr(error)
        if not self.failed.done():
            self.failed.set_result(error)

    def _upkeep_ended(self, upkeep: asyncio.Task[None]) -> None:
        """A node whose upkeep is over would go on to serve without ever registering, balancing or expiring again."""
        if not self._observed.is_stopping:
            error = None if upkeep.cancelled() else upkeep.exception()
            self._failed(error or RuntimeError("the upkeep of this node has ended"))

    # -- what other nodes ask ----------------------------------------------------------------------------------------

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        if self._assembly is not None and self._driver is not None:
            with self._driver.fatal():
                self._assembly.on_frame(peer, frame)

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        if self._assembly is not None and self._driver is not None:
            with self._driver.fatal():
                self._assembly.on_peer_up(node, channel)

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        if self._assembly is not None and self._driver is not None:
            with self._driver.fatal():
                self._assembly.on_peer_lost(node, boot)

    async def _identified(self, request: peer_pb2.IdentifyRequest) -> peer_pb2.IdentifyResponse:
        if self._formation is None:
            return empty_answer(self._me, self._config.cluster.seed_digest)
        return self._formation.answer(self._me) if self._assembly is None else self._assembly.identified(request)

    async def _snapshot(self, group: GroupId, from_index: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        if self._assembly is None:
            raise NotReady("this node is still starting")
        async with aclosing(self._assembly.snapshots.send(group, from_index)) as parts:
            async for part in parts:
                yield part

    async def _forwarded(self, call: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
        if self._assembly is None:
            raise NotReady("this node is still starting")
        return await self._assembly.serve_forwarded(call)


async def _identify(
    host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
) -> peer_pb2.IdentifyResponse:
    return await identify(join_address(host, port), request, timeout_s)


# -- the process -----------------------------------------------------------------------------------------------------


async def _main(config: NodeConfig, sink: LogSink) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    node = Node(config, lambda: sink.dropped)
    starting = asyncio.create_task(node.start(), name="start")
    stop = asyncio.create_task(stopping.wait(), name="stop")
    ends: set[asyncio.Future[Any]] = {stop, node.failed}
    await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            starting.result()
            _spare_the_collector()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if node.failed.done():
            _fail_stop(node.failed.result(), sink)
        _log.info("stopping")
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
    finally:
        await node.stop()
    if node.failed.done():
        _fail_stop(node.failed.result(), sink)
    _log.info("stopped")
    return 0


def _spare_the_collector() -> None:
    """What was made by now stays, and need not be looked at again. Nothing on the way of a record makes cycles, so the
    rest may be looked at more seldom than Python would: with many partitions a look takes tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _fail_stop(error: BaseException, sink: LogSink) -> None:
    """After a failed write, or with a broken invariant, nothing that this process believes of its disk is certain:
    it ends here and now."""
    try:
        if isinstance(error, StorageError):
            _log.critical("storage failed: this node stops", error=str(error) or repr(error))
        else:
            trace = "".join(traceback.format_exception(error))
            _log.critical("a broken invariant: this node stops", error=repr(error), trace=trace)
        sink.close()
    finally:
        os._exit(EXIT_STORAGE_FAILED)  # whatever the disk of the log says


def run(cluster: ClusterConfig, node_id: NodeId) -> int:
    """Run one node until it is told to stop (SIGTERM, SIGINT). Returns the exit status."""
    if not __debug__:
        print("raftmq does not run under python -O: its assertions guard the data", file=sys.stderr)
        return EXIT_REFUSED
    config = cluster.node(node_id)
    os.umask(0o077)
    with logging_to(sys.stderr.fileno(), node_id) as sink:
        _log.info("starting", version=__version__, pid=os.getpid(), data=str(config.data_directory))
        try:
            return uvloop.run(_main(config, sink))
        except (StorageRefused, OSError) as refusal:
            print(f"raftmq: node {node_id} cannot start: {refusal}", file=sys.stderr)
            return EXIT_REFUSED
        except StorageError as failure:
            print(f"raftmq: node {node_id} cannot use its data directory: {failure}", file=sys.stderr)
            return EXIT_STORAGE_FAILED
