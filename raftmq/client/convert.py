"""From the generated messages to the value objects of types.py."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from raftmq.client.types import (
    BatchReceipt,
    ClusterDescription,
    ClusterNodeDescription,
    ClusterVersion,
    NodeDescription,
    OperationDescription,
    Overflow,
    PartitionDescription,
    PartitionOffsets,
    ProducerDescription,
    ReplicaDescription,
    ServerDescription,
    TopicDescription,
)
from raftmq.errors import InvalidArgument
from raftmq.v1 import broker_pb2, cluster_pb2, types_pb2


def receipt(wire: types_pb2.Receipt, *, latency_us: int, attempts: int) -> BatchReceipt:
    return BatchReceipt(
        topic=wire.topic,
        partition=wire.partition,
        base_offset=wire.base_offset if wire.HasField("base_offset") else None,
        count=wire.count,
        leader_epoch=wire.leader_epoch,
        log_index=wire.log_index,
        append_time_ms=wire.append_time_ms,
        replicas=tuple(wire.replicas),
        duplicate=wire.duplicate,
        queue_us=wire.queue_us,
        sync_us=wire.sync_us,
        replication_us=wire.replication_us,
        latency_us=latency_us,
        attempts=attempts,
    )


def node(wire: broker_pb2.NodeInfo) -> NodeDescription:
    return NodeDescription(wire.node_id, wire.host, wire.port, wire.rack, wire.fenced)


def partition(wire: broker_pb2.PartitionInfo) -> PartitionDescription:
    return PartitionDescription(
        partition=wire.partition,
        group_id=wire.group_id,
        leader=wire.leader_node_id or None,
        leader_epoch=wire.leader_epoch,
        replicas=tuple(wire.replicas),
        in_sync=tuple(wire.in_sync),
    )


def topic(wire: broker_pb2.TopicInfo) -> TopicDescription:
    return TopicDescription(
        name=wire.name,
        topic_id=wire.topic_id,
        partitions=tuple(partition(p) for p in sorted(wire.partitions, key=lambda p: p.partition)),
        replication_factor=wire.replication_factor,
        min_in_sync_replicas=wire.min_in_sync_replicas,
        max_batch_bytes=wire.max_batch_bytes,
        retention_ms=wire.retention.ToMilliseconds(),
        retention_bytes=wire.retention_bytes,
        message_id_window_ms=wire.message_id_window.ToMilliseconds(),
        message_id_window_count=wire.message_id_window_count,
        max_depth_records=wire.depth.max_records,
        max_depth_bytes=wire.depth.max_bytes,
        max_depth_age_ms=wire.depth.max_age.ToMilliseconds(),
        overflow=_overflow(wire.depth.overflow),
        sample_one_in=wire.depth.sample_one_in,
        version=wire.version,
    )


_OVERFLOWS: dict[int, Overflow] = {
    broker_pb2.OVERFLOW_POLICY_REJECT: "reject",
    broker_pb2.OVERFLOW_POLICY_BLOCK: "block",
    broker_pb2.OVERFLOW_POLICY_DROP_OLDEST: "drop_oldest",
    broker_pb2.OVERFLOW_POLICY_SAMPLE: "sample",
    broker_pb2.OVERFLOW_POLICY_DROP_LOWEST_PRIORITY: "drop_lowest_priority",
}


def _overflow(wire: int) -> Overflow:
    return _OVERFLOWS.get(wire, "reject")


def depth(
    max_records: int | None,
    max_bytes: int | None,
    max_age_ms: int | None,
    overflow: Overflow | None,
    sample_one_in: int | None,
) -> broker_pb2.DepthLimit | None:
    """What is wanted of a topic's depth; None: nothing. Raises InvalidArgument."""
    if overflow is not None and overflow not in _OVERFLOWS.values():
        raise InvalidArgument(f"overflow is one of {', '.join(_OVERFLOWS.values())}", field="overflow")
    if all(value is None for value in (max_records, max_bytes, max_age_ms, overflow, sample_one_in)):
        return None
    wire = broker_pb2.DepthLimit(max_records=max_records, max_bytes=max_bytes, sample_one_in=sample_one_in)
    if max_age_ms is not None:
        wire.max_age.FromMilliseconds(max_age_ms)
    if overflow is not None:
        wire.overflow = broker_pb2.OverflowPolicy.Value(f"OVERFLOW_POLICY_{overflow.upper()}")
    return wire


