"""The cluster version: nothing is proposed that a member does not understand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from raftmq.errors import ClusterTooOld, NotReady
from raftmq.ids import NodeId
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
    QueueGroupDeleted,
    TopicAltered,
    TopicCreated,
    TopicKind,
)
from raftmq.metadata.exchange import Binding, ExchangeKind
from raftmq.metadata.image import MetadataImage
from tests.metadata.test_decisions import registration, replayed

MEMBERS = [NodeId(1), NodeId(2)]
EXCHANGE = ExchangeDeclared("events", ExchangeKind.FANOUT, "")
CREATED = TopicCreated(1, "orders", 3, 2, 1024, ())
ALTERED = TopicAltered(1, 2, 1024, 0, 0, 0, 0)
LIMIT = DepthLimit(max_records=1)


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
