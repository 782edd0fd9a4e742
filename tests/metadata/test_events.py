"""Events as bytes; what is not understood is never skipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.ids import BootCount, GroupId, NodeId, PartitionId, ProducerId, ReplicaId, StoreId
from raftmq.metadata.depth import DepthLimit, Overflow
from raftmq.metadata.events import (
    VERSION,
    AssignmentChanged,
    BindingAdded,
    BindingRemoved,
    ClientQuotaDeleted,
    ClientQuotaSet,
    ClusterVersionRaised,
    Event,
    ExchangeDeclared,
    ExchangeDeleted,
    MoveAbandoned,
    MoveBegun,
    NodeFenced,
    NodeRegistered,
    NodeUnfenced,
    OperationCancelled,
    OperationEnded,
    OperationStarted,
    PartitionAssigned,
    ProducerIdsAllocated,
    TopicAltered,
    TopicCreated,
    TopicDeleted,
    decode,
    encode,
)
from raftmq.metadata.exchange import Binding, ExchangeKind
from raftmq.metadata.operation import OperationKind
from raftmq.records.poison import PoisonEntry

nodes = st.integers(1, 2**31 - 1).map(NodeId)
replicas = st.builds(ReplicaId, nodes, st.integers(1, 2**63 - 1).map(StoreId))
replica_lists = st.lists(replicas, min_size=1, max_size=3, unique=True).map(tuple)
groups = st.integers(1, 2**63).map(GroupId)
numbers = st.integers(0, 2**32 - 1)
ids = st.integers(1, 2**63)
ports = st.integers(0, 65535)
names = st.text(max_size=10)
headers = st.lists(st.tuples(names, st.binary(max_size=4)), max_size=2).map(tuple)
bindings = st.builds(Binding, names, names, names, headers, st.booleans())
events = st.one_of(
    st.builds(
        NodeRegistered,
        replicas,
        st.integers(1, 2**63).map(BootCount),
        names,
        ports,
        names,
        ports,
        ports,
        names,
        numbers,
    ),
    st.builds(NodeFenced, nodes),
    st.builds(NodeUnfenced, nodes),
    st.builds(
        TopicCreated,
        st.integers(1, 2**63),
        names,
        numbers,
        numbers,
        numbers,
        st.lists(
            st.builds(PartitionAssigned, groups, numbers.map(PartitionId), replica_lists), min_size=1, max_size=3
        ).map(tuple),
    ),
    st.builds(TopicAltered, st.integers(1, 2**63), numbers, numbers, numbers, numbers, numbers, numbers),
    st.builds(TopicDeleted, st.integers(1, 2**63)),
    st.builds(ProducerIdsAllocated, nodes, st.integers(1, 2**63).map(ProducerId), numbers),
    st.builds(ClusterVersionRaised, numbers),
    st.builds(AssignmentChanged, groups, replica_lists),
    st.builds(
        OperationStarted,
        ids,
        st.sampled_from(OperationKind),
        nodes,
        st.none() | replicas,
        groups,
        nodes,
        names,
        ports,
        numbers,
        ids,
    ),
    st.builds(MoveBegun, ids, groups, replicas, replicas),
    st.builds(MoveAbandoned, groups),
    st.builds(OperationCancelled, ids),
    st.builds(OperationEnded, ids, st.booleans(), names, ids),
    st.builds(ExchangeDeclared, names, st.sampled_from(ExchangeKind), names),
    st.builds(ExchangeDeleted, names),
    st.builds(BindingAdded, names, bindings),
    st.builds(BindingRemoved, names, bindings),
)


@given(st.lists(events, max_size=4))
def test_round_trip(happened: list[Event]) -> None:
    assert decode(encode(happened), VERSION) == happened


ONE, TWO = ReplicaId(NodeId(1), StoreId(7)), ReplicaId(NodeId(2), StoreId(8))


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (
            NodeRegistered(ONE, BootCount(3), "a", 1, "b", 2, 3, "r", 4),
            "0a1b0a190a040801100710031a01612001280230033a017240044a0162",
        ),
        (NodeFenced(NodeId(5)), "0a0412020805"),
        (NodeUnfenced(NodeId(5)), "0a041a020805"),
        (
            TopicCreated(1, "t", 2, 1, 9, (PartitionAssigned(GroupId(4), PartitionId(0), (ONE, TWO)),)),
            "0a1d221b0801120174180220012809320e08041a04080110071a0408021008",
        ),
        (TopicCreated(1, "t", 1, 1, 9, (), 7, 300), "0a1222100801120174180120012809380740ac02"),
        (TopicCreated(1, "t", 1, 1, 9, (), 7, 300, 8, 9), "0a1622140801120174180120012809380740ac0248085009"),
        (TopicAltered(6, 1, 2, 3, 4, 5, 6), "0a10720e0806100118022003280430053806"),
        (
            TopicAltered(6, 1, 2, 0, 0, 0, 0, DepthLimit(7, 8, 9, Overflow.BLOCK, 4)),
            "0a157213080610011802a2010a08071008180920022804",
        ),
        (TopicDeleted(6), "0a042a020806"),
        (ProducerIdsAllocated(NodeId(1), ProducerId(2), 3), "0a083206080110021803"),
        (ClientQuotaSet("app", 1, 2, 3), "0a0ec2020b0a03617070100118022003"),
        (ClientQuotaDeleted("app"), "0a08ca02050a03617070"),
        (ClusterVersionRaised(2), "0a043a020802"),
        (AssignmentChanged(GroupId(4), (TWO, ONE)), "0a10420e0804120408021008120408011007"),
        (
            OperationStarted(1, OperationKind.ADD_NODE, NodeId(2), TWO, GroupId(3), NodeId(4), "h", 5, 6, 7),
            "0a1b4a19080110011802220408021008280330043a0168400548065007",
        ),
        (MoveBegun(1, GroupId(2), ONE, TWO), "0a125210080110021a0408011007220408021008"),
        (MoveAbandoned(GroupId(2)), "0a045a020802"),
        (OperationCancelled(2), "0a0462020802"),
        (OperationEnded(2, True, "r", 3), "0a0b6a09080210011a01722003"),
        (ExchangeDeclared("x", ExchangeKind.TOPIC, "y"), "0a0ba201080a017810031a0179"),
        (ExchangeDeleted("x"), "0a06aa01030a0178"),
        (BindingAdded("x", Binding("t", routing_key="a.*")), "0a10b2010d0a017812080a01741a03612e2a"),
        (
            BindingRemoved("x", Binding(exchange="y", headers=(("h", b"v"),), any=True)),
            "0a15ba01120a0178120d12017922060a01681201762801",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_the_bytes_are_frozen(event: Event, body: str) -> None:
    assert encode([event]).hex() == body
    assert decode(bytes.fromhex(body), 1) == [event]


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_another_version_is_poison(version: int) -> None:
    with pytest.raises(PoisonEntry, match=f"version {version}"):
        decode(encode([TopicDeleted(1)]), version)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\x0a\x00",  # an event without content
        b"\x0a\x04\x9a\x06\x01x",  # an event of a later version
        b"\x0a\x06\x12\x04\x08\x05\x10\x01",  # a known event with a field of a later version
        encode([TopicDeleted(1)]) + b"\x9a\x06\x01x",
        b"\x0a\x08\xa2\x01\x05\x0a\x01x\x10\x05",  # an exchange of a later kind
    ],
)
def test_what_is_not_understood_is_poison(body: bytes) -> None:
    with pytest.raises(PoisonEntry):
        decode(body, VERSION)
