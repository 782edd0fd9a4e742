"""One simulated node: a machine with a disk and a clock, and the process that runs on it, if one does.

The process is ``assembly.Assembly``, as ``server`` builds it, around simulated links, a simulated driver and a store in
memory; it forms its cluster by the real exchange of ``Identify``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from raftmq import status
from raftmq.assembly import Assembly
from raftmq.config import NodeConfig
from raftmq.controller.formation import empty_answer
from raftmq.controller.joining import join, known_formation
from raftmq.errors import NotReady
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, ReplicaId, StoreId, Term
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import (
    Channel,
    Frame,
    PeerInfo,
    PutEntries,
    PutReplica,
    ReplicaRow,
    SnapshotPart,
    StorageError,
    TruncateFrom,
    WriteOp,
)
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.installing import SnapshotOrder
from raftmq.sim.disk import DiskSpeed, SimDriver
from raftmq.sim.links import Links
from raftmq.sim.network import Network, Stream
from raftmq.sim.process import Agenda, Process, SimClock
from raftmq.storage.memory import MemoryStore

if TYPE_CHECKING:
    from raftmq.sim.calls import Call


class Watcher(Protocol):
    """Who looks at a node: invariants and trace."""

    def turned(self, process: NodeProcess, groups: set[GroupId]) -> None:
        """The process ran; `groups` made progress."""

    def failed(self, process: NodeProcess, error: BaseException) -> None:
        """Its disk failed: the process ends."""

    def booted(self, process: NodeProcess) -> None:
        """A process started, and its replicas have been read from disk."""


class _Observed(Assembly):
    """Remembers which replicas something happened to."""

    def __init__(self, *parts: Any) -> None:
        self.touched: set[GroupId] = set()
        self.orders: dict[GroupId, Term] = {}
        """In which term each group's newest snapshot was begun; it may be resumed in later ones."""
        self.resumed = 0
        self.ordered: Callable[[SnapshotOrder], None] = lambda order: None
        """Told of every order to install a snapshot."""
        super().__init__(*parts)

    def group_progressed(self, group: ReplicaGroup) -> None:
        super().group_progressed(group)
        self.touched.add(group.id)

    def snapshot_ordered(self, order: SnapshotOrder) -> None:
        super().snapshot_ordered(order)
        group = self.replicas.group(order.group)
        if group is not None and (order.from_index == 0 or order.group not in self.orders):
            self.orders[order.group] = group.node.term
        self.resumed += order.from_index > 0
        self.ordered(order)


class DurableState:
    """What one disk has promised, as seen by who told it to write: an independent account, for invariants."""

    def __init__(self) -> None:
        self.rows: dict[GroupId, ReplicaRow] = {}
        self.last: dict[int, LogIndex] = {}
        """Last durable log index, by replica generation."""

    def note(self, ops: list[WriteOp]) -> None:
        """`ops` have become durable."""
        for op in ops:
            match op:
                case PutReplica(row):
                    self.rows[row.group] = row
                case PutEntries(generation, entries):
                    self.last[generation] = entries[-1].index
                case TruncateFrom(generation, index, _):
                    self.last[generation] = min(self.last.get(generation, LogIndex(0)), LogIndex(index - 1))

    def reread(self, store: MemoryStore) -> None:
        """A process has opened the disk: what it found is what there is."""
        self.rows = {row.group: row for row in store.replicas()}
        self.last = {}
        for row in self.rows.values():
            for entry in store.scan_headers(row.generation, row.raft_start):
                self.last[row.generation] = entry.index


