"""A few nodes in one process under virtual time: the production pump on memory stores and a scripted network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random

from raftmq.errors import RaftmqError
from raftmq.ids import GroupId, LogIndex, NodeId, Offset, ReplicaId, StoreId, Tick
from raftmq.partition.queues.commands import Settle
from raftmq.ports import Channel, Frame, PeerInfo, SnapshotEntries, SnapshotPart, StorageError
from raftmq.raft.config import RaftConfig
from raftmq.raft.types import Membership
from raftmq.records.batch import check_batch, make_batch
from raftmq.records.loose import loosen
from raftmq.replica.cut import take_cut
from raftmq.replica.gathering import Request
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.installing import SnapshotOrder
from raftmq.replica.leading import Events
from raftmq.replica.manager import Replicas
from raftmq.replica.outbox import ReadOrder, ReadResult, Round
from raftmq.replica.produce import Leadership
from raftmq.replica.retention import Retention
from raftmq.replica.settings import ReplicaSettings
from raftmq.replica.waits import Ack, Acks
from raftmq.storage.memory import MemoryStore
from raftmq.v1 import types_pb2

GROUP = GroupId(1)


@dataclass
class Time:
    """Virtual time: every node's monotonic and wall clock."""

    now: int = 0

    def tick(self) -> Tick:
        return Tick(self.now)

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now


@dataclass
class Node:
    """One node's process and disk. ``up`` False: killed."""

    number: NodeId
    store: MemoryStore
    replicas: Replicas = field(init=False)
    up: bool = True
    epoch: int = 0
    wake: bool = False
    disk_free: int = 0

    @property
    def info(self) -> PeerInfo:
        identity = self.store.identity
        return PeerInfo(self.number, identity.store_id, identity.boot_count)

    @property
    def replica(self) -> ReplicaId:
        return ReplicaId(self.number, self.store.identity.store_id)


class Link:
    """``ports.Transport`` of one node, into the world."""

    def __init__(self, world: World, node: NodeId) -> None:
        self._world, self._node = world, node

    def send(self, node: NodeId, channel: Channel, frame: Frame) -> None:
        self._world.send(self._node, node, channel, frame)


class Fetching(Events):
    """Has snapshots fetched."""

    def __init__(self, world: World, node: Node) -> None:
        self._world, self._node = world, node

    def snapshot_ordered(self, order: SnapshotOrder) -> None:
        self._world.fetch(self._node, order)


