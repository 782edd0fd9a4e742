"""Operations on whole nodes: they come to their end whoever leads the controller, one step at a time, and can be taken
back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftmq.errors import AlreadyExists, PreconditionFailed, RaftmqError, UnknownNode, UnknownTopic
from raftmq.ids import CONTROLLER_GROUP, NodeId
from raftmq.metadata.decisions import CreateTopic
from raftmq.metadata.image import TopicRecord
from raftmq.metadata.operation import OperationRecord, OperationState
from tests.controller.nodes import Nodes, running

TIMEOUT_MS = 10_000


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    with running(nodes=4) as nodes:
        yield nodes


def move(cluster: Nodes, topic: TopicRecord, source: int, target: int) -> OperationRecord:
    leader = cluster.leader()
    operations = cluster.assembly(leader).operations
    return cluster.do(leader, operations.move_replica(topic.name, 0, NodeId(source), NodeId(target), TIMEOUT_MS))


def state(cluster: Nodes, operation: OperationRecord) -> OperationState:
    return cluster.image(cluster.leader()).operations[operation.id].state


def until_over(cluster: Nodes, operation: OperationRecord, seconds: float = 60) -> OperationRecord:
    def over() -> bool:
        images = [cluster.image(number) for number in cluster.up()]
        return any(operation.id in image.operations and image.operations[operation.id].is_over for image in images)

    cluster.until(over, seconds)
    return cluster.image(cluster.leader()).operations[operation.id]


def replicas(cluster: Nodes, topic: TopicRecord) -> list[int]:
    partition = cluster.image(cluster.leader()).topics[topic.name].partitions[0]
    return sorted(replica.node for replica in partition.replicas)


def spare(cluster: Nodes, topic: TopicRecord) -> int:
    """The node without a replica."""
    (free,) = set(cluster.nodes) - {replica.node for replica in topic.partitions[0].replicas}
    return free


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_a_replica_moves_and_the_old_one_is_deleted(cluster: Nodes, which: str) -> None:
    topic = cluster.create_topic("orders")
    group = topic.partitions[0].group
    leader = cluster.leader(group)
    held = [replica.node for replica in topic.partitions[0].replicas]
    source = leader if which == "leader" else next(node for node in held if node != leader)
    target = spare(cluster, topic)
    operation = until_over(cluster, move(cluster, topic, source, target))
    assert operation.state is OperationState.DONE
    assert replicas(cluster, topic) == sorted({*held, target} - {source})
    new = cluster.leader(group)
    assert new != source
    configuration = cluster.group(new, group).node.membership
    assert sorted(voter.node for voter in configuration.voters) == replicas(cluster, topic)
    assert not configuration.is_joint
    assert not configuration.learners
    cluster.until(lambda: cluster.assembly(source).replicas.group(group) is None)
    told = cluster.assembly(source).host.leader_of(group)
    assert told is not None, "calls for the group still come here"
    assert told[0] == new
    cluster.restart(target)
    cluster.until(
        lambda: cluster.nodes[target].assembly is not None and cluster.group(target, group).node.leader is not None
    )


def test_a_replica_that_returns_has_no_vote_before_it_is_up_to_date(cluster: Nodes) -> None:
    topic = cluster.create_topic("orders")
    group = topic.partitions[0].group
    away, back = topic.partitions[0].replicas[1].node, spare(cluster, topic)
    until_over(cluster, move(cluster, topic, away, back))
    cluster.until(lambda: cluster.assembly(away).replicas.group(group) is None)
    term = cluster.assembly(away).replicas.departed.term(group)
    assert term is not None
    operation = move(cluster, topic, back, away)
    cluster.until(lambda: cluster.assembly(away).replicas.group(group) is not None)
    begun = cluster.group(away, group)
    assert begun.row.suspect
    assert begun.node.term >= term
    assert until_over(cluster, operation).state is OperationState.DONE
    assert not cluster.group(away, group).row.suspect
    leader = cluster.leader()
    cluster.do(leader, cluster.at(leader).delete_topic("orders", TIMEOUT_MS))
    cluster.until(lambda: cluster.assembly(away).replicas.departed.groups == [])
    cluster.until(lambda: cluster.assembly(back).replicas.departed.groups == [])


def test_an_operation_survives_the_loss_of_the_controller_at_any_step(cluster: Nodes) -> None:
    topic = cluster.create_topic("orders")
    source, target = topic.partitions[0].replicas[0].node, spare(cluster, topic)
    operation = move(cluster, topic, source, target)
    for _ in range(5):
        leader = cluster.leader()
        cluster.restart(leader)
        cluster.until(lambda: all(node.assembly is not None for node in cluster.nodes.values()))
    assert until_over(cluster, operation).state is OperationState.DONE
    assert target in replicas(cluster, topic)


def test_a_move_that_waits_can_be_taken_back(cluster: Nodes) -> None:
    topic = cluster.create_topic("orders")
    group = topic.partitions[0].group
    source, target = topic.partitions[0].replicas[0].node, spare(cluster, topic)
    cluster.leader(group)
    controller = cluster.leader()
    if controller == target:
        cluster.do(controller, _transfer(cluster, controller))
        cluster.until(lambda: cluster.leader() != target)
    operation = move(cluster, topic, source, target)
    cluster.cut_off(target)  # it is no learner that ever catches up
    cluster.pass_time(3)
    leader = cluster.leader()
    operations = cluster.assembly(leader).operations
    assert "catches up" in operations.waits(operations.get(operation.id))
    cluster.do(leader, operations.cancel(operation.id, TIMEOUT_MS))
    over = until_over(cluster, operation)
    assert over.state is OperationState.CANCELLED
    assert source in replicas(cluster, topic)
    cluster.network.heal_all()
    cluster.until(lambda: cluster.assembly(target).replicas.group(group) is None)
    configuration = cluster.group(cluster.leader(group), group).node.membership
    assert not configuration.learners


def test_a_newcomer_behind_the_start_of_the_log_is_brought_up_by_snapshot(cluster: Nodes) -> None:
    spec = CreateTopic("orders", partitions=1, replication_factor=3, retention_bytes=1_000)
    controller = cluster.leader()
    topic = cluster.do(controller, cluster.at(controller).create_topic(spec, 20_000))
    group = topic.partitions[0].group
    process, client = cluster.client()

    async def fill() -> None:
        async with client, client.producer("orders") as producer:
            for number in range(40):
                await producer.send(f"{number}".encode() * 100)

    cluster.finish(process, fill())
    cluster.until(lambda: cluster.group(cluster.leader(group), group).row.raft_start > 10)
    source, target = topic.partitions[0].replicas[0].node, spare(cluster, topic)
    assert until_over(cluster, move(cluster, topic, source, target)).state is OperationState.DONE
    newcomer = cluster.group(target, group)
    assert newcomer.row.raft_start > 10, "it never had what lies before"
    leader = cluster.leader(group)
    cluster.until(lambda: cluster.group(target, group).end_chain == cluster.group(leader, group).end_chain)


async def _transfer(cluster: Nodes, number: int) -> None:
    cluster.assembly(number).host.transfer(CONTROLLER_GROUP, None)


@pytest.mark.parametrize(
    "topic, source, target, error, field",
    [
        ("nowhere", 1, 2, UnknownTopic, "topic"),
        ("orders", 9, 2, UnknownNode, "from_node_id"),
        ("orders", 1, 9, UnknownNode, "to_node_id"),
        ("orders", 1, 2, AlreadyExists, "to_node_id"),
        ("orders", 4, 1, PreconditionFailed, "from_node_id"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_changes(
    cluster: Nodes, topic: str, source: int, target: int, error: type[RaftmqError], field: str
) -> None:
    created = cluster.create_topic("orders")
    first, second, _ = (replica.node for replica in created.partitions[0].replicas)
    names = {1: int(first), 2: int(second), 4: spare(cluster, created)}
    leader = cluster.leader()
    version = cluster.image(leader).version
    operations = cluster.assembly(leader).operations
    with pytest.raises(error) as refused:
        cluster.do(
            leader,
            operations.move_replica(
                topic, 0, NodeId(names.get(source, source)), NodeId(names.get(target, target)), TIMEOUT_MS
            ),
        )
    assert refused.value.field == field
    assert cluster.image(leader).version == version


def test_a_node_is_drained_removed_and_does_not_come_back(cluster: Nodes) -> None:
    topics = [cluster.create_topic(f"t{number}", partitions=2) for number in range(2)]
    cluster.pass_time(2)
    leader = cluster.leader()
    gone = 1
    operation = cluster.do(leader, cluster.assembly(leader).operations.drain_node(NodeId(gone), TIMEOUT_MS))
    assert until_over(cluster, operation).state is OperationState.DONE
    image = cluster.image(cluster.leader())
    for topic in topics:
        for partition in image.topics[topic.name].partitions:
            assert sorted(replica.node for replica in partition.replicas) == [2, 3, 4]
    cluster.until(
        lambda: [group for group in cluster.assembly(gone).replicas.groups if group != CONTROLLER_GROUP] == []
    )
    leader = cluster.leader()
    voters = cluster.group(leader).node.membership.voters
    assert gone not in {voter.node for voter in voters}
    operation = cluster.do(leader, cluster.assembly(leader).operations.remove_node(NodeId(gone), TIMEOUT_MS))
    assert until_over(cluster, operation).state is OperationState.DONE
    cluster.pass_time(3)
    assert sorted(cluster.image(cluster.leader()).nodes) == [2, 3, 4]
    cluster.restart(gone)
    cluster.pass_time(5)
    assert sorted(cluster.image(cluster.leader()).nodes) == [2, 3, 4]
    assert gone not in {member.node for member in cluster.group(cluster.leader()).node.membership.all}


def test_a_replaced_disk_is_admitted_in_every_group(cluster: Nodes) -> None:
    topic = cluster.create_topic("orders")
    held = [replica.node for replica in topic.partitions[0].replicas]
    group = topic.partitions[0].group
    cluster.pass_time(1)
    lost = next(node for node in held if node != cluster.leader())
    cluster.replace_disk(lost, store=4711)
    cluster.pass_time(2)
    assert "repair-node" in cluster.process(lost).waiting_for
    leader = cluster.leader()
    operation = cluster.do(leader, cluster.assembly(leader).operations.repair_node(NodeId(lost), TIMEOUT_MS))
    assert until_over(cluster, operation).state is OperationState.DONE
    cluster.pass_time(1)
    for number in (group, CONTROLLER_GROUP):
        membership = cluster.group(cluster.leader(number), number).node.membership
        stores = {voter.store for voter in membership.voters if voter.node == lost}
        assert stores == {4711}, membership
        assert not membership.is_joint
        assert {member.store for member in membership.all if member.node == lost} == {4711}


def test_a_move_to_a_disk_that_is_lost_on_the_way_is_taken_back(cluster: Nodes) -> None:
    topic = cluster.create_topic("orders")
    group = topic.partitions[0].group
    source, target = topic.partitions[0].replicas[0].node, spare(cluster, topic)
    cluster.leader(group)
    controller = cluster.leader()
    if controller == target:
        cluster.do(controller, _transfer(cluster, controller))
        cluster.until(lambda: cluster.leader() != target)
    cluster.cut_off(target)
    operation = move(cluster, topic, source, target)
    cluster.pass_time(3)
    cluster.network.heal_all()
    cluster.replace_disk(target, store=4711)
    cluster.pass_time(2)
    leader = cluster.leader()
    repair = cluster.do(leader, cluster.assembly(leader).operations.repair_node(NodeId(target), TIMEOUT_MS))
    over = until_over(cluster, operation)
    assert over.state is OperationState.CANCELLED
    assert "disk" in over.reason
    assert until_over(cluster, repair).state is OperationState.DONE
    assert source in replicas(cluster, topic)
    configuration = cluster.group(cluster.leader(group), group).node.membership
    assert sorted(member.node for member in configuration.all) == replicas(cluster, topic)
