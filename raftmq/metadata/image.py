"""The cluster as its log tells it: an immutable picture, and how an event makes the next one.

Every node holds the same image at the same version. Readers keep an image as long as they like; nothing in it changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, PartitionId, ProducerId, ReplicaId
from raftmq.metadata import events
from raftmq.metadata.depth import NO_LIMIT, DepthLimit
from raftmq.metadata.events import Event, TopicKind
from raftmq.metadata.exchange import ExchangeRecord
from raftmq.metadata.exchange_events import replay_exchange, without_topic
from raftmq.metadata.fitting import fits, unfit, with_changes, without
from raftmq.metadata.operation import OperationKind, OperationRecord, OperationState
from raftmq.metadata.queue_groups import QueueGroupEvent, QueueGroupRecord, replayed
from raftmq.metadata.quota import Quotas, replay_quota
from raftmq.records.poison import PoisonEntry

FIRST_PRODUCER_ID = ProducerId(1)
OPERATIONS_KEPT = 100
"""Operations that are over and still listed."""


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node that has registered. See ``events.NodeRegistered`` for the fields they share."""

    id: ReplicaId
    boot: BootCount
    host: str
    client_port: int
    peer_host: str
    peer_port: int
    http_port: int
    rack: str
    fenced: bool
    max_cluster_version: int
    leaving: bool = False
    """It is drained, or being drained: it gets nothing new."""


@dataclass(frozen=True, slots=True)
class Move:
    """`target` is taking `source`'s place in a group."""

    operation: int
    source: ReplicaId
    target: ReplicaId


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    group: GroupId
    partition: PartitionId
    replicas: tuple[ReplicaId, ...]
    """In order of preference: the first should lead."""
    move: Move | None = None
    """The one that is under way."""
    moves: int = 0
    """How many were brought to their end. 0: `replicas` are those that the group began with."""

    @property
    def replicas_after(self) -> tuple[ReplicaId, ...]:
        """What `replicas` will be when the move under way is over."""
        move = self.move
        if move is None:
            return self.replicas
        return tuple(move.target if replica == move.source else replica for replica in self.replicas)


