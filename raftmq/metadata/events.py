"""What happened to the cluster: the events that the controller's log is made of. Frozen per version.

An event says what was decided, with every number already chosen, so that replaying it can neither fail nor come out
differently. A COMMAND entry of the controller's group holds the events of one decision, in order: all or none happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raftmq.ids import BootCount, GroupId, NodeId, ProducerId, ReplicaId
from raftmq.internal.v1 import storage_pb2
from raftmq.metadata import queue_groups
from raftmq.metadata.exchange_events import BindingAdded as BindingAdded
from raftmq.metadata.exchange_events import BindingRemoved as BindingRemoved
from raftmq.metadata.exchange_events import ExchangeDeclared as ExchangeDeclared
from raftmq.metadata.exchange_events import ExchangeDeleted as ExchangeDeleted
from raftmq.metadata.exchange_events import ExchangeEvent, exchange_from_proto, exchange_to_proto
from raftmq.metadata.operation import OperationKind
from raftmq.metadata.queue_groups import QueueGroupDeleted as QueueGroupDeleted
from raftmq.metadata.queue_groups import QueueGroupSet as QueueGroupSet
from raftmq.metadata.quota import ClientQuotaDeleted as ClientQuotaDeleted
from raftmq.metadata.quota import ClientQuotaSet as ClientQuotaSet
from raftmq.metadata.quota import QuotaEvent, quota_from_proto, quota_to_proto
from raftmq.metadata.topic_events import PartitionAssigned as PartitionAssigned
from raftmq.metadata.topic_events import TopicAltered as TopicAltered
from raftmq.metadata.topic_events import TopicCreated as TopicCreated
from raftmq.metadata.topic_events import (
    altered_from_proto,
    altered_to_proto,
    replicas_from_proto,
    replicas_to_proto,
    topic_from_proto,
    topic_to_proto,
)
from raftmq.records.poison import PoisonEntry, parse_strictly
from raftmq.records.topic_kinds import TopicKind as TopicKind

VERSION = 1
"""Newest version of events that this code can replay."""


@dataclass(frozen=True, slots=True)
class NodeRegistered:
    """A node came up, for the first time or again, with these addresses. One that was fenced stays so."""

    id: ReplicaId
    boot: BootCount
    host: str
    """Where clients reach it, with `client_port` and `http_port`."""
    client_port: int
    peer_host: str
    """Where other nodes reach it, with `peer_port`."""
    peer_port: int
    http_port: int
    rack: str
    """Empty: none given."""
    max_cluster_version: int
    """Highest version of commands and events that the node understands."""


@dataclass(frozen=True, slots=True)
class NodeFenced:
    """The node's session lapsed: no new replicas, no leadership moved there."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class NodeUnfenced:
    node: NodeId


@dataclass(frozen=True, slots=True)
class TopicDeleted:
    topic_id: int


@dataclass(frozen=True, slots=True)
class ProducerIdsAllocated:
    """`node` may hand out producer ids `first` to `first + count - 1`."""

    node: NodeId
    first: ProducerId
    count: int


@dataclass(frozen=True, slots=True)
class ClusterVersionRaised:
    """Every node understands `version`: leaders may propose what it brought."""

    version: int


@dataclass(frozen=True, slots=True)
class AssignmentChanged:
    """The group's replicas are these now, in order of preference. Ends the move that led to it."""

    group: GroupId
    replicas: tuple[ReplicaId, ...]


@dataclass(frozen=True, slots=True)
class OperationStarted:
    """Replaying it has the effects that an operation has at once: a drained node gets nothing new, a node that is
    removed is no node any more, a repaired one is known by its new disk."""

    operation: int
    """From 1; never reused."""
    kind: OperationKind
    node: NodeId
    """The node that it is about; of a move the one that the replica leaves."""
    replica: ReplicaId | None
    """The disk that is added, removed, or takes the lost one's place."""
    group: GroupId
    """Of a move; else 0."""
    to_node: NodeId
    """Of a move; else 0."""
    peer_host: str
    """Where other nodes reach the one that is added or removed, with `peer_port`; else empty."""
    peer_port: int
    moves: int
    """How many replicas were to be moved when it began."""
    wall_ms: int


@dataclass(frozen=True, slots=True)
class MoveBegun:
    """`target` is to take `source`'s place in the group. One at a time in a group."""

    operation: int
    group: GroupId
    source: ReplicaId
    target: ReplicaId


