"""raftmq.v1.Cluster: the cluster as its operators see it."""

from __future__ import annotations

import asyncio
from collections import Counter

from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, Target
from raftmq.broker.replica_states import chain_at, chain_index, replica_state
from raftmq.broker.view import View, node_info
from raftmq.errors import InvalidArgument, UnknownNode
from raftmq.ids import CONTROLLER_GROUP, GroupId, LogIndex, NodeId
from raftmq.metadata.image import MetadataImage, NodeRecord
from raftmq.ports import DiskLevel, Store
from raftmq.replica.group import ReplicaGroup
from raftmq.v1 import cluster_pb2

TRANSFER_LIMIT_MS = 10_000
SILENCE_MAX_MS = 2**39
"""Longer than any silence that was measured: the node was never heard."""

_DISK_LEVELS = {
    DiskLevel.AMPLE: cluster_pb2.DISK_LEVEL_AMPLE,
    DiskLevel.LOW: cluster_pb2.DISK_LEVEL_LOW,
    DiskLevel.FULL: cluster_pb2.DISK_LEVEL_FULL,
}


class ClusterService:
    """The methods of ``raftmq.v1.Cluster``."""

    def __init__(self, view: View, store: Store) -> None:
        self._view = view
        self._store = store

    def entries(self) -> dict[str, Entry]:
        """For the table of methods."""
        return {
            "Cluster.DescribeCluster": Entry(self.describe_cluster, reads=True),
            "Cluster.ListReplicas": Entry(self.list_replicas, reads=True),
            "Cluster.TransferLeader": Entry(self.transfer_leader, reads=False, target=self._transfer_target),
        }

    # -- DescribeCluster -------------------------------------------------------------------------------------------

    async def describe_cluster(
        self, _request: cluster_pb2.DescribeClusterRequest, _context: CallContext
    ) -> cluster_pb2.DescribeClusterResponse:
        """As this node sees it: an operator needs an answer most when there is no leader to ask."""
        view = self._view
        controller = view.cluster.controller()
        led, held = self._loads()
        voters = self._controller_voters()
        nodes = [
            self._node(node, led[node_id], held[node_id], node_id in voters)
            for node_id, node in sorted(view.cluster.image.nodes.items())
        ]
        return cluster_pb2.DescribeClusterResponse(
            header=view.controller_header(),
            cluster_name=view.cluster.cluster_name,
            nodes=nodes,
            controller_node_id=0 if controller is None else controller[0],
            controller_epoch=0 if controller is None else controller[1],
            topics=view.topics(include_internal=True),
            version=self._version(),
        )

    def _version(self) -> cluster_pb2.ClusterVersion:
        standing = self._view.cluster.version_standing()
        return cluster_pb2.ClusterVersion(
            version=standing.version,
            newest=standing.newest,
            behind_node_ids=standing.behind,
            unheard_node_ids=standing.unheard,
        )

    def _loads(self) -> tuple[Counter[NodeId], Counter[NodeId]]:
        """(partitions led, replicas held) by node."""
        led: Counter[NodeId] = Counter()
        held: Counter[NodeId] = Counter()
        for topic in self._view.cluster.image.topics.values():
            for partition in topic.partitions:
                held.update(replica.node for replica in partition.replicas)
                leader = self._view.host.leader_of(partition.group)
                if leader is not None:
                    led[leader[0]] += 1
        return led, held

    def _controller_voters(self) -> frozenset[NodeId]:
        group = self._view.host.replicas.group(CONTROLLER_GROUP)
        return frozenset() if group is None else frozenset(voter.node for voter in group.voters())

    def _node(self, node: NodeRecord, led: int, held: int, votes: bool) -> cluster_pb2.ClusterNode:
        described = cluster_pb2.ClusterNode(
            info=node_info(node),
            boot_count=node.boot,
            led_partitions=led,
            replicas=held,
            controller_voter=votes,
            leaving=node.leaving,
            max_cluster_version=node.max_cluster_version,
        )
        silence_ms = self._view.cluster.node_silence_ms(node.id.node)
        if silence_ms < SILENCE_MAX_MS:
            described.disk_level = _DISK_LEVELS[self._view.host.disk_of(node.id.node)]
            described.last_heard.FromMilliseconds(silence_ms)
        return described

    # -- ListReplicas ----------------------------------------------------------------------------------------------

    async def list_replicas(
        self, request: cluster_pb2.ListReplicasRequest, _context: CallContext
    ) -> cluster_pb2.ListReplicasResponse:
        states = [await self._state(group, LogIndex(request.at_log_index)) for group in self._wanted(request)]
        return cluster_pb2.ListReplicasResponse(header=self._view.controller_header(), replicas=states)

    def _wanted(self, request: cluster_pb2.ListReplicasRequest) -> list[ReplicaGroup]:
        image = self._view.cluster.image
        groups = [group for _, group in sorted(self._view.host.replicas.groups.items())]
        if not request.topics:
            return groups
        wanted = {group_id for name in request.topics for group_id in _groups_of(name, image)}
        return [group for group in groups if group.id in wanted]

    async def _state(self, group: ReplicaGroup, at: LogIndex) -> cluster_pb2.ReplicaState:
        state = replica_state(group, self._view.cluster.image)
        leadership = self._view.host.replicas.leadership(group.id)
        if leadership is not None and leadership.announced is not None:
            state.in_sync.extend(sorted(member.node for member in leadership.announced))
        index = chain_index(group, at)
        chain = await asyncio.to_thread(chain_at, group, index, self._store)
        if chain is not None:
            state.chain_hash, state.chain_index = chain, index
        return state

    # -- TransferLeader --------------------------------------------------------------------------------------------

    def _transfer_target(self, request: cluster_pb2.TransferLeaderRequest) -> Target:
        if request.to_node_id and NodeId(request.to_node_id) not in self._view.cluster.image.nodes:
            raise UnknownNode(f"there is no node {request.to_node_id}", field="to_node_id")
        return Target(self._group_of(request), TRANSFER_LIMIT_MS)

    def _group_of(self, request: cluster_pb2.TransferLeaderRequest) -> GroupId:
        if request.topic:
            return self._view.partition(self._view.topic(request.topic), request.partition).group
        if request.partition:
            raise InvalidArgument("the controller's group has no partitions", field="partition")
        return CONTROLLER_GROUP

    async def transfer_leader(
        self, request: cluster_pb2.TransferLeaderRequest, _context: CallContext
    ) -> cluster_pb2.TransferLeaderResponse:
        """Begin it: leadership is there when the new leader says so."""
        group = self._group_of(request)
        self._view.host.transfer(group, NodeId(request.to_node_id) if request.to_node_id else None)
        return cluster_pb2.TransferLeaderResponse(header=self._view.header(group))


def _groups_of(topic: str, image: MetadataImage) -> list[GroupId]:
    """The groups of a topic; the empty name is the controller's. None of an unknown one: this node may hold none."""
    if not topic:
        return [CONTROLLER_GROUP]
    found = image.topics.get(topic)
    return [] if found is None else [partition.group for partition in found.partitions]
