"""The larger events of topics, and their bytes. Part of ``events``, where the rules for all of them stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raftmq.ids import GroupId, NodeId, PartitionId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2, storage_pb2
from raftmq.metadata.depth import NO_LIMIT, DepthLimit, depth_from_proto, depth_to_proto
from raftmq.records.poison import PoisonEntry
from raftmq.records.topic_kinds import TopicKind


@dataclass(frozen=True, slots=True)
class PartitionAssigned:
    """One partition of a new topic. `replicas` in order of preference: the first should lead."""

    group: GroupId
    partition: PartitionId
    replicas: tuple[ReplicaId, ...]


@dataclass(frozen=True, slots=True)
class TopicCreated:
    topic_id: int
    name: str
    replication_factor: int
    min_in_sync_replicas: int
    max_batch_bytes: int
    partitions: tuple[PartitionAssigned, ...]
    retention_ms: int = 0
    """0: for ever."""
    retention_bytes: int = 0
    """Of each partition; 0: without limit."""
    message_id_window_ms: int = 0
    """0, of both: as a partition does by itself."""
    message_id_window_count: int = 0
    depth: DepthLimit = NO_LIMIT
    kind: TopicKind = TopicKind.RECORDS


@dataclass(frozen=True, slots=True)
class TopicAltered:
    """The topic has these settings now; its version is one higher. Meanings as in ``TopicCreated``."""

    topic_id: int
    min_in_sync_replicas: int
    max_batch_bytes: int
    retention_ms: int
    retention_bytes: int
    message_id_window_ms: int
    message_id_window_count: int
    depth: DepthLimit = NO_LIMIT


def topic_to_proto(event: TopicCreated) -> storage_pb2.TopicCreated:
    return storage_pb2.TopicCreated(
        topic_id=event.topic_id,
        name=event.name,
        replication_factor=event.replication_factor,
        min_in_sync_replicas=event.min_in_sync_replicas,
        max_batch_bytes=event.max_batch_bytes,
        partitions=[
            storage_pb2.PartitionAssigned(
                group=partition.group,
                partition=partition.partition,
                replicas=replicas_to_proto(partition.replicas),
            )
            for partition in event.partitions
        ],
        retention_ms=event.retention_ms,
        retention_bytes=event.retention_bytes,
        message_id_window_ms=event.message_id_window_ms,
        message_id_window_count=event.message_id_window_count,
        depth=depth_to_proto(event.depth),
        kind=event.kind,
    )


def topic_from_proto(message: storage_pb2.TopicCreated) -> TopicCreated:
    try:
        kind = TopicKind(message.kind)
    except ValueError:
        raise PoisonEntry(f"a topic of kind {message.kind}, which this version does not know") from None
    return TopicCreated(
        topic_id=message.topic_id,
        name=message.name,
        replication_factor=message.replication_factor,
        min_in_sync_replicas=message.min_in_sync_replicas,
        max_batch_bytes=message.max_batch_bytes,
        partitions=tuple(
            PartitionAssigned(
                GroupId(partition.group), PartitionId(partition.partition), replicas_from_proto(partition.replicas)
            )
            for partition in message.partitions
        ),
        retention_ms=message.retention_ms,
        retention_bytes=message.retention_bytes,
        message_id_window_ms=message.message_id_window_ms,
        message_id_window_count=message.message_id_window_count,
        depth=depth_from_proto(message.depth),
        kind=kind,
    )


def altered_to_proto(event: TopicAltered) -> storage_pb2.TopicAltered:
    return storage_pb2.TopicAltered(
        topic_id=event.topic_id,
        min_in_sync_replicas=event.min_in_sync_replicas,
        max_batch_bytes=event.max_batch_bytes,
        retention_ms=event.retention_ms,
        retention_bytes=event.retention_bytes,
        message_id_window_ms=event.message_id_window_ms,
        message_id_window_count=event.message_id_window_count,
        depth=depth_to_proto(event.depth),
    )


def altered_from_proto(message: storage_pb2.TopicAltered) -> TopicAltered:
    return TopicAltered(
        topic_id=message.topic_id,
        min_in_sync_replicas=message.min_in_sync_replicas,
        max_batch_bytes=message.max_batch_bytes,
        retention_ms=message.retention_ms,
        retention_bytes=message.retention_bytes,
        message_id_window_ms=message.message_id_window_ms,
        message_id_window_count=message.message_id_window_count,
        depth=depth_from_proto(message.depth),
    )


def replicas_to_proto(replicas: Iterable[ReplicaId]) -> list[peer_pb2.ReplicaId]:
    return [peer_pb2.ReplicaId(node=replica.node, store=replica.store) for replica in replicas]


def replicas_from_proto(messages: Iterable[peer_pb2.ReplicaId]) -> tuple[ReplicaId, ...]:
    return tuple(ReplicaId(NodeId(message.node), StoreId(message.store)) for message in messages)
