"""A node's surroundings, tiny and precise: a host that remembers what it was asked, and a cluster that says yes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

from raftmq.broker.cluster import Decide
from raftmq.errors import NotLeader, NotReady, RaftmqError, UnknownOperation
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, Offset, PartitionId, ReplicaId, StoreId, Term
from raftmq.metadata import features, operating
from raftmq.metadata.altering import AlterTopic
from raftmq.metadata.decisions import CreateTopic
from raftmq.metadata.depth import NO_LIMIT, DepthLimit
from raftmq.metadata.events import Event
from raftmq.metadata.image import MetadataImage, NodeRecord, PartitionRecord, TopicRecord
from raftmq.metadata.internal import GROUPS_TOPIC
from raftmq.metadata.operation import OperationRecord
from raftmq.metadata.queue_groups import QueueGroupRecord, SetQueueGroup, find
from raftmq.partition.queues.commands import QueueAnswer, QueueOp, Status
from raftmq.partition.queues.processed import Processed
from raftmq.ports import BatchRow, DiskLevel
from raftmq.records.batch import CheckedBatch
from raftmq.records.loose import LooseRecords, bind
from raftmq.records.topic_kinds import TopicKind
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.host import Bounds, Fetched
from raftmq.replica.produce import Leadership
from raftmq.replica.queues.calls import Claim, Depth, Handover, Received, Ruling, Wish
from raftmq.replica.queues.looking import Pace, ParkedFilter, Peeked, Place, RedriveCount
from raftmq.replica.waits import Ack, Acks

CLUSTER_ID = "0123456789abcdef0123456789abcdef"
TERM = Term(7)


def node_record(number: int) -> NodeRecord:
    return NodeRecord(
        ReplicaId(NodeId(number), StoreId(100 + number)), BootCount(3), "127.0.0.1", 9400 + number, "127.0.0.1",
        9500 + number, 9600 + number, f"rack-{number}", False, 1,
    )  # fmt: skip


def topic_record(name: str, groups: list[int], *, topic_id: int = 1, max_batch_bytes: int = 1024 * 1024) -> TopicRecord:
    replicas = tuple(ReplicaId(NodeId(n), StoreId(100 + n)) for n in (1, 2, 3))
    partitions = tuple(
        PartitionRecord(GroupId(group), PartitionId(number), replicas) for number, group in enumerate(groups)
    )
    return TopicRecord(topic_id, name, 3, 2, max_batch_bytes, partitions)


def image_of(*topics: TopicRecord) -> MetadataImage:
    return MetadataImage(
        version=LogIndex(41),
        nodes={NodeId(n): node_record(n) for n in (1, 2, 3)},
        topics={topic.name: topic for topic in topics},
        groups={one.group: (topic.name, one.partition) for topic in topics for one in topic.partitions},
    )


@dataclass
class FakeMachine:
    next_offset: Offset = Offset(0)
    log_start_offset: Offset = Offset(0)


@dataclass
class FakeGroup:
    """What the broker looks at when it answers a produce."""

    machine: FakeMachine = field(default_factory=FakeMachine)

    def voters(self) -> list[ReplicaId]:
        return [ReplicaId(NodeId(n), StoreId(100 + n)) for n in (1, 2, 3)]


class FakeReplicas:
    def __init__(self) -> None:
        self.held: dict[GroupId, ReplicaGroup] = {}

    @property
    def groups(self) -> Mapping[GroupId, ReplicaGroup]:
        return self.held

    def group(self, group_id: GroupId) -> ReplicaGroup | None:
        return self.held.get(group_id)

    def leadership(self, group_id: GroupId) -> Leadership | None:
        return None


@dataclass(frozen=True)
class Produced:
    group: GroupId
    batch: CheckedBatch
    acks: Acks
    min_in_sync: int
    timeout_ms: int


@dataclass(frozen=True)
class Asked:
    """A fetch as the host got it."""

    group: GroupId
    offset: Offset
    max_bytes: int
    min_bytes: int
    max_wait_ms: int


class FakeHost:
    """Leads what `leaders` says; answers at once, or with the next of `errors`, or never (`stuck`)."""

    def __init__(self, me: int, leaders: dict[int, int]) -> None:
        self.me = NodeId(me)
        self.leaders: dict[GroupId, NodeId] = {GroupId(g): NodeId(n) for g, n in leaders.items()}
        self.replicas = FakeReplicas()
        self.logs: dict[GroupId, list[BatchRow]] = {}
        self.produced: list[Produced] = []
        self.expected: list[Offset | None] = []
        """What each produce expected."""
        self.least: list[tuple[GroupId, Offset, int]] = []
        """Watermarks that had to be reached, and how long they were to be waited for."""
        self.asked: list[Asked] = []
        self.transfers: list[tuple[GroupId, NodeId | None]] = []
        self.errors: list[Exception] = []
        self.stuck = False
        self.on_stuck: Callable[[], None] = lambda: None
        self.on_leader_asked: Callable[[GroupId], None] = lambda group: None
        self.following: set[GroupId] = set()
        self.replica_reads: list[tuple[GroupId, Offset, Offset]] = []
        """Group, offset and least watermark of what was read without leading."""
        self.behind = False
        """Whether what is read without leading is not there yet."""
        self.polls = False
        """Whether a fetch that finds nothing waits; else it answers at once."""
        self.news = asyncio.Event()
        """Set to make every waiting fetch look again; it looks by itself when something is produced."""
        self.waiting = asyncio.Event()
        """Set when a fetch begins to wait."""
        self.watchers = 0
        self.begins = False
        """Whether plain records are begun without being waited for; they end when the test says so."""
        self.begun: list[tuple[LooseRecords, Callable[[Ack | RaftmqError], None]]] = []

    def disk_of(self, node: NodeId) -> DiskLevel:
        return DiskLevel.LOW if node == 2 else DiskLevel.AMPLE

    def leads(self, group_id: GroupId) -> bool:
        self.on_leader_asked(group_id)
        return self.leaders.get(group_id) == self.me

    def leader_of(self, group_id: GroupId) -> tuple[NodeId, Term] | None:
        leader = self.leaders.get(group_id)
        return None if leader is None else (leader, TERM)

    def in_sync(self, group_id: GroupId) -> tuple[NodeId, ...]:
        return (NodeId(1), NodeId(2)) if group_id in self.leaders else ()

    async def produce(
        self,
        group_id: GroupId,
        batch: CheckedBatch,
        acks: Acks,
        min_in_sync: int,
        timeout_ms: int,
        expected: Offset | None = None,
        limit: DepthLimit = NO_LIMIT,
    ) -> Ack:
        await self._pass(group_id)
        self.expected.append(expected)
        self.produced.append(Produced(group_id, batch, acks, min_in_sync, timeout_ms))
        log = self.logs.setdefault(group_id, [])
        offset = log[-1].next_offset if log else Offset(0)
        index = LogIndex(len(log) + 2)
        log.append(BatchRow(offset, batch.count, index, TERM, 1_700_000_000_000, batch.header_bytes, batch.payload))
        self.news.set()
        group = FakeGroup(FakeMachine(log[-1].next_offset))
        self.replicas.held[group_id] = cast(ReplicaGroup, group)
        return Ack(offset, batch.count, TERM, index, 1_700_000_000_000, (NodeId(1), NodeId(2)), False, 1, 2, 3)

    async def gather(
        self, group_id: GroupId, records: LooseRecords, acks: Acks, min_in_sync: int, timeout_ms: int, max_bytes: int
    ) -> Ack:
        assert records.size <= max_bytes
        return await self.produce(group_id, bind([records]), acks, min_in_sync, timeout_ms)

    def begin_gather(
        self,
        group_id: GroupId,
        records: LooseRecords,
        acks: Acks,
        min_in_sync: int,
        timeout_ms: int,
        max_bytes: int,
        done: Callable[[Ack | RaftmqError], None],
    ) -> bool:
        if not self.begins:
            return False
        self.begun.append((records, done))
        return True

    async def fetch(
        self, group_id: GroupId, offset: Offset, max_bytes: int, min_bytes: int, max_wait_ms: int
    ) -> Fetched:
        await self._pass(group_id)
        self.asked.append(Asked(group_id, offset, max_bytes, min_bytes, max_wait_ms))
        while True:
            rows = [row for row in self.logs.get(group_id, []) if row.next_offset > offset]
            if rows or not self.polls:
                return Fetched(rows, self._bounds(group_id))
            await self._look_again()
            await self._pass(group_id)

    async def _look_again(self) -> None:
        self.news.clear()
        self.waiting.set()
        self.watchers += 1
        try:
            await self.news.wait()
        finally:
            self.watchers -= 1

    def follows(self, group_id: GroupId) -> bool:
        return group_id in self.following

    async def fetch_replica(
        self, group_id: GroupId, offset: Offset, max_bytes: int, min_bytes: int, max_wait_ms: int, min_offset: Offset
    ) -> Fetched:
        self.replica_reads.append((group_id, offset, min_offset))
        if self.behind:
            raise NotReady("behind")
        return Fetched([], self._bounds(group_id))

    async def bounds(self, group_id: GroupId, timeout_ms: int) -> Bounds:
        await self._pass(group_id)
        return self._bounds(group_id)

    async def reached(self, group_id: GroupId, offset: Offset, wait_ms: int) -> None:
        self.least.append((group_id, offset, wait_ms))
        if offset > self._bounds(group_id).high_watermark:
            raise NotReady("below", field="min_offset")

    async def offset_at(self, group_id: GroupId, wall_ms: int) -> Offset:
        await self._pass(group_id)
        later = (row.base_offset for row in self.logs.get(group_id, []) if row.wall_ms >= wall_ms)
        return next(later, self._bounds(group_id).high_watermark)

    def transfer(self, group_id: GroupId, to: NodeId | None) -> NodeId:
        self.transfers.append((group_id, to))
        return to or NodeId(2)

    def _bounds(self, group_id: GroupId) -> Bounds:
        log = self.logs.get(group_id, [])
        return Bounds(Offset(0), log[-1].next_offset if log else Offset(0), TERM)

    async def _pass(self, group_id: GroupId) -> None:
        if self.errors:
            raise self.errors.pop(0)
        if self.leaders.get(group_id) != self.me:
            raise NotLeader("this node does not lead the partition")
        if self.stuck:
            self.on_stuck()
            await asyncio.get_running_loop().create_future()


class FakeCluster:
    """Node `me` of a cluster whose controller's leader is `controller_node`."""

    def __init__(self, me: int, image: MetadataImage, controller_node: int | None = 1) -> None:
        self.node_id = NodeId(me)
        self.cluster_id = CLUSTER_ID
        self.cluster_name = "test"
        self.image = image
        self.controller_node = controller_node
        self.created: list[tuple[CreateTopic, int, bool]] = []
        self.altered: list[tuple[AlterTopic, bool]] = []
        self.deleted: list[str] = []
        self.producer_id = 1000
        self.error: RaftmqError | None = None
        self.current = True
        self.on_current_asked: Callable[[], None] = lambda: None

    def was_current(self) -> bool:
        return self.is_current()

    def is_current(self) -> bool:
        self.on_current_asked()
        return self.current

    def controller(self) -> tuple[NodeId, Term] | None:
        return None if self.controller_node is None else (NodeId(self.controller_node), Term(4))

    def version_standing(self) -> features.Standing:
        return features.standing(self.image, [])

    async def create_topic(self, spec: CreateTopic, timeout_ms: int, *, validate_only: bool = False) -> TopicRecord:
        self._decide()
        self.created.append((spec, timeout_ms, validate_only))
        return topic_record(spec.name, [50 + n for n in range(spec.partitions or 3)], topic_id=9)

    async def alter_topic(self, wish: AlterTopic, timeout_ms: int, *, validate_only: bool = False) -> TopicRecord:
        self._decide()
        self.altered.append((wish, validate_only))
        return topic_record(wish.name, [50], topic_id=9)

    async def delete_topic(self, name: str, timeout_ms: int) -> None:
        self._decide()
        self.deleted.append(name)

    async def ensure_groups_topic(self, timeout_ms: int) -> None:
        self._decide()
        groups = replace(topic_record(GROUPS_TOPIC, [101, 102], topic_id=77), kind=TopicKind.CONSUMER_GROUPS)
        self.image = image_of(*self.image.topics.values(), groups)

    async def allocate_producer_ids(self, count: int, timeout_ms: int) -> int:
        self.producer_id += count
        return self.producer_id - count + 1

    async def decide(self, decide: Decide, timeout_ms: int) -> Sequence[Event]:
        self._decide()
        decided = decide(self.image)
        for event in decided:
            self.image = self.image.replay(event).at(LogIndex(self.image.version + 1))
        return decided

    def node_silence_ms(self, node: NodeId) -> int:
        return 0 if node == self.node_id else 25 if node == 2 else 1 << 40

    @property
    def queue_groups(self) -> FakeQueueGroups:
        return FakeQueueGroups(self)

    def _decide(self) -> None:
        if self.error is not None:
            raise self.error
        if self.controller_node != self.node_id:
            raise NotLeader("this node is not the controller's leader")