@dataclass(frozen=True, slots=True)
class MoveAbandoned:
    """The move in this group was taken back: its target is no member of it."""

    group: GroupId


@dataclass(frozen=True, slots=True)
class OperationCancelled:
    """Somebody wants it to end early."""

    operation: int


@dataclass(frozen=True, slots=True)
class OperationEnded:
    operation: int
    is_cancelled: bool
    reason: str
    wall_ms: int


Event = (
    NodeRegistered
    | NodeFenced
    | NodeUnfenced
    | TopicCreated
    | TopicAltered
    | TopicDeleted
    | ProducerIdsAllocated
    | ClusterVersionRaised
    | AssignmentChanged
    | OperationStarted
    | MoveBegun
    | MoveAbandoned
    | OperationCancelled
    | OperationEnded
    | QueueGroupSet
    | QueueGroupDeleted
    | ExchangeEvent
    | QuotaEvent
)


def encode(events: Sequence[Event]) -> bytes:
    """The body of an entry, of version `VERSION`."""
    return storage_pb2.MetadataRecord(events=[_to_proto(event) for event in events]).SerializeToString()


def decode(body: bytes, version: int) -> list[Event]:
    """The events in an entry's body. Raises PoisonEntry where this version does not understand all of it."""
    if version != VERSION:
        raise PoisonEntry(f"events of version {version}; this node understands {VERSION} and must be upgraded")
    try:
        message = parse_strictly(storage_pb2.MetadataRecord, body)
    except ValueError as error:
        raise PoisonEntry(f"events that cannot be read: {error}") from None
    return [_from_proto(event) for event in message.events]


def _to_proto(event: Event) -> storage_pb2.MetadataEvent:
    match event:
        case NodeRegistered():
            return storage_pb2.MetadataEvent(node_registered=registration_to_proto(event))
        case NodeFenced(node):
            return storage_pb2.MetadataEvent(node_fenced=storage_pb2.NodeFenced(node=node))
        case NodeUnfenced(node):
            return storage_pb2.MetadataEvent(node_unfenced=storage_pb2.NodeUnfenced(node=node))
        case TopicCreated():
            return storage_pb2.MetadataEvent(topic_created=topic_to_proto(event))
        case TopicAltered():
            return storage_pb2.MetadataEvent(topic_altered=altered_to_proto(event))
        case TopicDeleted(topic_id):
            return storage_pb2.MetadataEvent(topic_deleted=storage_pb2.TopicDeleted(topic_id=topic_id))
        case ProducerIdsAllocated(node, first, count):
            ids = storage_pb2.ProducerIdsAllocated(node=node, first=first, count=count)
            return storage_pb2.MetadataEvent(producer_ids_allocated=ids)
        case ClusterVersionRaised(version):
            raised = storage_pb2.ClusterVersionRaised(version=version)
            return storage_pb2.MetadataEvent(cluster_version_raised=raised)
        case AssignmentChanged(group, replicas):
            changed = storage_pb2.AssignmentChanged(group=group, replicas=replicas_to_proto(replicas))
            return storage_pb2.MetadataEvent(assignment_changed=changed)
        case QueueGroupSet() | QueueGroupDeleted():
            return queue_groups.to_proto(event)
        case ClientQuotaSet() | ClientQuotaDeleted():
            return quota_to_proto(event)
        case ExchangeDeclared() | ExchangeDeleted() | BindingAdded() | BindingRemoved():
            return exchange_to_proto(event)
        case _:
            return _operation_to_proto(event)


def _from_proto(message: storage_pb2.MetadataEvent) -> Event:
    match message.WhichOneof("event"):
        case "node_registered":
            return registration_from_proto(message.node_registered)
        case "node_fenced":
            return NodeFenced(NodeId(message.node_fenced.node))
        case "node_unfenced":
            return NodeUnfenced(NodeId(message.node_unfenced.node))
        case "topic_created":
            return topic_from_proto(message.topic_created)
        case "topic_altered":
            return altered_from_proto(message.topic_altered)
        case "topic_deleted":
            return TopicDeleted(message.topic_deleted.topic_id)
        case "producer_ids_allocated":
            ids = message.producer_ids_allocated
            return ProducerIdsAllocated(NodeId(ids.node), ProducerId(ids.first), ids.count)
        case "cluster_version_raised":
            return ClusterVersionRaised(message.cluster_version_raised.version)
        case "assignment_changed":
            changed = message.assignment_changed
            return AssignmentChanged(GroupId(changed.group), replicas_from_proto(changed.replicas))
        case "queue_group_set":
            return queue_groups.set_from_proto(message.queue_group_set)
        case "queue_group_deleted":
            return QueueGroupDeleted(message.queue_group_deleted.id)
        case "client_quota_set" | "client_quota_deleted":
            return quota_from_proto(message)
        case "exchange_declared" | "exchange_deleted" | "binding_added" | "binding_removed":
            return exchange_from_proto(message)
        case _:
            return _operation_from_proto(message)