class SimNode:
    """The machine. ``process`` is None while nothing runs on it."""

    def __init__(
        self, config: NodeConfig, agenda: Agenda, network: Network, rng: Random, watcher: Watcher, store_id: StoreId
    ) -> None:
        self.number = config.node_id
        self.config = config
        self.clock = SimClock(agenda, rng.randint(1, 10**10))
        self.clock_rate = 1000
        """How fast the clock runs while nobody tampers with it, in thousandths."""
        self.speed = DiskSpeed()
        self.store = MemoryStore(node=config.node_id, store_id=store_id)
        self.durable = DurableState()
        self.process: NodeProcess | None = None
        self.tune: Callable[[Assembly], None] = lambda assembly: None
        """Told of every assembly before it starts."""
        self.disks = 1
        """How many it has had so far."""
        self.losses = 0
        """How often its disk has lost what it synced."""
        self._has_started_since = True
        """Since its disk last lost something."""
        self._held: set[GroupId] = set()
        """Whose replicas were on the disk when it did."""
        self.graveyard: list[NodeProcess] = []
        """Kept, so that the garbage collector does not end their coroutines in the middle of the run."""
        self._agenda = agenda
        self._network = network
        self._rng = rng
        self._watcher = watcher
        self._is_first = True

    def boot(self) -> None:
        """Start the process."""
        assert self.process is None, f"node {self.number} runs already"
        if not self._is_first:
            self.store = self.store.reopen()
        self._is_first = False
        self._has_started_since = True
        self.durable.reread(self.store)
        self.process = NodeProcess(self, self._agenda, self._network, Random(self._rng.getrandbits(64)), self._watcher)
        self.process.start()

    def kill(self, *, silently: bool = False) -> None:
        """End the process, now. ``silently``: the machine goes with it, and tells nobody. The disk is left as it is:
        the caller decides what becomes of it."""
        process = self.process
        assert process is not None, f"node {self.number} does not run"
        process.kill()
        self.process = None
        self.graveyard.append(process)
        self._network.died(process, silently)
        for call in list(process.calls):
            if silently:
                call.lost()
            else:
                call.broken()
        process.calls.clear()

    def lose_tail(self, batches: int) -> bool:
        """Power is cut, and about so many synced batches are gone, far enough back to be noticed. False: too young."""
        lost = max(batches, self.store.unmarked + 1)
        if lost > self.store.losable:
            return False
        self._held |= self.durable.rows.keys()
        self.kill(silently=True)
        self.store.crash(lose_synced=lost)
        self._has_started_since = False
        self.losses += 1
        return True

    @property
    def assembly(self) -> _Observed | None:
        return None if self.process is None else self.process.assembly

    @property
    def has_ever_lost(self) -> bool:
        """Its disk has lost what it synced, or took the place of another one."""
        return self.losses > 0 or self.disks > 1

    @property
    def is_missed(self) -> bool:
        """Some replica is suspect, or not even there again, since the disk lost what it had synced."""
        rows = self.durable.rows
        return not self._has_started_since or any(group not in rows or rows[group].suspect for group in self._held)

    @property
    def is_halted(self) -> bool:
        """Some replica here takes no further part."""
        assembly = self.assembly
        return assembly is not None and any(group.halted for group in assembly.replicas.groups.values())

    @property
    def _processes(self) -> list[NodeProcess]:
        return [*self.graveyard, *([self.process] if self.process is not None else [])]

    @property
    def assemblies(self) -> list[_Observed]:
        """Of all processes that ever ran here."""
        return [process.assembly for process in self._processes if process.assembly is not None]

    @property
    def loop_events(self) -> int:
        """Timers that fired, syncs and reads done, over all processes."""
        drivers = [process.driver for process in self._processes if process.driver is not None]
        timers = sum(process.loop.timers_run for process in self._processes)
        return timers + sum(driver.syncs + driver.reads for driver in drivers)

    @property
    def catch_ups(self) -> int:
        """How often a follower needed entries from this disk."""
        return sum(process.driver.catch_ups for process in self._processes if process.driver is not None)

    @property
    def resumed(self) -> int:
        """How often this node went on with a snapshot that had broken off."""
        return sum(process.assembly.resumed for process in self._processes if process.assembly is not None)

    def describe(self) -> str:
        """For people: the process and its replicas."""
        process = self.process
        if process is None:
            return f"node {self.number}: down"
        head = f"node {self.number}: boot {process.info.boot}" + (" PAUSED" if process.is_paused else "")
        if process.assembly is None:
            return f"{head}, in no cluster yet: {process.waiting_for}"
        lines = [head]
        for group_id, group in process.assembly.replicas.groups.items():
            status_ = group.node.status()
            lines.append(
                f"    group {group_id}: {status_.role.value} term {status_.term} leader "
                f"{'-' if status_.leader is None else status_.leader.node} last {status_.last_index} "
                f"persisted {status_.persisted_index} commit {status_.commit_index} applied {status_.applied_index} "
                f"high watermark {group.machine.next_offset}"
                + (" SUSPECT" if status_.suspect else "")
                + (f" HALTED: {group.halted}" if group.halted else "")
            )
        return "\n".join(lines)