class FakeOperations:
    """Decides on the image of `cluster` as the real one does, and drives nothing."""

    IN_SYNC: ClassVar[dict[GroupId, tuple[NodeId, ...]]] = {
        GroupId(group): (NodeId(1), NodeId(2), NodeId(3)) for group in range(1, 10)
    }

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    async def add_node(
        self, node: NodeId, peer_host: str, peer_port: int, timeout_ms: int, *, validate_only: bool = False
    ) -> OperationRecord:
        operating.check_address(peer_host, peer_port)
        answered = ReplicaId(node, StoreId(100 + node))
        image = self._cluster.image
        return self._begin(operating.add_node(image, node, answered, peer_host, peer_port, 1), validate_only)

    async def drain_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord:
        return self._begin(operating.drain_node(self._cluster.image, node, self.IN_SYNC, 1), validate_only)

    async def remove_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord:
        return self._begin(operating.remove_node(self._cluster.image, node, 1), validate_only)

    async def move_replica(
        self,
        topic: str,
        partition: int,
        source: NodeId,
        target: NodeId,
        timeout_ms: int,
        *,
        validate_only: bool = False,
    ) -> OperationRecord:
        image = self._cluster.image
        decided = operating.move_replica(image, topic, partition, source, target, self.IN_SYNC, 1)
        return self._begin(decided, validate_only)

    async def repair_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord:
        answered = ReplicaId(node, StoreId(4711))
        return self._begin(operating.repair_node(self._cluster.image, node, answered, self.IN_SYNC, 1), validate_only)

    async def cancel(self, operation: int, timeout_ms: int) -> OperationRecord:
        self._replay(operating.cancel(self._cluster.image, operation))
        return self.get(operation)

    def get(self, operation: int) -> OperationRecord:
        found = self._cluster.image.operations.get(operation)
        if found is None:
            raise UnknownOperation(f"there is no operation {operation}", field="operation_id")
        return found

    def waits(self, operation: OperationRecord) -> str:
        return "nobody drives it"

    def _begin(self, decided: list[Event], validate_only: bool) -> OperationRecord:
        before = self._cluster.image
        self._replay(decided)
        begun = self.get(before.next_operation_id)
        if validate_only:
            self._cluster.image = before
        return begun

    def _replay(self, decided: list[Event]) -> None:
        for event in decided:
            self._cluster.image = self._cluster.image.replay(event)


