"""What runs on a node follows the metadata: never an image of the past, never another disk's replica."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftmq.controller.reconciler import Reconciler
from raftmq.ids import CONTROLLER_GROUP, GroupId
from raftmq.metadata.image import MetadataImage
from raftmq.raft.types import Membership
from raftmq.records.topic_kinds import TopicKind
from raftmq.replica import readback
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.manager import Replicas
from tests.controller.nodes import Nodes, running


@pytest.fixture
def cluster() -> Iterator[Nodes]:
    with running() as nodes:
        yield nodes


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, GroupId]]:
    """Every replica that is created or removed from here on: (what, node, group)."""
    happened: list[tuple[str, int, GroupId]] = []
    create, drop = Replicas.create, Replicas.drop

    def creating(
        self: Replicas,
        group_id: GroupId,
        membership: Membership,
        eager: bool,
        is_new: bool = False,
        kind: TopicKind = TopicKind.RECORDS,
    ) -> ReplicaGroup:
        happened.append(("new" if is_new else "perhaps lost", self.me.node, group_id))
        return create(self, group_id, membership, eager, is_new, kind)

    def dropping(self: Replicas, group_id: GroupId, lives_on: bool = True) -> None:
        assert not lives_on
        happened.append(("gone", self.me.node, group_id))
        drop(self, group_id, lives_on)

    monkeypatch.setattr(Replicas, "create", creating)
    monkeypatch.setattr(Replicas, "drop", dropping)
    return happened


def delete(cluster: Nodes, name: str) -> None:
    leader = cluster.leader()
    cluster.do(leader, cluster.at(leader).delete_topic(name, 10_000))


def running_groups(cluster: Nodes, number: int) -> list[int]:
    return [group for group in cluster.assembly(number).replicas.groups if group != CONTROLLER_GROUP]


def test_replicas_come_and_go_with_their_topic(cluster: Nodes, log: list[tuple[str, int, GroupId]]) -> None:
    cluster.create_topic("orders", partitions=2)
    cluster.until(lambda: all(running_groups(cluster, number) == [1, 2] for number in (1, 2, 3)))
    delete(cluster, "orders")
    cluster.until(lambda: all(running_groups(cluster, number) == [] for number in (1, 2, 3)))
    cluster.pass_time(2)
    for number in (1, 2, 3):
        assert [what for what, node, _ in log if node == number] == ["new", "new", "gone", "gone"]
        assert not [group for group in cluster.assembly(number).replicas.leaders if group != CONTROLLER_GROUP]
    for number in (1, 2, 3):
        cluster.restart(number)
    cluster.settle()
    assert all(running_groups(cluster, number) == [] for number in (1, 2, 3)), "and nothing is left on disk"


def test_an_image_that_is_replayed_after_a_restart_moves_nothing(
    cluster: Nodes, log: list[tuple[str, int, GroupId]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of group 0 tells of a topic that was deleted since, before it tells of its end."""
    monkeypatch.setattr(readback, "READ_BYTES", 1)  # one entry at a time: every image of the past is seen
    cluster.create_topic("old", partitions=2)
    delete(cluster, "old")
    cluster.create_topic("orders", partitions=2)
    cluster.pass_time(2)
    log.clear()
    seen: set[int] = set()
    follow = Reconciler.follow

    def watching(self: Reconciler, image: MetadataImage) -> None:
        seen.add(image.version)
        follow(self, image)

    monkeypatch.setattr(Reconciler, "follow", watching)
    for number in (1, 2, 3):
        cluster.restart(number)
    cluster.settle()
    cluster.pass_time(2)
    assert len(seen) > 4, "the past must have passed by"
    assert log == []
    assert all(running_groups(cluster, number) == [3, 4] for number in (1, 2, 3))


