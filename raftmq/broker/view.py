"""What this node knows, in the words of the API: headers, topics, nodes, and where a record belongs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from raftmq.broker.cluster import ClusterView, Host, Queues
from raftmq.broker.deadlines import CallContext
from raftmq.errors import InvalidArgument, NotReady, UnknownPartition, UnknownTopic
from raftmq.ids import GroupId, Offset, PartitionId, Term
from raftmq.metadata.depth import DepthLimit
from raftmq.metadata.image import NodeRecord, PartitionRecord, TopicRecord
from raftmq.partition.message_ids import DEFAULT_WINDOW
from raftmq.records.slots import HASH_SLOTS, partition_for_key
from raftmq.records.topic_kinds import TopicKind
from raftmq.v1 import broker_pb2, types_pb2

REPLAY_WAIT_MS = 1_000
REPLAY_PAUSE_MS = 50
NAME_SHOWN = 100
"""Characters of a name from a request that an error repeats."""


class View:
    """The node's picture of the cluster. It may be behind; see ``ClusterView``."""

    def __init__(self, host: Host, cluster: ClusterView, queues: Queues) -> None:
        self.host = host
        self.cluster = cluster
        self.queues = queues

    # -- finding ---------------------------------------------------------------------------------------------------

    def topic(self, name: str, field: str = "topic") -> TopicRecord:
        """Raises InvalidArgument (no name), UnknownTopic, or NotReady where this node cannot tell."""
        if not name:
            raise InvalidArgument("names no topic", field=field)
        topic = self.cluster.image.topics.get(name)
        if topic is None:
            if not self.cluster.is_current():
                raise NotReady("this node has yet to learn from the controller which topics there are")
            raise UnknownTopic(f"there is no topic {name[:NAME_SHOWN]!r}", field=field)
        if topic.kind is not TopicKind.RECORDS:
            raise InvalidArgument(f"in topic {name} raftmq keeps its own state", field=field)
        return topic

    @staticmethod
    def partition(topic: TopicRecord, number: int, field: str = "partition") -> PartitionRecord:
        """Raises UnknownPartition."""
        if number >= len(topic.partitions):
            raise UnknownPartition(
                f"topic {topic.name} has partitions 0 to {len(topic.partitions) - 1}, not {number}", field=field
            )
        return topic.partitions[number]

    async def until_replayed(self, context: CallContext) -> None:
        """Return once this node knows at least what was committed when it started. Raises NotReady where that takes
        longer than a second, or than the call has: other nodes can tell."""
        waited_ms = 0
        while not self.cluster.was_current():
            if waited_ms >= min(REPLAY_WAIT_MS, context.remaining_ms - REPLAY_PAUSE_MS):
                raise NotReady("this node has yet to learn from the controller which topics there are")
            await asyncio.sleep(REPLAY_PAUSE_MS / 1000)
            waited_ms += REPLAY_PAUSE_MS

    # -- telling ---------------------------------------------------------------------------------------------------

    def header(self, group: GroupId | None = None, epoch: Term | None = None) -> types_pb2.ResponseHeader:
        """The header of a reply about `group`, answered in the term `epoch` if one is given; None: about no group."""
        leader = None if group is None else self.host.leader_of(group)
        known = Term(0) if leader is None else leader[1]
        return types_pb2.ResponseHeader(
            cluster_id=self.cluster.cluster_id,
            node_id=self.cluster.node_id,
            leader_epoch=known if epoch is None else epoch,
            leader_node_id=0 if leader is None else leader[0],
        )

    def controller_header(self) -> types_pb2.ResponseHeader:
        """The header of a reply about the cluster as a whole."""
        leader = self.cluster.controller()
        return types_pb2.ResponseHeader(
            cluster_id=self.cluster.cluster_id,
            node_id=self.cluster.node_id,
            leader_epoch=0 if leader is None else leader[1],
            leader_node_id=0 if leader is None else leader[0],
        )

    def high_watermark(self, group_id: GroupId) -> Offset:
        """First offset not visible to consumers, as of now; 0 where this node holds no replica of the group."""
        group = self.host.replicas.group(group_id)
        return Offset(0) if group is None else group.machine.next_offset

    def topic_info(self, topic: TopicRecord) -> broker_pb2.TopicInfo:
        """`topic` with its leaders, as far as they are known here."""
        info = broker_pb2.TopicInfo(
            name=topic.name,
            topic_id=topic.topic_id,
            partitions=[self._partition_info(partition) for partition in topic.partitions],
            replication_factor=topic.replication_factor,
            min_in_sync_replicas=topic.min_in_sync_replicas,
            max_batch_bytes=topic.max_batch_bytes,
            hash_slots=HASH_SLOTS,
            retention_bytes=topic.retention_bytes,
            version=topic.version,
            message_id_window_count=topic.message_id_window_count or DEFAULT_WINDOW.count,
            internal=topic.kind is not TopicKind.RECORDS,
        )
        info.message_id_window.FromMilliseconds(topic.message_id_window_ms or DEFAULT_WINDOW.age_ms)
        if topic.depth:
            info.depth.CopyFrom(_depth_info(topic.depth))
        if topic.retention_ms:
            info.retention.FromMilliseconds(topic.retention_ms)
        return info

    def topics(self, include_internal: bool = False) -> list[broker_pb2.TopicInfo]:
        """All topics, by name."""
        topics = (topic for _, topic in sorted(self.cluster.image.topics.items()))
        return [self.topic_info(one) for one in topics if include_internal or one.kind is TopicKind.RECORDS]

    def nodes(self) -> list[broker_pb2.NodeInfo]:
        """All nodes that have registered, by id."""
        return [node_info(node) for _, node in sorted(self.cluster.image.nodes.items())]

    def _partition_info(self, partition: PartitionRecord) -> broker_pb2.PartitionInfo:
        leader = self.host.leader_of(partition.group)
        return broker_pb2.PartitionInfo(
            partition=partition.partition,
            group_id=partition.group,
            leader_node_id=0 if leader is None else leader[0],
            leader_epoch=0 if leader is None else leader[1],
            replicas=[replica.node for replica in partition.replicas],
            in_sync=self.host.in_sync(partition.group),
        )


def _depth_info(limit: DepthLimit) -> broker_pb2.DepthLimit:
    info = broker_pb2.DepthLimit(
        max_records=limit.max_records,
        max_bytes=limit.max_bytes,
        overflow=broker_pb2.OverflowPolicy.Value(f"OVERFLOW_POLICY_{limit.overflow.name}"),
        sample_one_in=limit.sample_one_in,
    )
    info.max_age.FromMilliseconds(limit.max_age_ms)
    return info


def node_info(node: NodeRecord) -> broker_pb2.NodeInfo:
    return broker_pb2.NodeInfo(
        node_id=node.id.node, host=node.host, port=node.client_port, rack=node.rack, fenced=node.fenced
    )


def deal_by_key(records: Sequence[types_pb2.Record], partitions: int) -> dict[PartitionId, list[int]]:
    """The positions of `records` by the partition that they belong to, in order of the partitions.

    Records without a key go along with the first that has one; where none has, nothing is dealt.
    """
    dealt: dict[PartitionId, list[int]] = {}
    first: PartitionId | None = None
    keyless: list[int] = []
    for position, record in enumerate(records):
        if not record.HasField("key"):
            keyless.append(position)
            continue
        partition = partition_for_key(record.key, partitions)
        first = partition if first is None else first
        dealt.setdefault(partition, []).append(position)
    if first is not None and keyless:
        dealt[first] = sorted(dealt[first] + keyless)
    return dict(sorted(dealt.items()))
