"""Asking the leaders of groups, wherever they are, for their configurations, and to change them."""

from __future__ import annotations

from raftmq.controller.controller import Forward
from raftmq.errors import NoLeader
from raftmq.ids import GroupId, LogIndex, NodeId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Clock
from raftmq.raft.types import Membership
from raftmq.records.membership_codec import membership_from_proto, membership_to_proto
from raftmq.replica import changing
from raftmq.replica.changing import Configuration
from raftmq.replica.host import ReplicaHost

INSPECT_GROUP = "raftmq.controller/InspectGroup"
CHANGE_GROUP = "raftmq.controller/ChangeGroup"
GROUP_METHODS = frozenset((INSPECT_GROUP, CHANGE_GROUP))


class Groups:
    """Both ends: ``handle`` answers what the other methods ask. Errors are RaftmqError."""

    def __init__(self, host: ReplicaHost, forward: Forward, clock: Clock) -> None:
        self._host = host
        self._forward = forward
        self._clock = clock

    async def configuration(self, group_id: GroupId, timeout_ms: int) -> Configuration:
        """As of after the question."""
        request = peer_pb2.InspectGroupRequest(group=group_id)
        answer = await self._ask(group_id, INSPECT_GROUP, request.SerializeToString(), timeout_ms)
        return _from_proto(peer_pb2.InspectGroupResponse.FromString(answer))

    async def change(self, group_id: GroupId, expected: LogIndex, target: Membership, timeout_ms: int) -> None:
        """Propose `target`, unless the configuration is another one than that of entry `expected` by now."""
        request = peer_pb2.ChangeGroupRequest(
            group=group_id, expected_index=expected, target=membership_to_proto(target)
        )
        await self._ask(group_id, CHANGE_GROUP, request.SerializeToString(), timeout_ms)

    async def handle(self, method: str, request: bytes, timeout_ms: int) -> bytes:
        """Answer as the leader of a group."""
        if method == INSPECT_GROUP:
            group_id = GroupId(peer_pb2.InspectGroupRequest.FromString(request).group)
            await self._host.barrier(group_id, timeout_ms)
            found = changing.configuration(self._host.replicas, group_id, self._clock.tick())
            return _to_proto(found).SerializeToString()
        wish = peer_pb2.ChangeGroupRequest.FromString(request)
        target = membership_from_proto(wish.target)
        expected = LogIndex(wish.expected_index)
        changing.change(self._host.replicas, GroupId(wish.group), expected, target, self._clock.tick())
        return peer_pb2.ChangeGroupResponse().SerializeToString()

    async def _ask(self, group_id: GroupId, method: str, request: bytes, timeout_ms: int) -> bytes:
        leader = self._leader(group_id)
        if leader is None:
            raise NoLeader(f"no leader of group {group_id} is known")
        if leader == self._host.replicas.me.node:
            return await self.handle(method, request, timeout_ms)
        return await self._forward(leader, method, request, timeout_ms)

    def _leader(self, group_id: GroupId) -> NodeId | None:
        """By notice, where the replica here knows of none: it may have been removed, and nobody tells it any more."""
        leader = self._host.leader_of(group_id)
        if leader is not None:
            return leader[0]
        notice = self._host.replicas.leaders.get(group_id)
        return None if notice is None or notice.leader == self._host.replicas.me.node else notice.leader


def _to_proto(found: Configuration) -> peer_pb2.InspectGroupResponse:
    return peer_pb2.InspectGroupResponse(
        membership=membership_to_proto(found.membership),
        membership_index=found.index,
        is_settled=found.is_settled,
        caught_up=[_replica(member) for member in found.caught_up],
        last_index=found.last_index,
        members=[_replica(member) for member in found.match_index],
        match_indexes=found.match_index.values(),
    )


def _from_proto(message: peer_pb2.InspectGroupResponse) -> Configuration:
    members = [_replica_from(member) for member in message.members]
    return Configuration(
        membership_from_proto(message.membership),
        LogIndex(message.membership_index),
        message.is_settled,
        tuple(_replica_from(member) for member in message.caught_up),
        dict(zip(members, map(LogIndex, message.match_indexes), strict=True)),
        LogIndex(message.last_index),
    )


def _replica(replica: ReplicaId) -> peer_pb2.ReplicaId:
    return peer_pb2.ReplicaId(node=replica.node, store=replica.store)


def _replica_from(message: peer_pb2.ReplicaId) -> ReplicaId:
    return ReplicaId(NodeId(message.node), StoreId(message.store))