def test_a_follower_that_restarts_in_the_same_term_replays_to_its_end_first(
    cluster: Nodes, log: list[tuple[str, int, GroupId]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica made anew of a topic that is deleted by now would have forgotten its votes."""
    monkeypatch.setattr(readback, "READ_BYTES", 1)
    cluster.create_topic("old", partitions=2)
    delete(cluster, "old")
    cluster.create_topic("orders", partitions=2)
    cluster.pass_time(2)
    term = cluster.group(1).node.term
    log.clear()
    (follower, _) = cluster.others(cluster.leader())
    cluster.restart(follower)
    cluster.settle()
    cluster.pass_time(2)
    assert cluster.group(follower).node.term == term, "otherwise it waited for an entry of the new term"
    assert log == []
    assert running_groups(cluster, follower) == [3, 4]


def test_without_a_controller_nothing_moves(cluster: Nodes, log: list[tuple[str, int, GroupId]]) -> None:
    """What the disk knows of the metadata may be old: others may have gone on without this node."""
    cluster.create_topic("orders")
    cluster.stop(3)
    delete(cluster, "orders")
    for number in (1, 2):
        cluster.stop(number)
    log.clear()
    cluster.nodes[3].boot()
    cluster.pass_time(5)
    assert log == []
    assert running_groups(cluster, 3) == [1]
    for number in (1, 2):
        cluster.nodes[number].boot()
    cluster.until(lambda: len(cluster.up()) == 3 and running_groups(cluster, 3) == [])


def test_a_node_that_was_away_gets_what_was_created_meanwhile(cluster: Nodes) -> None:
    cluster.stop(3)
    topic = cluster.create_topic("orders", partitions=3)
    cluster.nodes[3].boot()
    cluster.until(lambda: len(cluster.up()) == 3 and running_groups(cluster, 3) == [1, 2, 3])
    for partition in topic.partitions:
        leader = cluster.leader(partition.group)
        cluster.until(lambda group=partition.group, at=leader: len(cluster.assembly(at).host.in_sync(group)) == 3)  # type: ignore[misc]


def test_a_replica_of_a_number_that_was_never_given_away_is_kept(cluster: Nodes) -> None:
    """The group is of another history than this node's metadata: nobody knows what it holds."""
    replicas = cluster.assembly(1).replicas
    strange = cluster.process(1)

    def create() -> None:
        replicas.create(GroupId(77), Membership(frozenset({replicas.me})), eager=False)

    strange.post(create)
    cluster.create_topic("orders")
    cluster.pass_time(2)
    assert running_groups(cluster, 1) == [1, 77]


# -- disks that lost something ---------------------------------------------------------------------------------------


def lose_and_return(cluster: Nodes, number: int) -> None:
    cluster.until(lambda: cluster.nodes[number].lose_tail(3))
    cluster.nodes[number].boot()
    cluster.settle()
    assert cluster.nodes[number].store.identity.suspect
    cluster.until(lambda: not any(group.node.suspect for group in cluster.assembly(number).replicas.groups.values()))


def test_a_row_that_may_have_been_lost_comes_back_suspect_and_catches_up(
    cluster: Nodes, log: list[tuple[str, int, GroupId]]
) -> None:
    cluster.create_topic("orders")
    node = cluster.nodes[3]
    log.clear()
    # Everything that was synced since the topic was created is gone, and the row of its replica with it.
    assert node.lose_tail(len(node.store._disk.journal))
    node.boot()
    cluster.settle()
    cluster.until(lambda: running_groups(cluster, 3) == [1])
    assert ("perhaps lost", 3, GroupId(1)) in log, "otherwise its row was not among what was lost"
    cluster.until(lambda: not cluster.group(3, 1).node.suspect)


def test_a_topic_that_is_created_after_a_loss_is_trusted(cluster: Nodes, log: list[tuple[str, int, GroupId]]) -> None:
    """The loss is remembered for ever, and may cover every number; a single replica would be suspect for ever."""
    cluster.create_topic("before")
    lose_and_return(cluster, 3)
    lost = cluster.nodes[3].store.identity.lost
    assert lost is not None
    log.clear()
    for name in ("a", "b", "c"):
        (partition,) = cluster.create_topic(name, partitions=1, replicas=1).partitions
        cluster.leader(partition.group)
    assert {what for what, _, _ in log} == {"new"}
    assert {node for _, node, _ in log} == {1, 2, 3}


# -- what a node can say of topics -----------------------------------------------------------------------------------


def test_metadata_is_current_once_the_controller_has_spoken(cluster: Nodes) -> None:
    cluster.create_topic("orders")
    assert all(cluster.at(number).is_current() for number in (1, 2, 3))
    for number in (1, 2, 3):
        cluster.stop(number)
    cluster.nodes[1].boot()
    cluster.until(lambda: cluster.up() == [1])
    cluster.pass_time(5)
    assert not cluster.at(1).is_current(), "others may know of topics that it does not"
    for number in (2, 3):
        cluster.nodes[number].boot()
    cluster.until(lambda: len(cluster.up()) == 3 and all(cluster.at(number).is_current() for number in (1, 2, 3)))


def test_a_node_that_was_away_is_current_only_with_what_was_committed_meanwhile(cluster: Nodes) -> None:
    """Its log ends in the present term, and is applied to its end: that alone does not say what came after."""
    away = next(number for number in (1, 2, 3) if number != cluster.leader())
    cluster.stop(away)
    cluster.create_topic("meanwhile")
    cluster.nodes[away].boot()
    cluster.until(lambda: away in cluster.up() and cluster.at(away).was_current())
    assert "meanwhile" in cluster.at(away).image.topics
