"""Topics, and the cluster as its operators see it."""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.client import convert
from raftmq.client.connection import NodeChannel
from raftmq.client.convert import to_duration
from raftmq.client.metadata import MetadataCache
from raftmq.client.operations import ClusterOperations
from raftmq.client.retry import may_retry_read, may_retry_write
from raftmq.client.router import Router
from raftmq.client.types import (
    ClusterDescription,
    NodeDescription,
    Overflow,
    ProducerDescription,
    QuotaDescription,
    ReplicaDescription,
    ServerDescription,
    TopicDescription,
)
from raftmq.v1 import admin_pb2, broker_pb2, cluster_pb2

DEFAULT_TIMEOUT_MS = 15_000
PAGE = 1_000
"""Producers asked for in one call."""
LEADERS_TIMEOUT_MS = 10_000


class Admin:
    """``client.admin``. Reads are tried again while an error allows it; changes only if they surely did not happen."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = 0,
        replication_factor: int = 0,
        min_in_sync_replicas: int = 0,
        max_batch_bytes: int = 0,
        retention_ms: int = 0,
        retention_bytes: int = 0,
        message_id_window_ms: int = 0,
        message_id_window_count: int = 0,
        max_depth_records: int = 0,
        max_depth_bytes: int = 0,
        max_depth_age_ms: int = 0,
        overflow: Overflow = "reject",
        sample_one_in: int = 0,
        validate_only: bool = False,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> TopicDescription:
        """Create a topic and wait until every partition has a leader. 0: the cluster's default.

        retention_ms: records may be removed that were appended so long ago; 0: never for their age.
        retention_bytes: a partition's oldest records may be removed while so many bytes stay; 0: never for their size.
        message_id_window_ms, message_id_window_count: how long, and how many at most, message ids are remembered.
        max_depth_records, max_depth_bytes, max_depth_age_ms: how deep each partition may be; 0: without limit.
        overflow: what becomes of records beyond that: "reject" (QueueFull, which says when to come again), "block" (the
        call waits for room), "drop_oldest" (the oldest go, read or not), "sample" (one batch in `sample_one_in` is
        taken, the others end in OverflowDropped), "drop_lowest_priority" (batches of low priority end so, the lowest
        first, before there is no room at all).

        Raises InvalidArgument naming the field, AlreadyExists, and Unavailable or DeadlineExceeded with the outcome.
        """
        request = admin_pb2.CreateTopicRequest(
            name=name,
            partitions=partitions,
            replication_factor=replication_factor,
            min_in_sync_replicas=min_in_sync_replicas,
            max_batch_bytes=max_batch_bytes,
            retention=to_duration(retention_ms) if retention_ms else None,
            retention_bytes=retention_bytes,
            message_id_window=to_duration(message_id_window_ms) if message_id_window_ms else None,
            message_id_window_count=message_id_window_count,
            depth=convert.depth(max_depth_records, max_depth_bytes, max_depth_age_ms, overflow, sample_one_in),
            validate_only=validate_only,
            timeout=to_duration(min(timeout_ms, LEADERS_TIMEOUT_MS)),
        )
        answer = await self._router.to_any(
            lambda node: node.admin.CreateTopic, request, timeout_ms=timeout_ms, judge=may_retry_write
        )
        if not validate_only:
            await self._router.refresh_quietly()
        return convert.topic(answer.topic)

    async def alter_topic(
        self,
        name: str,
        *,
        min_in_sync_replicas: int | None = None,
        max_batch_bytes: int | None = None,
        retention_ms: int | None = None,
        retention_bytes: int | None = None,
        message_id_window_ms: int | None = None,
        message_id_window_count: int | None = None,
        max_depth_records: int | None = None,
        max_depth_bytes: int | None = None,
        max_depth_age_ms: int | None = None,
        overflow: Overflow | None = None,
        sample_one_in: int | None = None,
        partitions: int | None = None,
        replication_factor: int | None = None,
        expected_version: int = 0,
        validate_only: bool = False,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> TopicDescription:
        """Give a topic other settings, and return it with them; None: as it is, 0: as in `create_topic`.

        They hold once this returns, or a moment later on nodes that are behind; nothing is restarted. An open producer
        learns of another `max_batch_bytes` when it next refreshes its metadata, or when a batch is refused for it.

        partitions, replication_factor: cannot be altered; refused unless they are what the topic has.
        expected_version: only if the topic's `version` is this; 0: whatever it is. With it a call may be repeated.

        Raises UnknownTopic, InvalidArgument naming the field, UnexpectedVersion; the others as `create_topic`.
        """
        request = admin_pb2.AlterTopicRequest(
            name=name,
            min_in_sync_replicas=min_in_sync_replicas,
            max_batch_bytes=max_batch_bytes,
            retention=None if retention_ms is None else to_duration(retention_ms),
            retention_bytes=retention_bytes,
            message_id_window=None if message_id_window_ms is None else to_duration(message_id_window_ms),
            message_id_window_count=message_id_window_count,
            depth=convert.depth(max_depth_records, max_depth_bytes, max_depth_age_ms, overflow, sample_one_in),
            partitions=partitions,
            replication_factor=replication_factor,
            expected_version=expected_version,
            validate_only=validate_only,
        )
        answer = await self._router.to_any(
            lambda node: node.admin.AlterTopic, request, timeout_ms=timeout_ms, judge=may_retry_write
        )
        if not validate_only:
            await self._router.refresh_quietly()
        return convert.topic(answer.topic)

    async def delete_topic(self, name: str, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> None:
        """Delete a topic with all its records. Raises UnknownTopic; the others as `create_topic`."""
        await self._router.to_any(
            lambda node: node.admin.DeleteTopic,
            admin_pb2.DeleteTopicRequest(name=name),
            timeout_ms=timeout_ms,
            judge=may_retry_write,
        )
        await self._router.refresh_quietly()

    async def list_topics(self, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> tuple[TopicDescription, ...]:
        """All topics, by name."""
        answer = await self._router.to_any(
            lambda node: node.admin.ListTopics,
            admin_pb2.ListTopicsRequest(),
            timeout_ms=timeout_ms,
            judge=may_retry_read,
        )
        return tuple(convert.topic(t) for t in sorted(answer.topics, key=lambda t: t.name))

    async def describe_topic(self, name: str, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> TopicDescription:
        """Raises UnknownTopic."""
        answer = await self._router.to_any(
            lambda node: node.admin.DescribeTopic,
            admin_pb2.DescribeTopicRequest(name=name),
            timeout_ms=timeout_ms,
            judge=may_retry_read,
        )
        return convert.topic(answer.topic)

    async def describe_producers(
        self,
        topic: str,
        partitions: Sequence[int] = (),
        *,
        producer_id: int = 0,
        limit: int | None = None,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> tuple[ProducerDescription, ...]:
        """What the partitions (none named: all of them) remember of idempotent producers, by partition and id.

        As their leaders know it: every batch acknowledged before the call is in it. producer_id: only this one; 0: all.
        limit: the first so many; None: all. `timeout_ms` is for each 1,000 of them. Raises UnknownTopic,
        UnknownPartition, InvalidArgument.
        """
        found: list[ProducerDescription] = []
        request = broker_pb2.DescribeProducersRequest(topic=topic, partitions=partitions, producer_id=producer_id)
        while limit is None or len(found) < limit:
            request.page_size = PAGE if limit is None else min(PAGE, limit - len(found))
            answer = await self._router.to_any(
                lambda node: node.broker.DescribeProducers, request, timeout_ms=timeout_ms, judge=may_retry_read
            )
            found += [convert.producer(one.partition, info) for one in answer.partitions for info in one.producers]
            if not answer.HasField("next"):
                break
            request.after.CopyFrom(answer.next)
        return tuple(found)

    # -- quotas

    async def set_quota(
        self,
        client_id: str,
        *,
        produce_bytes_per_s: int = 0,
        fetch_bytes_per_s: int = 0,
        requests_per_s: int = 0,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> None:
        """Say what a client may do in a second, over all nodes, each of which allows its share; 0: without limit.

        client_id: as in `connect`; "": each client that has no quota of its own; "@ipv4:10.0.0.7": those at that
        address that do not name themselves.

        It holds once this returns, or a moment later on nodes that are behind. Who asks for more is told QuotaExceeded,
        and when to come again; a producer or consumer of this client waits by itself.

        Raises InvalidArgument naming the field.
        """
        quota = admin_pb2.Quota(
            client_id=client_id,
            produce_bytes_per_s=produce_bytes_per_s,
            fetch_bytes_per_s=fetch_bytes_per_s,
            requests_per_s=requests_per_s,
        )
        await self._router.to_any(
            lambda node: node.admin.SetQuota,
            admin_pb2.SetQuotaRequest(quota=quota),
            timeout_ms=timeout_ms,
            judge=may_retry_write,
        )

    async def delete_quota(self, client_id: str, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> None:
        """Let a client have what the default ("") allows; without the default, everything. Raises NotFound."""
        await self._router.to_any(
            lambda node: node.admin.DeleteQuota,
            admin_pb2.DeleteQuotaRequest(client_id=client_id),
            timeout_ms=timeout_ms,
            judge=may_retry_write,
        )

    async def list_quotas(self, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> tuple[QuotaDescription, ...]:
        """All quotas, by client id; the default, if there is one, comes first."""
        answer = await self._router.to_any(
            lambda node: node.admin.ListQuotas,
            admin_pb2.ListQuotasRequest(),
            timeout_ms=timeout_ms,
            judge=may_retry_read,
        )
        return tuple(
            QuotaDescription(one.client_id, one.produce_bytes_per_s, one.fetch_bytes_per_s, one.requests_per_s)
            for one in answer.quotas
        )


class Cluster(ClusterOperations):
    """``client.cluster``."""

    def __init__(self, router: Router, metadata: MetadataCache) -> None:
        super().__init__(router)
        self._metadata = metadata

    async def describe(self, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> ClusterDescription:
        """Nodes and topics, as the controller knows them."""
        answer = await self._router.to_any(
            lambda node: node.cluster.DescribeCluster,
            cluster_pb2.DescribeClusterRequest(),
            timeout_ms=timeout_ms,
            judge=may_retry_read,
        )
        return convert.cluster(answer)

    async def nodes(self) -> tuple[NodeDescription, ...]:
        """Nodes as any node knows them, by id. Needs no controller."""
        await self._metadata.refresh()
        return tuple(node for _, node in sorted(self._metadata.image.nodes.items()))

    async def server_info(self, node_id: int, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> ServerDescription:
        """What one node says of itself; asked once, of that node only. Raises UnknownNode."""
        channel = await self._channel(node_id)
        answer = await channel.call(
            channel.broker.GetServerInfo, broker_pb2.GetServerInfoRequest(), timeout_ms=timeout_ms
        )
        return convert.server(answer)

    async def list_replicas(
        self,
        node_id: int,
        topics: Sequence[str] = (),
        *,
        at_log_index: int = 0,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> tuple[ReplicaDescription, ...]:
        """What one node knows of the replicas that it holds; asked once, of that node only. Needs no leader.

        `topics` empty: all. `at_log_index`: where to take chain hashes, 0: at the commit index. Raises UnknownNode.
        """
        channel = await self._channel(node_id)
        request = cluster_pb2.ListReplicasRequest(topics=topics, at_log_index=at_log_index)
        answer = await channel.call(channel.cluster.ListReplicas, request, timeout_ms=timeout_ms)
        return tuple(convert.replica(replica) for replica in answer.replicas)

    async def transfer_leader(
        self, topic: str, partition: int, to_node: int | None = None, *, timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> None:
        """Move leadership to another in-sync replica; None: as the leader likes; topic "": the controller's group.

        Raises PreconditionFailed where the target may not lead.
        """
        await self._router.to_any(
            lambda node: node.cluster.TransferLeader,
            cluster_pb2.TransferLeaderRequest(topic=topic, partition=partition, to_node_id=to_node or 0),
            timeout_ms=timeout_ms,
            judge=may_retry_write,
        )
        await self._router.refresh_quietly()

    async def _channel(self, node_id: int) -> NodeChannel:
        if node_id not in self._metadata.image.nodes:
            await self._metadata.refresh()
        return self._metadata.node(node_id)