@dataclass(frozen=True, slots=True)
class TopicRecord:
    topic_id: int
    """From 1; never reused, not even for a topic of the same name."""
    name: str
    replication_factor: int
    min_in_sync_replicas: int
    max_batch_bytes: int
    partitions: tuple[PartitionRecord, ...]
    """By partition number."""
    retention_ms: int = 0
    """0: for ever."""
    retention_bytes: int = 0
    """Of each partition; 0: without limit."""
    message_id_window_ms: int = 0
    """How long message ids are remembered, and how many of a partition; 0, of both: as a partition does by itself."""
    message_id_window_count: int = 0
    depth: DepthLimit = NO_LIMIT
    version: int = 1
    """Grows by one whenever the settings are altered."""
    kind: TopicKind = TopicKind.RECORDS


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class MetadataImage:
    """Nodes, topics, assignments and counters at one version.

    Invariants: `groups` indexes exactly the partitions of `topics`; every group, topic and producer id in use is below
    its counter; counters never fall.
    """

    version: LogIndex = LogIndex(0)
    """Log index of the last entry that changed the image."""
    nodes: Mapping[NodeId, NodeRecord] = field(default_factory=_empty)
    topics: Mapping[str, TopicRecord] = field(default_factory=_empty)
    groups: Mapping[GroupId, tuple[str, PartitionId]] = field(default_factory=_empty)
    """Where each group is found in `topics`."""
    next_group_id: GroupId = GroupId(1)
    next_topic_id: int = 1
    next_producer_id: ProducerId = FIRST_PRODUCER_ID
    cluster_version: int = 1
    """Leaders propose only what this version has."""
    operations: Mapping[int, OperationRecord] = field(default_factory=_empty)
    """All that run, and the newest of those that are over."""
    next_operation_id: int = 1
    removed: frozenset[ReplicaId] = frozenset()
    """Disks of nodes that were removed: they do not come back."""
    queue_groups: Mapping[int, QueueGroupRecord] = field(default_factory=_empty)
    next_queue_group_id: int = 1
    quotas: Quotas = field(default_factory=_empty)
    exchanges: Mapping[str, ExchangeRecord] = field(default_factory=_empty)
    """Bindings lead to topics and exchanges that there are; an alternate is an exchange that there is."""

    def partition(self, group: GroupId) -> tuple[TopicRecord, PartitionRecord] | None:
        """The partition that `group` replicates; None where there is none (any more)."""
        found = self.groups.get(group)
        if found is None:
            return None
        topic = self.topics[found[0]]
        return topic, topic.partitions[found[1]]

    def running(self) -> list[OperationRecord]:
        """Operations that are not over, oldest first."""
        return [operation for _, operation in sorted(self.operations.items()) if not operation.is_over]

    def moves_of(self, operation: int) -> list[PartitionRecord]:
        """Partitions in which a move of this operation is under way, by group."""
        partitions = (partition for topic in self.topics.values() for partition in topic.partitions)
        mine = (one for one in partitions if one.move is not None and one.move.operation == operation)
        return sorted(mine, key=lambda one: one.group)

    def addresses(self) -> dict[NodeId, tuple[str, int]]:
        """Where nodes are reached that are being added or removed, as peers."""
        return {one.node: (one.peer_host, one.peer_port) for one in self.running() if one.peer_host}

    def admits(self, replica: ReplicaId) -> bool:
        """This disk belongs to a node of the cluster, or to one that is being added."""
        known = self.nodes.get(replica.node)
        return (known is not None and known.id == replica) or any(
            one.kind is OperationKind.ADD_NODE and one.replica == replica for one in self.running()
        )

    def replay(self, event: Event) -> MetadataImage:
        """The image after `event`; `version` is left to the caller. Raises PoisonEntry where the event does not fit."""
        match event:
            case events.NodeRegistered():
                return self._register(event)
            case events.NodeFenced(node):
                return self._fence(node, fenced=True)
            case events.NodeUnfenced(node):
                return self._fence(node, fenced=False)
            case events.TopicCreated():
                return self._create(event)
            case events.TopicAltered():
                return self._alter(event)
            case events.TopicDeleted(topic_id):
                return self._delete(topic_id)
            case events.ProducerIdsAllocated(_, first, count):
                fits(first == self.next_producer_id and count > 0, event)
                return replace(self, next_producer_id=ProducerId(first + count))
            case events.ClusterVersionRaised(version):
                fits(version > self.cluster_version, event)
                return replace(self, cluster_version=version)
            case events.AssignmentChanged(group, replicas):
                return self._assign(event, group, replicas)
            case events.OperationStarted():
                return self._start(event)
            case events.MoveBegun(operation, group, source, target):
                return self._begin_move(event, group, Move(operation, source, target))
            case events.MoveAbandoned(group):
                return self._abandon_move(event, group)
            case events.OperationCancelled(operation):
                return self._cancel(event, operation)
            case events.OperationEnded():
                return self._end(event)
            case events.QueueGroupSet() | events.QueueGroupDeleted():
                return self._queue_group(event)
            case events.ClientQuotaSet() | events.ClientQuotaDeleted():
                return replace(self, quotas=replay_quota(self.quotas, event))
            case events.ExchangeDeclared() | events.ExchangeDeleted() | events.BindingAdded() | events.BindingRemoved():
                return replace(self, exchanges=replay_exchange(self.exchanges, self.topics, event))

    def at(self, version: LogIndex) -> MetadataImage:
        """The same image, as of the entry at `version`."""
        return replace(self, version=version)

    def digest(self) -> str:
        """32 hexadecimal digits, equal for equal images on nodes of the same version of raftmq."""
        content = (
            self.version,
            sorted(self.nodes.items()),
            sorted(self.topics.items()),
            self.next_group_id,
            self.next_topic_id,
            self.next_producer_id,
            self.cluster_version,
            sorted(self.operations.items()),
            self.next_operation_id,
            sorted(self.removed),
            sorted(self.queue_groups.items()),
            self.next_queue_group_id,
            sorted(self.exchanges.items()),
            sorted(self.quotas.items()),
        )
        return blake2b(repr(content).encode(), digest_size=16).hexdigest()

    def _register(self, event: events.NodeRegistered) -> MetadataImage:
        known = self.nodes.get(event.id.node)
        node = NodeRecord(
            id=event.id,
            boot=event.boot,
            host=event.host,
            client_port=event.client_port,
            peer_host=event.peer_host,
            peer_port=event.peer_port,
            http_port=event.http_port,
            rack=event.rack,
            # A first registration is itself a sign of life.
            fenced=known.fenced if known is not None else False,
            max_cluster_version=event.max_cluster_version,
            leaving=known.leaving if known is not None else False,
        )
        return replace(self, nodes=with_changes(self.nodes, {event.id.node: node}))

    def _fence(self, node_id: NodeId, *, fenced: bool) -> MetadataImage:
        node = self.nodes.get(node_id)
        if node is None:
            raise PoisonEntry(f"node {node_id} is fenced or unfenced, but has never registered")
        return replace(self, nodes=with_changes(self.nodes, {node_id: replace(node, fenced=fenced)}))

    def _create(self, event: events.TopicCreated) -> MetadataImage:
        fits(event.name not in self.topics and event.topic_id == self.next_topic_id, event)
        partitions = tuple(PartitionRecord(one.group, one.partition, one.replicas) for one in event.partitions)
        for number, partition in enumerate(partitions):
            fits(partition.partition == number and partition.group == self.next_group_id + number, event)
            fits(len(partition.replicas) > 0, event)
        topic = TopicRecord(
            event.topic_id,
            event.name,
            event.replication_factor,
            event.min_in_sync_replicas,
            event.max_batch_bytes,
            partitions,
            event.retention_ms,
            event.retention_bytes,
            event.message_id_window_ms,
            event.message_id_window_count,
            event.depth,
            kind=event.kind,
        )
        return replace(
            self,
            topics=with_changes(self.topics, {topic.name: topic}),
            groups=with_changes(self.groups, {one.group: (topic.name, one.partition) for one in partitions}),
            next_topic_id=self.next_topic_id + 1,
            next_group_id=GroupId(self.next_group_id + len(partitions)),
        )

    def _alter(self, event: events.TopicAltered) -> MetadataImage:
        topic = self._topic(event.topic_id, "altered")
        altered = replace(
            topic,
            min_in_sync_replicas=event.min_in_sync_replicas,
            max_batch_bytes=event.max_batch_bytes,
            retention_ms=event.retention_ms,
            retention_bytes=event.retention_bytes,
            message_id_window_ms=event.message_id_window_ms,
            message_id_window_count=event.message_id_window_count,
            depth=event.depth,
            version=topic.version + 1,
        )
        return replace(self, topics=with_changes(self.topics, {topic.name: altered}))

    def _topic(self, topic_id: int, what: str) -> TopicRecord:
        topic = next((topic for topic in self.topics.values() if topic.topic_id == topic_id), None)
        if topic is None:
            raise PoisonEntry(f"topic {topic_id} is {what}, but does not exist")
        return topic

    def _delete(self, topic_id: int) -> MetadataImage:
        topic = self._topic(topic_id, "deleted")
        return replace(
            self,
            topics=without(self.topics, lambda name: name == topic.name),
            groups=without(self.groups, lambda group: self.groups[group][0] == topic.name),
            exchanges=without_topic(self.exchanges, topic.name),
            queue_groups=without(self.queue_groups, lambda number: self.queue_groups[number].topic_id == topic_id),
        )

    def _queue_group(self, event: QueueGroupEvent) -> MetadataImage:
        groups, next_id = replayed(self.queue_groups, self.next_queue_group_id, event)
        return replace(self, queue_groups=MappingProxyType(groups), next_queue_group_id=next_id)

    def _assign(self, event: Event, group: GroupId, replicas: tuple[ReplicaId, ...]) -> MetadataImage:
        fits(len(replicas) > 0, event)
        partition = self._known(event, group)
        return self._with_partition(replace(partition, replicas=replicas, move=None, moves=partition.moves + 1))

    # -- operations --------------------------------------------------------------------------------------------------

    def _start(self, event: events.OperationStarted) -> MetadataImage:
        fits(event.operation == self.next_operation_id, event)
        started = OperationRecord(
            event.operation, event.kind, event.node, event.replica, event.group, event.to_node, event.peer_host,
            event.peer_port, event.moves, event.wall_ms,
        )  # fmt: skip
        over = [number for number, known in sorted(self.operations.items()) if known.is_over]
        forgotten = set(over[: max(0, len(over) - OPERATIONS_KEPT)])
        kept = without(self.operations, forgotten.__contains__)
        image = replace(
            self, operations=with_changes(kept, {event.operation: started}), next_operation_id=event.operation + 1
        )
        known = image.nodes.get(event.node)
        if event.kind is OperationKind.MOVE_REPLICA or known is None:
            return image
        if event.kind is OperationKind.REMOVE_NODE:
            gone = without(image.nodes, lambda node: node == event.node)
            return replace(image, nodes=gone, removed=image.removed | {known.id})
        if event.kind is OperationKind.REPAIR_NODE:
            assert event.replica is not None, "a repair names the new disk"
            # How often the new disk has started is told when it registers.
            known = replace(known, id=event.replica, boot=BootCount(0)) if known.id != event.replica else known
            return replace(image, nodes=with_changes(image.nodes, {event.node: known}))
        return image._mark_leaving(event.node, event.kind is OperationKind.DRAIN_NODE)

    def _mark_leaving(self, node: NodeId, leaving: bool) -> MetadataImage:
        known = self.nodes.get(node)
        return (
            self
            if known is None
            else replace(self, nodes=with_changes(self.nodes, {node: replace(known, leaving=leaving)}))
        )

    def _begin_move(self, event: Event, group: GroupId, move: Move) -> MetadataImage:
        partition = self._known(event, group)
        nodes = {replica.node for replica in partition.replicas if replica != move.source}
        fits(partition.move is None and move.source in partition.replicas and move.target.node not in nodes, event)
        fits(move.target not in partition.replicas and move.operation in self.operations, event)
        return self._with_partition(replace(partition, move=move))

    def _abandon_move(self, event: Event, group: GroupId) -> MetadataImage:
        partition = self._known(event, group)
        fits(partition.move is not None, event)
        return self._with_partition(replace(partition, move=None))

    def _cancel(self, event: Event, operation: int) -> MetadataImage:
        known = self.operations.get(operation)
        if known is None or known.state is not OperationState.RUNNING:
            raise unfit(event)
        return self._with_operation(replace(known, state=OperationState.CANCELLING))

    def _end(self, event: events.OperationEnded) -> MetadataImage:
        known = self.operations.get(event.operation)
        if known is None or known.is_over or self.moves_of(event.operation):
            raise unfit(event)
        state = OperationState.CANCELLED if event.is_cancelled else OperationState.DONE
        image = self._with_operation(replace(known, state=state, reason=event.reason, ended_ms=event.wall_ms))
        if event.is_cancelled and known.kind is OperationKind.DRAIN_NODE:
            return image._mark_leaving(known.node, False)
        return image

    def _with_operation(self, operation: OperationRecord) -> MetadataImage:
        return replace(self, operations=with_changes(self.operations, {operation.id: operation}))

    # -- partitions --------------------------------------------------------------------------------------------------

    def _known(self, event: Event, group: GroupId) -> PartitionRecord:
        found = self.partition(group)
        if found is None:
            raise unfit(event)
        return found[1]

    def _with_partition(self, changed: PartitionRecord) -> MetadataImage:
        topic = self.topics[self.groups[changed.group][0]]
        partitions = list(topic.partitions)
        partitions[changed.partition] = changed
        return replace(
            self, topics=with_changes(self.topics, {topic.name: replace(topic, partitions=tuple(partitions))})
        )