def _operation_to_proto(
    event: OperationStarted | MoveBegun | MoveAbandoned | OperationCancelled | OperationEnded,
) -> storage_pb2.MetadataEvent:
    match event:
        case OperationStarted():
            return storage_pb2.MetadataEvent(operation_started=_started_to_proto(event))
        case MoveBegun(operation, group, source, target):
            (from_, to) = replicas_to_proto((source, target))
            begun = storage_pb2.MoveBegun(operation=operation, group=group, source=from_, target=to)
            return storage_pb2.MetadataEvent(move_begun=begun)
        case MoveAbandoned(group):
            return storage_pb2.MetadataEvent(move_abandoned=storage_pb2.MoveAbandoned(group=group))
        case OperationCancelled(operation):
            cancelled = storage_pb2.OperationCancelled(operation=operation)
            return storage_pb2.MetadataEvent(operation_cancelled=cancelled)
        case OperationEnded(operation, is_cancelled, reason, wall_ms):
            ended = storage_pb2.OperationEnded(
                operation=operation, is_cancelled=is_cancelled, reason=reason, wall_ms=wall_ms
            )
            return storage_pb2.MetadataEvent(operation_ended=ended)


def _operation_from_proto(message: storage_pb2.MetadataEvent) -> Event:
    match message.WhichOneof("event"):
        case "operation_started":
            return _started_from_proto(message.operation_started)
        case "move_begun":
            begun = message.move_begun
            source, target = replicas_from_proto((begun.source, begun.target))
            return MoveBegun(begun.operation, GroupId(begun.group), source, target)
        case "move_abandoned":
            return MoveAbandoned(GroupId(message.move_abandoned.group))
        case "operation_cancelled":
            return OperationCancelled(message.operation_cancelled.operation)
        case "operation_ended":
            ended = message.operation_ended
            return OperationEnded(ended.operation, ended.is_cancelled, ended.reason, ended.wall_ms)
        case _:
            raise PoisonEntry("an event without content")


def _started_to_proto(event: OperationStarted) -> storage_pb2.OperationStarted:
    started = storage_pb2.OperationStarted(
        operation=event.operation,
        kind=event.kind,
        node=event.node,
        group=event.group,
        to_node=event.to_node,
        peer_host=event.peer_host,
        peer_port=event.peer_port,
        moves=event.moves,
        wall_ms=event.wall_ms,
    )
    if event.replica is not None:
        started.replica.CopyFrom(replicas_to_proto((event.replica,))[0])
    return started


def _started_from_proto(message: storage_pb2.OperationStarted) -> OperationStarted:
    try:
        kind = OperationKind(message.kind)
    except ValueError:
        raise PoisonEntry(f"an operation of kind {message.kind}, which this version does not know") from None
    return OperationStarted(
        message.operation,
        kind,
        NodeId(message.node),
        replicas_from_proto((message.replica,))[0] if message.HasField("replica") else None,
        GroupId(message.group),
        NodeId(message.to_node),
        message.peer_host,
        message.peer_port,
        message.moves,
        message.wall_ms,
    )


def registration_to_proto(event: NodeRegistered) -> storage_pb2.NodeRegistered:
    return storage_pb2.NodeRegistered(
        id=replicas_to_proto((event.id,))[0],
        boot_count=event.boot,
        host=event.host,
        client_port=event.client_port,
        peer_host=event.peer_host,
        peer_port=event.peer_port,
        http_port=event.http_port,
        rack=event.rack,
        max_cluster_version=event.max_cluster_version,
    )


def registration_from_proto(message: storage_pb2.NodeRegistered) -> NodeRegistered:
    return NodeRegistered(
        id=replicas_from_proto((message.id,))[0],
        boot=BootCount(message.boot_count),
        host=message.host,
        client_port=message.client_port,
        peer_host=message.peer_host,
        peer_port=message.peer_port,
        http_port=message.http_port,
        rack=message.rack,
        max_cluster_version=message.max_cluster_version,
    )