class NodeProcess(Process):
    """The process on a node, from one boot to its end."""

    def __init__(self, node: SimNode, agenda: Agenda, network: Network, rng: Random, watcher: Watcher) -> None:
        identity = node.store.identity
        name = f"n{node.number}.{identity.boot_count}" + "'" * (node.disks - 1)
        super().__init__(agenda, name, node.clock, rng)
        self.node = node
        self.number = node.number
        self.info = PeerInfo(NodeId(node.number), identity.store_id, identity.boot_count)
        self.assembly: _Observed | None = None
        self.driver: SimDriver | None = None
        self.links: Links | None = None
        self.is_formed = False
        self.waiting_for = "nothing asked yet"
        self.calls: dict[Call, None] = {}
        self._streams: dict[tuple[int, Channel], Stream] = {}
        self._boots: dict[ReplicaId, BootCount] = {}
        self._network = network
        self._watcher = watcher
        self._me = ReplicaId(NodeId(node.number), identity.store_id)
        self._seed = known_formation(node.store)

    def start(self) -> None:
        self.loop.create_task(self._guarded())

    async def _guarded(self) -> None:
        try:
            await self._main()  # made here: who is killed before its first step must leave no coroutine behind
        except StorageError as error:
            self._storage_failed(error)
        except Exception as error:  # noqa: BLE001  the end of the process's main coroutine is a finding
            self.loop.failures.append(error)

    async def _main(self) -> None:
        config, store = self.node.config, self.node.store
        formation = self._seed
        if formation is None:
            formation = await join(config, self._me, store, self.identify, self._waits)
            self._seed = formation
        self.driver = SimDriver(
            self, store, self.node.speed, Random(self.rng.getrandbits(64)), self._storage_failed, self.node.durable.note
        )
        links = self.links = Links(self._network, self, Random(self.rng.getrandbits(64)))
        assembly = _Observed(
            config, formation, store, links, self.driver, self.driver.wake, self.clock,
            Random(self.rng.getrandbits(64)), Random(f"secrets of {self.name}").randbytes,
        )  # fmt: skip
        assembly.touched = set(assembly.replicas.groups)
        self.node.tune(assembly)
        self.assembly = assembly
        self.is_formed = True
        self._watcher.booted(self)
        assembly.start()
        self.driver.start(assembly.replicas)
        await assembly.upkeep()

    def _waits(self, reason: str) -> None:
        self.waiting_for = reason

    def _storage_failed(self, error: BaseException) -> None:
        self._watcher.failed(self, error)

    def after_turn(self) -> None:
        assembly = self.assembly
        groups: set[GroupId] = set() if assembly is None else assembly.touched
        if assembly is not None and groups:
            assembly.touched = set()
        self._watcher.turned(self, groups)

    # -- what other nodes send ---------------------------------------------------------------------------------------

    def accept(self, stream: Stream) -> bool:
        """A hello arrived. Of two streams of one (node, channel) the newer one counts; an old boot is over."""
        peer = stream.dialer.source.info
        replica = ReplicaId(peer.node, peer.store)
        newest = self._boots.get(replica, 0)
        if peer.boot < newest:
            return False
        if peer.boot > newest:
            self._boots[replica] = peer.boot
            for channel in Channel:
                self._streams.pop((peer.node, channel), None)
        self._streams[peer.node, stream.dialer.channel] = stream
        return True

    def takes(self, stream: Stream) -> bool:
        """Frames of this stream are still wanted."""
        dialer = stream.dialer
        return self._streams.get((dialer.source.info.node, dialer.channel)) is stream

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        if self.assembly is not None:
            self.assembly.on_frame(peer, frame)

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        if self.assembly is not None:
            self.assembly.on_peer_up(node, channel)

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        if self.assembly is not None:
            self.assembly.on_peer_lost(node, boot)

    async def serve_forwarded(self, request: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
        if self.assembly is None:
            raise NotReady("this node is still starting")
        return await self.assembly.serve_forwarded(request)

    def send_snapshot(self, group: GroupId, from_index: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        """What the peer listener does. Raises RaftmqError."""
        if self.assembly is None:
            raise NotReady("this node is still starting")
        return self.assembly.snapshots.send(group, from_index)

    async def serve_client(self, method: str, request: bytes, remaining_ms: float) -> bytes:
        """What the client listener does. Raises RaftmqError."""
        if self.assembly is None:
            raise status.decode("UNAVAILABLE", "nobody listens yet", ())
        return await self.assembly.calls.serve(method, request, remaining_ms)

    # -- forming a cluster -------------------------------------------------------------------------------------------

    async def identify(
        self, host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
    ) -> peer_pb2.IdentifyResponse:
        """Ask who listens at an address. Raises RaftmqError."""
        node = NodeId(port - PEER_PORT)

        async def serve(target: NodeProcess) -> bytes:
            return target.identified(request).SerializeToString()

        data = await self._network.call(self, self.number, node, serve, timeout_s)
        return peer_pb2.IdentifyResponse.FromString(data)

    def identified(self, request: peer_pb2.IdentifyRequest) -> peer_pb2.IdentifyResponse:
        if self._seed is None:
            return empty_answer(self._me, self.node.config.cluster.seed_digest)
        return self._seed.answer(self._me) if self.assembly is None else self.assembly.identified(request)


PEER_PORT = 20_000
"""Node n is dialled at this port plus n."""
CLIENT_PORT = 10_000
