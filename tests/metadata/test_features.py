"""The cluster version: nothing is proposed that a member does not understand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from raftmq.errors import ClusterTooOld, NotReady
from raftmq.ids import GroupId, NodeId, ReplicaId, StoreId
from raftmq.metadata import features
from raftmq.metadata.depth import DepthLimit
from raftmq.metadata.events import (
    BindingAdded,
    ClientQuotaDeleted,
    ClusterVersionRaised,
    Event,
    ExchangeDeclared,
    ExchangeDeleted,
    NodeFenced,
    OperationStarted,
    QueueGroupDeleted,
    TopicAltered,
    TopicCreated,
    TopicKind,
)
from raftmq.metadata.exchange import Binding, ExchangeKind
from raftmq.metadata.features import Standing
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.operation import OperationKind
from tests.metadata.test_decisions import registration, replayed, replica

MEMBERS = [replica(1), replica(2)]
EXCHANGE = ExchangeDeclared("events", ExchangeKind.FANOUT, "")
CREATED = TopicCreated(1, "orders", 3, 2, 1024, ())
ALTERED = TopicAltered(1, 2, 1024, 0, 0, 0, 0)
LIMIT = DepthLimit(max_records=1)
NEW_DISK = ReplicaId(NodeId(3), StoreId(99))


def nodes(*versions: int) -> MetadataImage:
    return replayed(
        MetadataImage(),
        [registration(number, max_cluster_version=version) for number, version in enumerate(versions, start=1)],
    )


@pytest.mark.parametrize(
    ("event", "version"),
    [
        (NodeFenced(NodeId(1)), 1),
        (CREATED, 1),
        (ALTERED, 1),
        (dataclasses.replace(CREATED, depth=LIMIT), 2),
        (dataclasses.replace(ALTERED, depth=LIMIT), 2),
        (dataclasses.replace(CREATED, kind=TopicKind.CONSUMER_GROUPS), 2),
        (EXCHANGE, 2),
        (ExchangeDeleted("events"), 2),
        (BindingAdded("events", Binding(topic="orders")), 2),
        (QueueGroupDeleted(1), 2),
        (ClientQuotaDeleted("somebody"), 2),
    ],
)
def test_what_came_when(event: Any, version: int) -> None:
    assert features.needed_for(event) == version


def test_what_everybody_understands_is_proposed_and_raises_the_version_first_where_it_must() -> None:
    image = nodes(2, 2)
    assert features.allowed(image, MEMBERS, [CREATED]) == [CREATED]
    decided: list[Event] = [CREATED, EXCHANGE]
    assert features.allowed(image, MEMBERS, decided) == [ClusterVersionRaised(2), *decided]
    assert features.allowed(image.replay(ClusterVersionRaised(2)), MEMBERS, decided) == decided


def test_the_nodes_that_are_too_old_are_named() -> None:
    with pytest.raises(ClusterTooOld, match="node 2, 3 does not understand: upgrade it first") as refused:
        features.allowed(nodes(2, 1, 1), MEMBERS, [EXCHANGE])
    assert refused.value.metadata == {"nodes": "2, 3", "needed_version": "2", "cluster_version": "1"}
    assert not refused.value.retriable
    assert features.allowed(nodes(2, 1, 1), MEMBERS, [CREATED]) == [CREATED]


def test_a_member_that_has_not_registered_yet_is_waited_for() -> None:
    with pytest.raises(NotReady, match="node 2 has yet to register"):
        features.allowed(nodes(2), MEMBERS, [EXCHANGE])
    assert features.raised(nodes(2), MEMBERS) == []


def test_the_version_rises_to_what_all_understand_and_never_falls() -> None:
    assert features.raised(MetadataImage(), []) == []
    assert features.raised(nodes(2, 1), MEMBERS) == []
    assert features.raised(nodes(2, 2), MEMBERS) == [ClusterVersionRaised(2)]
    assert features.raised(nodes(2, 2).replay(ClusterVersionRaised(2)), MEMBERS) == []
    newer = features.CLUSTER_VERSION + 1
    assert features.raised(nodes(newer, newer), MEMBERS) == [ClusterVersionRaised(features.CLUSTER_VERSION)]


# -- who holds it back -------------------------------------------------------------------------------------------------


def test_a_node_that_is_away_counts_as_it_has_said() -> None:
    image = nodes(3, 2, 3).replay(NodeFenced(NodeId(2)))
    assert features.raised(image, MEMBERS) == [ClusterVersionRaised(2)]
    raised = image.replay(ClusterVersionRaised(2))
    assert features.raised(raised, MEMBERS) == []
    assert features.standing(raised, MEMBERS) == Standing(2, 3, (NodeId(2),), ())


def test_a_node_that_was_removed_does_not_hold_it_back_though_it_votes_on() -> None:
    members = [replica(1), replica(2), replica(3)]
    image = nodes(3, 3, 1)
    assert features.raised(image, members) == []
    removed = image.replay(started(OperationKind.REMOVE_NODE, 3))
    assert features.raised(removed, members) == [ClusterVersionRaised(3)]
    assert features.standing(removed, members) == Standing(1, 3, (), ())


def test_a_node_under_the_number_of_a_removed_one_counts_once_it_has_registered() -> None:
    removed = nodes(3, 3, 1).replay(started(OperationKind.REMOVE_NODE, 3))
    again = removed.replay(registration(3, id=NEW_DISK, max_cluster_version=2))
    assert features.raised(again, [*MEMBERS, NEW_DISK]) == [ClusterVersionRaised(2)]
    assert features.standing(again, [*MEMBERS, NEW_DISK]) == Standing(1, 3, (NodeId(3),), ())


def test_a_disk_that_was_replaced_is_asked_anew() -> None:
    """What its node understood before says nothing of the process that runs there now."""
    image = nodes(3, 3, 3).replay(started(OperationKind.REPAIR_NODE, 3, NEW_DISK))
    assert features.raised(image, MEMBERS) == []
    assert features.standing(image, MEMBERS) == Standing(1, 3, (), (NodeId(3),))
    with pytest.raises(NotReady, match="node 3 has yet to register"):
        features.allowed(image, MEMBERS, [EXCHANGE])
    image = image.replay(registration(3, id=NEW_DISK, max_cluster_version=2))
    assert features.raised(image, MEMBERS) == [ClusterVersionRaised(2)]


def test_a_first_member_that_has_not_registered_is_told_of() -> None:
    assert features.standing(nodes(2), MEMBERS) == Standing(1, 2, (), (NodeId(2),))


def started(kind: OperationKind, node: int, disk: ReplicaId | None = None) -> OperationStarted:
    return OperationStarted(1, kind, NodeId(node), disk, GroupId(0), NodeId(0), "", 0, moves=0, wall_ms=1)