def offsets(wire: broker_pb2.PartitionOffsets) -> PartitionOffsets:
    return PartitionOffsets(
        wire.partition,
        wire.log_start_offset,
        wire.high_watermark,
        wire.leader_epoch,
        wire.offset_appended_at if wire.HasField("offset_appended_at") else None,
    )


def producer(partition: int, wire: broker_pb2.ProducerInfo) -> ProducerDescription:
    return ProducerDescription(
        partition=partition,
        producer_id=wire.producer_id,
        producer_epoch=wire.producer_epoch,
        first_sequence=wire.first_sequence,
        last_sequence=wire.last_sequence,
        last_offset=wire.last_offset,
        last_append_time_ms=wire.last_appended.ToMilliseconds(),
        expires_in_ms=wire.expires_in.ToMilliseconds(),
    )


def cluster(wire: cluster_pb2.DescribeClusterResponse) -> ClusterDescription:
    return ClusterDescription(
        cluster_id=wire.header.cluster_id,
        name=wire.cluster_name,
        nodes=tuple(_cluster_node(n) for n in wire.nodes),
        controller=wire.controller_node_id or None,
        controller_epoch=wire.controller_epoch,
        topics=tuple(topic(t) for t in wire.topics),
        version=_version(wire.version) if wire.HasField("version") else None,
    )


def _version(wire: cluster_pb2.ClusterVersion) -> ClusterVersion:
    return ClusterVersion(wire.version, wire.newest, tuple(wire.behind_node_ids), tuple(wire.unheard_node_ids))


_DISK_LEVELS = {
    cluster_pb2.DISK_LEVEL_AMPLE: "ample",
    cluster_pb2.DISK_LEVEL_LOW: "low",
    cluster_pb2.DISK_LEVEL_FULL: "full",
}


def _cluster_node(wire: cluster_pb2.ClusterNode) -> ClusterNodeDescription:
    return ClusterNodeDescription(
        info=node(wire.info),
        boot_count=wire.boot_count,
        last_heard_ms=wire.last_heard.ToMilliseconds(),
        led_partitions=wire.led_partitions,
        replicas=wire.replicas,
        controller_voter=wire.controller_voter,
        disk=_DISK_LEVELS.get(wire.disk_level, ""),
        leaving=wire.leaving,
        max_cluster_version=wire.max_cluster_version,
    )


def operation(wire: cluster_pb2.Operation) -> OperationDescription:
    return OperationDescription(
        operation_id=wire.operation_id,
        kind=_word(cluster_pb2.OperationKind.Name(wire.kind), "OPERATION_KIND_"),
        state=_word(cluster_pb2.OperationState.Name(wire.state), "OPERATION_STATE_"),
        node_id=wire.node_id,
        topic=wire.topic,
        partition=wire.partition,
        to_node_id=wire.to_node_id,
        moves=wire.moves,
        moves_left=wire.moves_left,
        reason=wire.reason,
        started_ms=wire.started.ToMilliseconds(),
        ended_ms=wire.ended.ToMilliseconds() if wire.HasField("ended") else None,
    )


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def replica(wire: cluster_pb2.ReplicaState) -> ReplicaDescription:
    return ReplicaDescription(
        topic=wire.topic,
        partition=wire.partition,
        group_id=wire.group_id,
        role=wire.role,
        term=wire.term,
        leader=wire.leader_node_id or None,
        last_index=wire.last_index,
        persisted_index=wire.persisted_index,
        commit_index=wire.commit_index,
        applied_index=wire.applied_index,
        log_start_offset=wire.log_start_offset,
        log_end_offset=wire.log_end_offset,
        high_watermark=wire.high_watermark,
        suspect=wire.suspect,
        in_sync=tuple(wire.in_sync),
        lag=dict(sorted(wire.lag.items())),
        chain_hash=wire.chain_hash,
        chain_index=wire.chain_index,
    )


def server(wire: broker_pb2.GetServerInfoResponse) -> ServerDescription:
    return ServerDescription(
        node_id=wire.header.node_id,
        version=wire.version,
        api_level=wire.api_level,
        boot_count=wire.boot_count,
        max_message_bytes=wire.max_message_bytes,
        max_batch_bytes=wire.max_batch_bytes,
    )


def to_duration(milliseconds: int) -> Duration:
    """A length of time as requests tell it."""
    duration = Duration()
    duration.FromMilliseconds(milliseconds)
    return duration
