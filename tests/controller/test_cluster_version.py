"""A cluster whose nodes do not all run the same version."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raftmq import assembly
from raftmq.errors import ClusterTooOld
from raftmq.ids import NodeId
from raftmq.metadata.binding import DeclareExchange, declare_exchange
from raftmq.metadata.exchange import ExchangeKind
from raftmq.metadata.features import CLUSTER_VERSION, Standing
from raftmq.metadata.queue_groups import SetQueueGroup
from tests.controller.nodes import Nodes, running

OLD = 3
"""The node that runs an older version."""


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Nodes that claim to understand version 1 only, when they start."""
    numbers = {OLD}
    registration = assembly._registration

    def claimed(config: Any, me: Any, boot: Any) -> Any:
        honest = registration(config, me, boot)
        return replace(honest, max_cluster_version=1) if me.node in numbers else honest

    monkeypatch.setattr(assembly, "_registration", claimed)
    return numbers


def declare(cluster: Nodes) -> None:
    leader = cluster.leader()
    wish = DeclareExchange("events", ExchangeKind.FANOUT)
    cluster.do(leader, cluster.at(leader).decide(lambda image: declare_exchange(image, wish), 10_000))


def test_what_one_node_does_not_understand_is_refused_until_it_is_upgraded(old: set[int]) -> None:
    with running() as cluster:
        cluster.create_topic("orders")
        cluster.pass_time(5)
        assert cluster.image(1).cluster_version == 1
        standing = Standing(1, CLUSTER_VERSION, (NodeId(OLD),), ())
        assert [cluster.at(number).version_standing() for number in (1, 2, OLD)] == [standing] * 3
        cluster.stop(OLD)
        cluster.until(lambda: cluster.image(1).nodes[NodeId(OLD)].fenced)
        cluster.pass_time(2)
        assert cluster.image(1).cluster_version == 1, "a node that is away holds it back"
        cluster.nodes[OLD].boot()
        cluster.settle()
        for wanted in (declare, _queue_group, _validated, _consumer_groups):
            with pytest.raises(ClusterTooOld) as refused:
                wanted(cluster)
            assert refused.value.metadata["nodes"] == str(OLD)
        old.clear()
        cluster.restart(OLD)
        cluster.until(lambda: all(cluster.image(node).cluster_version == CLUSTER_VERSION for node in (1, 2, OLD)))
        for wanted in (declare, _queue_group, _validated, _consumer_groups):
            wanted(cluster)
        # There is no way back.
        old.add(OLD)
        cluster.restart(OLD)
        cluster.pass_time(5)
        assert cluster.image(1).nodes[NodeId(OLD)].max_cluster_version == CLUSTER_VERSION
        assert cluster.image(1).nodes[NodeId(OLD)].boot < cluster.process(OLD).info.boot


def _queue_group(cluster: Nodes) -> None:
    leader = cluster.leader()
    cluster.do(leader, cluster.at(leader).queue_groups.ensure("orders", "workers", 10_000))


def _validated(cluster: Nodes) -> None:
    leader = cluster.leader()
    wish = SetQueueGroup("orders", "others")
    cluster.do(leader, cluster.at(leader).queue_groups.set(wish, 10_000, validate_only=True))


def _consumer_groups(cluster: Nodes) -> None:
    leader = cluster.leader()
    cluster.do(leader, cluster.at(leader).ensure_groups_topic(10_000))
