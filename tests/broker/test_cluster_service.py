"""What operators see. Replica states are those of real replicas: three nodes under virtual time."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import cast

import pytest

from raftmq.broker import Calls, Forwarder, assemble
from raftmq.broker.cluster import Replicas
from raftmq.client import convert
from raftmq.client.types import ClusterVersion
from raftmq.coordinator.coordinator import Coordinator
from raftmq.ids import CONTROLLER_GROUP, BootCount, NodeId
from raftmq.replica.group import ReplicaGroup
from raftmq.v1 import cluster_pb2
from tests.broker.cluster import FACTS, Node
from tests.broker.fakes import (
    CLUSTER_ID,
    TERM,
    FakeCluster,
    FakeGroup,
    FakeHost,
    FakeOperations,
    FakeQueues,
    image_of,
    topic_record,
)
from tests.coordinator.fakes import GroupsHost, ManualClock
from tests.replica.world import World

LIST_REPLICAS = "/raftmq.v1.Cluster/ListReplicas"


async def no_forward(node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes:
    raise AssertionError(f"{method} was handed to node {node}")


@pytest.fixture
def world() -> World:
    """A group of three replicas with three batches, all logs equal."""
    world = World()
    world.create_group()
    leader = world.elect()
    for value in (b"a", b"b", b"c"):
        assert world.produce(leader, value, value) is not None
        assert world.run(5_000, world.equal)
    return world


def calls_of(world: World, number: int) -> Calls:
    """The services of one node of `world`, whose only partition is "things"/0."""
    host = FakeHost(number, {1: 1})
    host.replicas = cast(Replicas, world.nodes[NodeId(number)].replicas)  # type: ignore[assignment]
    cluster = FakeCluster(number, image_of(topic_record("things", [1])), controller_node=None)
    operations = FakeOperations(cluster)
    store = world.nodes[NodeId(number)].store
    clock = ManualClock()
    coordinator = Coordinator(GroupsHost(host.leads), lambda: cluster.image, lambda: True, clock)
    return assemble(
        host, FakeQueues(), cluster, operations, store, Forwarder(no_forward), FACTS, Random(1), coordinator, clock
    )


async def states(world: World, number: int, *topics: str, at: int = 0) -> list[cluster_pb2.ReplicaState]:
    request = cluster_pb2.ListReplicasRequest(topics=topics, at_log_index=at)
    data = await calls_of(world, number).serve(LIST_REPLICAS, request.SerializeToString(), None)
    return list(cluster_pb2.ListReplicasResponse.FromString(data).replicas)


async def test_a_leader_tells_of_its_replica_and_its_followers(world: World) -> None:
    [state] = await states(world, 1)
    last = world.group(1).node.last_index
    assert state.chain_hash == world.group(1).end_chain
    state.ClearField("chain_hash")
    assert state == cluster_pb2.ReplicaState(
        topic="things",
        partition=0,
        group_id=1,
        role="leader",
        term=1,
        leader_node_id=1,
        last_index=last,
        persisted_index=last,
        commit_index=last,
        applied_index=last,
        log_start_offset=0,
        log_end_offset=6,
        high_watermark=6,
        in_sync=[1, 2, 3],
        lag={2: 0, 3: 0},
        chain_index=last,
    )


async def test_followers_tell_the_same_chain_and_nothing_of_others(world: World) -> None:
    [leader], [follower] = await states(world, 1), await states(world, 2)
    assert (follower.chain_hash, follower.chain_index) == (leader.chain_hash, leader.chain_index)
    assert (follower.role, follower.leader_node_id, list(follower.in_sync), dict(follower.lag)) == (
        "follower", 1, [], {},
    )  # fmt: skip


async def test_the_chain_at_an_index_comes_from_memory_or_from_disk_alike(world: World) -> None:
    group = world.group(1)
    last = group.node.last_index
    held = [(await states(world, 1, at=index))[0] for index in range(1, last + 1)]
    assert [state.chain_index for state in held] == list(range(1, last + 1))
    assert len({state.chain_hash for state in held}) == last
    group.trim_tail(0)
    assert group.tail.first_index > 1
    read = [(await states(world, 1, at=index))[0] for index in range(1, last + 1)]
    assert [state.chain_hash for state in read] == [state.chain_hash for state in held]


async def test_an_index_beyond_the_log_gets_the_chain_at_the_commit_index(world: World) -> None:
    [state] = await states(world, 2, at=2**63)
    assert state.chain_index == state.commit_index
    assert state.chain_hash == world.group(2).end_chain


async def test_an_empty_log_has_the_chain_of_its_beginning() -> None:
    world = World()
    world.create_group()
    [state] = await states(world, 3)
    assert (state.chain_index, state.chain_hash) == (0, bytes(8))


async def test_a_lagging_follower_is_seen_by_its_leader(world: World) -> None:
    world.cut_off(3)
    world.produce(1, b"d", min_in_sync=2)
    world.run(500)
    [state] = await states(world, 1)
    assert dict(state.lag) == {2: 0, 3: 1}


@pytest.mark.parametrize(
    ("topics", "count"), [((), 1), (("things",), 1), (("nope",), 0), (("",), 0), (("nope", "things"), 1)]
)
async def test_topics_choose_what_is_told(world: World, topics: tuple[str, ...], count: int) -> None:
    assert len(await states(world, 1, *topics)) == count


async def test_the_cluster_is_described_without_a_leader_too(node: Node) -> None:
    node.cluster.controller_node = None
    node.host.leaders.clear()
    answer = await node.operators.DescribeCluster(cluster_pb2.DescribeClusterRequest())
    assert (answer.controller_node_id, answer.controller_epoch) == (0, 0)
    assert [one.info.node_id for one in answer.nodes] == [1, 2, 3]
    assert [one.led_partitions for one in answer.nodes] == [0, 0, 0]
    assert {p.leader_node_id for topic in answer.topics for p in topic.partitions} == {0}


async def test_the_cluster_is_described(node: Node) -> None:
    node.host.replicas.held[CONTROLLER_GROUP] = cast(ReplicaGroup, FakeGroup())
    answer = await node.operators.DescribeCluster(cluster_pb2.DescribeClusterRequest())
    assert (answer.header.cluster_id, answer.cluster_name) == (CLUSTER_ID, "test")
    assert (answer.controller_node_id, answer.controller_epoch) == (1, 4)
    first, second, third = answer.nodes
    assert (first.info.host, first.info.port, first.info.rack, first.info.fenced) == (
        "127.0.0.1",
        9401,
        "rack-1",
        False,
    )
    assert (first.boot_count, first.led_partitions, first.replicas) == (3, 3, 4)
    assert (second.led_partitions, second.replicas) == (1, 4)
    assert [one.controller_voter for one in answer.nodes] == [True, True, True]
    assert first.last_heard.ToMilliseconds() == 0
    assert second.last_heard.ToMilliseconds() == 25
    assert not third.HasField("last_heard"), "it was never heard"
    assert [one.disk_level for one in answer.nodes] == [
        cluster_pb2.DISK_LEVEL_AMPLE, cluster_pb2.DISK_LEVEL_LOW, cluster_pb2.DISK_LEVEL_UNSPECIFIED
    ]  # fmt: skip
    [orders, single] = answer.topics
    assert [(p.leader_node_id, p.leader_epoch, list(p.in_sync)) for p in orders.partitions] == [
        (1, TERM, [1, 2]),
        (2, TERM, [1, 2]),
        (1, TERM, [1, 2]),
    ]
    assert single.max_batch_bytes == 4096


async def test_the_cluster_version_is_told_with_who_holds_it_back(node: Node) -> None:
    known = dict(node.cluster.image.nodes)
    known[NodeId(1)] = replace(known[NodeId(1)], max_cluster_version=3)
    known[NodeId(2)] = replace(known[NodeId(2)], max_cluster_version=2, fenced=True)
    known[NodeId(3)] = replace(known[NodeId(3)], max_cluster_version=3, boot=BootCount(0))
    node.cluster.image = replace(node.cluster.image, nodes=known, cluster_version=2)
    answer = await node.operators.DescribeCluster(cluster_pb2.DescribeClusterRequest())
    assert [one.max_cluster_version for one in answer.nodes] == [3, 2, 3]
    expected = cluster_pb2.ClusterVersion(version=2, newest=3, behind_node_ids=[2], unheard_node_ids=[3])
    assert answer.version == expected
    description = convert.cluster(answer)
    assert description.version == ClusterVersion(2, 3, (2,), (3,))
    assert [one.max_cluster_version for one in description.nodes] == [3, 2, 3]
    answer.ClearField("version")
    assert convert.cluster(answer).version is None
