"""What nodes do by themselves: register, fence, admit, bring leaders back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftmq.controller.caretaker import Caretaker
from raftmq.errors import NoLeader
from raftmq.ids import NodeId
from tests.controller.nodes import Nodes, running


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    with running() as nodes:
        yield nodes


def fenced(cluster: Nodes, at: int) -> list[int]:
    return [node.id.node for node in cluster.image(at).nodes.values() if node.fenced]


def test_every_node_registers_with_disk_boot_and_addresses(cluster: Nodes) -> None:
    for number, known in cluster.image(1).nodes.items():
        process = cluster.process(number)
        assert (known.id.store, known.boot) == (process.info.store, process.info.boot)
        assert known.client_port == cluster.config.node(number).client_address.port
    cluster.restart(2)
    cluster.settle()
    cluster.until(lambda: cluster.image(1).nodes[NodeId(2)].boot == cluster.process(2).info.boot)


def test_a_node_that_is_gone_is_fenced_and_unfenced_when_it_is_back(cluster: Nodes) -> None:
    leader = cluster.leader()
    away = cluster.others(leader)[0]
    cluster.stop(away)
    cluster.until(lambda: fenced(cluster, leader) == [away])
    assert len(cluster.create_topic("orders", replicas=2).partitions[0].replicas) == 2
    assert away not in [replica.node for replica in cluster.image(leader).topics["orders"].partitions[0].replicas]
    cluster.nodes[away].boot()
    cluster.until(lambda: fenced(cluster, leader) == [])


def test_a_fenced_node_keeps_what_it_leads(cluster: Nodes) -> None:
    """Fencing takes a node out of placement. It never stops a group that has its quorum."""
    topic = cluster.create_topic("orders", partitions=3)
    controller = cluster.leader()
    group = next(one.group for one in topic.partitions if cluster.leader(one.group) != controller)
    leader = cluster.leader(group)
    term = cluster.group(leader, group).node.term
    cluster.do(controller, cluster.at(controller).fence([NodeId(leader)], [], 5_000))
    assert cluster.group(leader, group).can_serve()
    assert cluster.group(leader, group).node.term == term


def test_leaders_come_back_to_where_they_belong(cluster: Nodes) -> None:
    topic = cluster.create_topic("orders", partitions=3)
    led = [one.group for one in topic.partitions if cluster.leader(one.group) == 2]
    assert led, "each node leads one"
    cluster.stop(2)
    for group in led:
        cluster.leader(group)  # somebody else, before it is back
    cluster.nodes[2].boot()
    cluster.settle()
    misplaced = [one.group for one in topic.partitions if one.replicas[0].node != cluster.leader(one.group)]
    assert misplaced, "somebody else took over meanwhile"
    cluster.pass_time(20)
    assert [one.group for one in topic.partitions if one.replicas[0].node != cluster.leader(one.group)] == misplaced, (
        "a node that has just come back is left in peace"
    )
    cluster.until(
        lambda: all(one.replicas[0].node == cluster.leader(one.group) for one in topic.partitions), seconds=120
    )


def test_a_mistake_in_upkeep_does_not_end_it(cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = cluster.leader()
    times = 0
    watch = Caretaker._watch_sessions

    async def stumbling(self: Caretaker) -> None:
        nonlocal times
        times += 1
        if times == 1:
            raise KeyError("a mistake")
        await watch(self)

    monkeypatch.setattr(Caretaker, "_watch_sessions", stumbling)
    away = cluster.others(leader)[0]
    cluster.stop(away)
    cluster.until(lambda: fenced(cluster, leader) == [away])
    assert times > 1


def test_a_controller_without_a_quorum_fences_nobody(cluster: Nodes) -> None:
    leader = cluster.leader()
    cluster.cut_off(leader)
    cluster.pass_time(10)
    assert fenced(cluster, leader) == []
    with pytest.raises(NoLeader):
        cluster.do(leader, cluster.at(leader).ask_leader("anything", b"", 1_000))


# -- replaced disks --------------------------------------------------------------------------------------------------


def test_a_replaced_disk_of_a_voter_waits_and_the_cluster_goes_on(cluster: Nodes) -> None:
    away = cluster.others(cluster.leader())[0]
    cluster.replace_disk(away, store=4242)
    cluster.until(lambda: fenced(cluster, cluster.leader()) == [away])
    assert "another disk" in cluster.process(away).waiting_for
    assert cluster.nodes[away].assembly is None
    assert cluster.create_topic("orders", replicas=2).topic_id == 1


def test_a_replaced_disk_under_a_known_id_is_no_sign_of_life_of_the_old_one() -> None:
    """A node that never voted joins again with an empty disk; what was placed on the old one does not live there."""
    with running(nodes=6) as cluster:
        away = 6
        cluster.replace_disk(away, store=4242)
        cluster.until(lambda: cluster.nodes[away].assembly is not None)
        leader = cluster.leader()
        cluster.until(lambda: fenced(cluster, leader) == [away])
        assert cluster.at(leader).node_silence_ms(NodeId(away)) < 1_000, "it is heard all the same"


def test_every_node_beyond_the_voters_learns_the_metadata() -> None:
    with running(nodes=7) as cluster:
        cluster.create_topic("orders", partitions=7, replicas=3)
        cluster.until(lambda: len({cluster.image(number).digest() for number in range(1, 8)}) == 1)
        membership = cluster.group(1).node.membership
        assert (len(membership.voters), len(membership.learners)) == (5, 2)