class FakeQueues:
    """Queues of partitions: nobody leads any."""

    async def receive(self, group_id: GroupId, group: QueueGroupRecord, wish: Wish, wait_ms: int) -> Received:
        raise NotLeader("nobody leads it")

    async def settle(
        self, group_id: GroupId, group: QueueGroupRecord, claims: Sequence[Claim], ruling: Ruling, timeout_ms: int
    ) -> list[Status]:
        raise NotLeader("nobody leads it")

    async def hand_over(
        self, group_id: GroupId, group: QueueGroupRecord, handover: Handover, timeout_ms: int
    ) -> Ack | list[int]:
        raise NotLeader("nobody leads it")

    async def processed(
        self, group_id: GroupId, group: QueueGroupRecord, keys: Sequence[bytes], timeout_ms: int
    ) -> list[tuple[int, Processed]]:
        raise NotLeader("nobody leads it")

    async def extend(
        self, group_id: GroupId, group: QueueGroupRecord, claims: Sequence[Claim], lease_ms: int, timeout_ms: int
    ) -> list[Status]:
        raise NotLeader("nobody leads it")

    async def depth(self, group_id: GroupId, group: QueueGroupRecord) -> Depth:
        raise NotLeader("nobody leads it")

    async def peek(
        self, group_id: GroupId, group: QueueGroupRecord, place: Place, offset: int, most: int
    ) -> tuple[list[Peeked], Offset | None]:
        raise NotLeader("nobody leads it")

    async def unrouted(self, group_id: GroupId, group: QueueGroupRecord, offset: int, most: int) -> list[Peeked]:
        raise NotLeader("nobody leads it")

    async def redrive(
        self, group_id: GroupId, group: QueueGroupRecord, wanted: ParkedFilter, pace: Pace, timeout_ms: int
    ) -> RedriveCount:
        raise NotLeader("nobody leads it")

    async def cancel(self, group_id: GroupId, group: QueueGroupRecord, offset: Offset, timeout_ms: int) -> bool:
        raise NotLeader("nobody leads it")

    async def ask(self, group_id: GroupId, group: QueueGroupRecord, op: QueueOp, timeout_ms: int) -> QueueAnswer:
        raise NotLeader("nobody leads it")


class FakeQueueGroups:
    """Knows what the image of `cluster` has, and makes nothing."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def known(self, topic: str, name: str) -> QueueGroupRecord | None:
        image = self._cluster.image
        return find(image.queue_groups, image.topics[topic].topic_id, name) if topic in image.topics else None

    async def ensure(self, topic: str, name: str, timeout_ms: int) -> QueueGroupRecord:
        found = self.known(topic, name)
        if found is None:
            raise NotReady("nobody makes groups here")
        return found

    async def set(self, wish: SetQueueGroup, timeout_ms: int, *, validate_only: bool = False) -> QueueGroupRecord:
        raise NotReady("nobody makes groups here")

    async def delete(self, topic: str, name: str, timeout_ms: int) -> None:
        raise NotReady("nobody makes groups here")
