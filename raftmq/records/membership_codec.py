"""Configurations as bytes: the body of MEMBERSHIP entries (``raftmq.internal.v1.Membership``). Frozen.

Members are written in order of (node, store), so that equal configurations have equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftmq.ids import NodeId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.raft.types import Membership
from raftmq.records.entry import CorruptEntry
from raftmq.records.poison import parse_strictly

VERSION = 1
"""Version of the body in a MEMBERSHIP entry's header."""

_NODE_ID_MAX = 2**31 - 1
_STORE_ID_MAX = 2**63 - 1


def membership_to_proto(membership: Membership) -> peer_pb2.Membership:
    """`membership` as it goes into other messages (snapshots, rows)."""
    return peer_pb2.Membership(
        voters=_members_to_proto(membership.voters),
        outgoing=_members_to_proto(membership.outgoing),
        learners=_members_to_proto(membership.learners),
    )


def membership_from_proto(message: peer_pb2.Membership) -> Membership:
    """The configuration in `message`. Raises CorruptEntry where it cannot be one."""
    voters = _members_from_proto(message.voters, "voters")
    outgoing = _members_from_proto(message.outgoing, "outgoing")
    learners = _members_from_proto(message.learners, "learners")
    if not voters:
        raise CorruptEntry("a configuration without voters")
    both = learners & (voters | outgoing)
    if both:
        raise CorruptEntry(f"{min(both)} is a learner and a voter")
    return Membership(voters, outgoing, learners)


def encode_membership(membership: Membership) -> bytes:
    """The body of a MEMBERSHIP entry. Equal configurations give equal bytes."""
    return membership_to_proto(membership).SerializeToString(deterministic=True)


def decode_membership(body: bytes) -> Membership:
    """The configuration in a MEMBERSHIP entry's body.

    Raises CorruptEntry where it is none, or has parts that this version does not know: a configuration that is only
    half understood would count the wrong majority.
    """
    try:
        message = parse_strictly(peer_pb2.Membership, body)
    except ValueError as error:
        raise CorruptEntry(str(error)) from None
    return membership_from_proto(message)


def _members_to_proto(members: frozenset[ReplicaId]) -> list[peer_pb2.ReplicaId]:
    return [peer_pb2.ReplicaId(node=member.node, store=member.store) for member in sorted(members)]


def _members_from_proto(messages: Iterable[peer_pb2.ReplicaId], where: str) -> frozenset[ReplicaId]:
    members: set[ReplicaId] = set()
    for message in messages:
        member = ReplicaId(NodeId(message.node), StoreId(message.store))
        if not 1 <= member.node <= _NODE_ID_MAX or not 1 <= member.store <= _STORE_ID_MAX:
            raise CorruptEntry(f"{member} in {where} is no replica")
        if member in members:
            raise CorruptEntry(f"{member} is twice in {where}")
        members.add(member)
    return frozenset(members)
