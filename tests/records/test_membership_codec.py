"""Configurations as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.ids import NodeId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.raft.types import Membership
from raftmq.records.entry import CorruptEntry
from raftmq.records.membership_codec import decode_membership, encode_membership, membership_from_proto


def replica(node: int, store: int = 1) -> ReplicaId:
    return ReplicaId(NodeId(node), StoreId(store))


replicas = st.builds(replica, st.integers(1, 2**31 - 1), st.integers(1, 2**63 - 1))


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    members = draw(st.lists(replicas, min_size=1, max_size=12, unique=True))
    voters = draw(st.integers(1, len(members)))
    outgoing = draw(st.sets(st.sampled_from(members[:voters])))
    return Membership(frozenset(members[:voters]), frozenset(outgoing), frozenset(members[voters:]))


@given(memberships())
def test_round_trip(membership: Membership) -> None:
    assert decode_membership(encode_membership(membership)) == membership


def test_the_bytes_are_frozen_and_sorted() -> None:
    membership = Membership(
        frozenset({replica(2, 5), replica(1, 9), replica(2, 4)}), frozenset({replica(1, 9)}), frozenset({replica(3)})
    )
    assert encode_membership(membership).hex() == "0a04080110090a04080210040a04080210051204080110091a0408031001"


def member(node: int, store: int) -> peer_pb2.ReplicaId:
    return peer_pb2.ReplicaId(node=node, store=store)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (peer_pb2.Membership(), "without voters"),
        (peer_pb2.Membership(learners=[member(1, 1)]), "without voters"),
        (peer_pb2.Membership(voters=[member(0, 1)]), "is no replica"),
        (peer_pb2.Membership(voters=[member(1, 0)]), "is no replica"),
        (peer_pb2.Membership(voters=[member(2**31, 1)]), "is no replica"),
        (peer_pb2.Membership(voters=[member(1, 2**63)]), "is no replica"),
        (peer_pb2.Membership(voters=[member(1, 1), member(1, 1)]), "twice in voters"),
        (peer_pb2.Membership(voters=[member(1, 1)], learners=[member(1, 1)]), "a learner and a voter"),
        (peer_pb2.Membership(voters=[member(1, 1)], outgoing=[member(2, 1)], learners=[member(2, 1)]), "a learner"),
    ],
)
def test_what_cannot_be_a_configuration_is_refused(message: peer_pb2.Membership, reason: str) -> None:
    with pytest.raises(CorruptEntry, match=reason):
        membership_from_proto(message)
    with pytest.raises(CorruptEntry, match=reason):
        decode_membership(message.SerializeToString())


@pytest.mark.parametrize("tail", [b"\x9a\x06\x01x", b"\xff"])
def test_a_configuration_that_is_only_half_understood_is_refused(tail: bytes) -> None:
    body = encode_membership(Membership(frozenset({replica(1)})))
    with pytest.raises(CorruptEntry):
        decode_membership(body + tail)