class World:
    """Message delay 1 to 4 ms, sync delay 1 to 5 ms, drawn from the seed. ``cut`` holds directed links that drop."""

    def __init__(self, nodes: int = 3, seed: int = 1, tail_bytes: int = 1 << 20, held_bytes_max: int = 1 << 40) -> None:
        self.time = Time()
        self.rng = Random(seed)
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self._settings = ReplicaSettings(
            RaftConfig(election_timeout=1000, heartbeat_interval=100, group_heartbeats=False),
            tail_bytes=tail_bytes,
            held_bytes_max=held_bytes_max,
        )
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._last_arrival: dict[tuple[NodeId, NodeId, Channel], int] = {}
        self.nodes = {
            NodeId(n): Node(NodeId(n), MemoryStore(node=NodeId(n), store_id=StoreId(100 + n)))
            for n in range(1, nodes + 1)
        }
        self._retention = Retention()
        self.fetches: list[SnapshotOrder] = []
        self.parts_taken = 0
        self.slow_disk: dict[NodeId, int] = {}
        """What every sync takes longer, in milliseconds."""
        self.part_bytes = 20_000
        for node in self.nodes.values():
            self._boot(node)

    # -- life of nodes ---------------------------------------------------------------------------------------------

    def _boot(self, node: Node) -> None:
        node.epoch += 1
        node.up = True
        node.disk_free = self.time.now

        def wake() -> None:
            if not node.wake and node.up:
                node.wake = True
                self._at(0, node, lambda: self._round(node))

        node.replicas = Replicas(
            node.replica, self._settings, node.store, Link(self, node.number), self.time,
            Random(self.rng.getrandbits(64)), wake, Fetching(self, node),
        )  # fmt: skip
        node.replicas.set_nodes(list(self.nodes))
        node.replicas.upkeep.retention = {GROUP: self._retention}
        node.wake = False
        wake()
        self._tick_later(node)

    def crash(self, number: int, keep_unsynced: bool = False) -> None:
        """Kill a node; what was not synced is lost (or, on request, a prefix of it is kept)."""
        node = self.nodes[NodeId(number)]
        node.up = False
        node.epoch += 1
        node.store.crash(self.rng if keep_unsynced else None)

    def restart(self, number: int) -> None:
        node = self.nodes[NodeId(number)]
        node.store = node.store.reopen()
        self._boot(node)

    def create_group(self) -> None:
        members = frozenset(node.replica for node in self.nodes.values())
        for node in self.nodes.values():
            node.replicas.create(GROUP, Membership(members), eager=node.number == 1)

    def retain(self, retention: Retention) -> None:
        """What the group keeps from now on."""
        self._retention = retention
        for node in self.nodes.values():
            node.replicas.upkeep.retention = {GROUP: retention}

    # -- time --------------------------------------------------------------------------------------------------------

    def _at(self, delay: int, node: Node, call: Callable[[], None]) -> None:
        epoch = node.epoch
        self._count += 1

        def guarded() -> None:
            if node.epoch == epoch and node.up:
                call()

        heappush(self._agenda, (self.time.now + delay, self._count, guarded))

    def _tick_later(self, node: Node) -> None:
        def tick() -> None:
            if node.replicas.next_deadline() <= self.time.now:
                node.replicas.tick()
            self._tick_later(node)

        self._at(5, node, tick)

    def run(self, ticks: int, until: Callable[[], bool] | None = None) -> bool:
        """Let `ticks` milliseconds pass, or stop as soon as `until` holds. Returns whether it held."""
        end = self.time.now + ticks
        while self._agenda and self._agenda[0][0] <= end:
            at, _, call = heappop(self._agenda)
            self.time.now = max(self.time.now, at)
            call()
            if until is not None and until():
                return True
        self.time.now = end
        return until is not None and until()

    # -- what the driver does ----------------------------------------------------------------------------------------

    def _round(self, node: Node) -> None:
        node.wake = False
        made, reads = node.replicas.round()
        if made is not None:
            if made.ops:
                node.store.write(made.ops)
            took = self.rng.randint(1, 5) + self.slow_disk.get(node.number, 0) if made.must_sync else 0
            # Rounds are done in their order, also one that needs no sync behind one that does.
            node.disk_free = max(node.disk_free, self.time.now + took)
            self._at(node.disk_free - self.time.now, node, lambda: self._synced(node, made))
        for order in reads:
            try:
                entries = node.store.read_entries(order.generation, order.first, order.last, order.max_bytes)
            except StorageError as error:
                self._at(1, node, partial(_read_failed, node, order, str(error)))
                continue
            result = ReadResult(order, tuple(entries))
            self._at(1, node, lambda result=result: node.replicas.read_done(result))  # type: ignore[misc]

    def _synced(self, node: Node, made: Round) -> None:
        if made.must_sync:
            node.store.sync()
        node.replicas.persisted(made)

    def fetch(self, target: Node, order: SnapshotOrder) -> None:
        """Carry a snapshot to `target`, part by part, until something breaks."""
        self.fetches.append(order)
        source = self.nodes[order.node]
        parts: list[Iterator[SnapshotPart]] = []
        epochs = (source.epoch, target.epoch)

        def step() -> None:
            broken = {(source.number, target.number), (target.number, source.number)} & self.cut
            if broken or not source.up or (source.epoch, target.epoch) != epochs:
                target.replicas.installs.ended(order.group)
                return
            if not parts:
                parts.append(self._parts(source, order))
            part = next(parts[0], None)
            if part is None or target.replicas.installs.take(order.group, part, again):
                target.replicas.installs.ended(order.group)
            elif part is not None:
                self.parts_taken += 1

        def again() -> None:
            self._at(self.rng.randint(2, 8), target, step)

        again()

    def _parts(self, source: Node, order: SnapshotOrder) -> Iterator[SnapshotPart]:
        group = source.replicas.group(order.group)
        cut = None if group is None else take_cut(group, order.from_index)
        if cut is None:
            return
        yield cut.head
        index = cut.head.first_index
        while index <= cut.head.meta.index:
            try:
                entries = source.store.read_entries(cut.generation, index, cut.head.meta.index, self.part_bytes)
            except StorageError:
                return
            index = LogIndex(entries[-1].index + 1)
            yield SnapshotEntries(tuple(entries))
        yield from cut.ending()

    def send(self, source: NodeId, target: NodeId, channel: Channel, frame: Frame) -> None:
        if (source, target) in self.cut or target not in self.nodes:
            return
        info = self.nodes[source].info
        # A stream keeps its order.
        arrival = max(self.time.now + self.rng.randint(1, 4), self._last_arrival.get((source, target, channel), 0))
        self._last_arrival[(source, target, channel)] = arrival
        receiver = self.nodes[target]

        def arrive() -> None:
            if (source, target) not in self.cut:
                receiver.replicas.on_frame(info, frame)

        self._at(arrival - self.time.now, receiver, arrive)

    # -- what tests ask ----------------------------------------------------------------------------------------------

    def group(self, number: int, group_id: GroupId = GROUP) -> ReplicaGroup:
        group = self.nodes[NodeId(number)].replicas.group(group_id)
        assert group is not None
        return group

    def leaders(self) -> list[int]:
        return [n for n, node in self.nodes.items() if node.up and self.group(n).is_leader]

    def elect(self) -> int:
        """Run until one node leads and serves; returns its number."""

        def serving() -> list[int]:
            return [n for n in self.leaders() if self.group(n).can_serve()]

        assert self.run(20_000, lambda: len(serving()) == 1 and len(self.leaders()) == 1), self.describe()
        return serving()[0]

    def leadership(self, number: int) -> Leadership:
        leadership = self.nodes[NodeId(number)].replicas.leadership(GROUP)
        assert leadership is not None
        return leadership

    def produce(
        self,
        number: int,
        *values: bytes,
        acks: Acks = Acks.ALL,
        min_in_sync: int = 2,
        timeout: int = 5_000,
        producer: tuple[int, int, int] = (0, 0, 0),
        message_id: str = "",
        settles: Sequence[Settle] = (),
    ) -> list[Ack | RaftmqError]:
        """Propose one batch at node `number`; the list gets the answer."""
        producer_id, epoch, sequence = producer
        batch = make_batch(
            [types_pb2.Record(value=value) for value in values],
            producer_id=producer_id, producer_epoch=epoch, first_sequence=sequence, message_id=message_id,
        )  # fmt: skip
        answers: list[Ack | RaftmqError] = []
        self.leadership(number).produce(
            check_batch(batch, max_batch_bytes=1 << 20), acks, min_in_sync, self.time.tick(), self.time.wall_ms(),
            Tick(self.time.now + timeout), answers.append, settles=settles,
        )  # fmt: skip
        self.nodes[NodeId(number)].replicas.touch(GROUP)
        return answers

    def gather(
        self,
        number: int,
        *values: bytes,
        acks: Acks = Acks.ALL,
        min_in_sync: int = 2,
        timeout: int = 5_000,
        max_bytes: int = 1 << 20,
    ) -> list[Ack | RaftmqError]:
        """Hand in one request of plain records at node `number`; the list gets the answer."""
        records = loosen([types_pb2.Record(value=value) for value in values])
        answers: list[Ack | RaftmqError] = []
        now = self.time.tick()
        request = Request(records, acks, min_in_sync, now, Tick(now + timeout), answers.append)
        if self.leadership(number).gather(request, max_bytes, now, self.time.wall_ms()):
            self.nodes[NodeId(number)].replicas.touch(GROUP)
        return answers

    def records(self, number: int) -> list[list[bytes]]:
        """The values that node `number` has committed, entry by entry, as far as they are in memory."""
        group = self.group(number)
        entries = group.tail.batches(Offset(0), group.machine.next_offset, 1 << 30) or []
        parsed = (types_pb2.RecordSet.FromString(entry.payload) for entry in entries)
        return [[record.value for record in found.records] for found in parsed]

    def cut_off(self, number: int) -> None:
        """Isolate a node, both ways."""
        for other in self.nodes:
            if other != number:
                self.cut |= {(NodeId(number), other), (other, NodeId(number))}

    def heal(self) -> None:
        self.cut.clear()
        for node in self.nodes.values():
            for other in self.nodes:
                if node.up and other != node.number:
                    node.replicas.on_peer_up(other, Channel.RAFT)

    def equal(self) -> bool:
        """Every replica that is up holds the same log, applied to its end."""
        ends = {
            (group.end_chain, group.node.last_index, group.machine.applied_index, group.machine.next_offset)
            for group in (self.group(n) for n, node in self.nodes.items() if node.up)
        }
        return len(ends) == 1 and all(end[1] == end[2] for end in ends)

    def describe(self) -> str:
        return "\n".join(f"{n}: up={node.up} {self.group(n).node.status()}" for n, node in self.nodes.items())


def _read_failed(node: Node, order: ReadOrder, reason: str) -> None:
    node.replicas.read_failed(order, reason)
