"""Admin calls: value objects in and out, and nothing repeated that may have happened."""

from __future__ import annotations

import pytest

from raftmq import errors
from raftmq.client import Client
from raftmq.errors import Outcome
from tests.client.fake_broker import FakeCluster, Fault


async def test_topics(client: Client) -> None:
    created = await client.admin.create_topic("b", partitions=2)
    await client.admin.create_topic("a")
    assert (created.name, len(created.partitions), created.replication_factor) == ("b", 2, 2)
    assert created.partitions[1].leader == 1
    assert [topic.name for topic in await client.admin.list_topics()] == ["a", "b"]
    assert await client.admin.describe_topic("b") == next(t for t in await client.admin.list_topics() if t.name == "b")
    with pytest.raises(errors.AlreadyExists) as caught:
        await client.admin.create_topic("a")
    assert caught.value.field == "name"
    altered = await client.admin.alter_topic("a", retention_bytes=5, expected_version=1)
    assert (altered.name, altered.retention_bytes, altered.version) == ("a", 5, 2)
    await client.admin.delete_topic("a")
    with pytest.raises(errors.UnknownTopic):
        await client.admin.describe_topic("a")


async def test_a_change_is_repeated_only_if_it_surely_did_not_happen(cluster: FakeCluster, client: Client) -> None:
    cluster.script("CreateTopic", Fault(refuse=errors.NoLeader("no controller")), Fault(lose_answer=True))
    with pytest.raises(errors.Unavailable) as caught:
        await client.admin.create_topic("t")
    assert caught.value.outcome is Outcome.UNKNOWN
    assert cluster.count("CreateTopic") == 2
    assert [topic.name for topic in await client.admin.list_topics()] == ["t"]


async def test_a_read_is_repeated_whatever_happened(cluster: FakeCluster, client: Client) -> None:
    cluster.script("ListTopics", Fault(lose_answer=True), Fault(refuse=errors.NotReady("starting")))
    assert await client.admin.list_topics() == ()
    assert cluster.count("ListTopics") == 3


async def test_offsets(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t", partitions=3)
    cluster.move_leader("t", 1, 2)
    async with client.producer("t") as producer:
        await producer.send(b"a", partition=1)
    bounds = await client.list_offsets("t")
    assert [(b.partition, b.log_start_offset, b.high_watermark, b.leader_epoch) for b in bounds] == [
        (0, 0, 0, 1),
        (1, 0, 1, 2),
        (2, 0, 0, 1),
    ]
    assert [b.partition for b in await client.list_offsets("t", [2, 1])] == [1, 2]
    with pytest.raises(errors.UnknownTopic):
        await client.list_offsets("nowhere")


async def test_producers_are_told_page_by_page(
    cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.create("t", partitions=3)
    for partitions in ((0, 2), (2,)):
        async with client.producer("t") as producer:
            for partition in (*partitions, *partitions):
                await producer.send(b"a", partition=partition)
    everything = await client.admin.describe_producers("t")
    assert [(one.partition, one.last_sequence, one.last_offset) for one in everything] == [
        (0, 1, 1),
        (2, 1, 1),
        (2, 1, 3),
    ]
    assert (everything[0].producer_epoch, everything[0].first_sequence) == (0, 0)
    assert (everything[0].last_append_time_ms, everything[0].expires_in_ms) == (1_700_000_000_000, 5_000)
    monkeypatch.setattr("raftmq.client.admin.PAGE", 2)
    assert await client.admin.describe_producers("t") == everything
    assert await client.admin.describe_producers("t", limit=1) == everything[:1]
    assert cluster.count("DescribeProducers") == 4


async def test_the_cluster_as_its_operators_see_it(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    description = await client.cluster.describe()
    assert (description.cluster_id, description.name, description.controller) == ("c1", "fake", 1)
    assert [(n.info.node_id, n.last_heard_ms, n.controller_voter) for n in description.nodes] == [
        (1, 250, True),
        (2, 250, True),
    ]
    # Each of these is answered by the node that was asked and no other.
    for node_id in (1, 2):
        (replica,) = await client.cluster.list_replicas(node_id)
        assert (replica.topic, replica.role, replica.term, replica.lag) == ("t", "leader", node_id, {1: 0, 2: 7})
        assert (await client.cluster.server_info(node_id)).boot_count == node_id
    with pytest.raises(errors.UnknownNode):
        await client.cluster.list_replicas(3)


async def test_leadership_is_moved(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    await client.cluster.transfer_leader("t", 0, to_node=2)
    async with client.producer("t") as producer:
        assert (await producer.send(b"a")).leader_epoch == 2
    assert cluster.count("Produce", 2) == 1
    with pytest.raises(errors.PreconditionFailed) as caught:
        await client.cluster.transfer_leader("t", 0, to_node=9)
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_operations_are_begun_watched_and_cancelled(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    checked = await client.cluster.drain_node(2, validate_only=True)
    assert (checked.operation_id, checked.kind, checked.node_id, checked.moves) == (0, "drain_node", 2, 2)
    begun = await client.cluster.move_replica("t", 0, 1, 2)
    assert (begun.operation_id, begun.kind, begun.state, begun.is_over) == (1, "move_replica", "running", False)
    assert (begun.topic, begun.partition, begun.node_id, begun.to_node_id) == ("t", 0, 1, 2)
    seen: list[str] = []
    over = await client.cluster.wait(1, timeout_ms=10_000, told=lambda operation: seen.append(operation.state))
    assert (over.state, over.moves_left, over.started_ms, over.ended_ms) == ("done", 0, 1_000, 2_000)
    assert seen == ["running", "done"]
    for begin in (client.cluster.add_node, client.cluster.remove_node, client.cluster.repair_node):
        assert (await begin(4)).state == "running"
    assert (await client.cluster.cancel_operation(4)).state == "cancelled"
    kinds = [operation.kind for operation in await client.cluster.operations()]
    assert kinds == ["move_replica", "add_node", "remove_node", "repair_node"]
    with pytest.raises(errors.UnknownOperation) as refused:
        await client.cluster.operation(99)
    assert refused.value.field == "operation_id"


async def test_waiting_ends_before_an_operation_that_takes_longer(cluster: FakeCluster, client: Client) -> None:
    await client.cluster.add_node(4)
    with pytest.raises(errors.DeadlineExceeded) as late:
        await client.cluster.wait(1, timeout_ms=0)
    assert late.value.outcome is Outcome.APPLIED
