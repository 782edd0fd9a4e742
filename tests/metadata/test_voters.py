"""Who votes on the metadata: nobody loses a vote before another can take it over, and one step at a time."""

from __future__ import annotations

from dataclasses import replace

from raftmq.ids import BootCount, LogIndex, NodeId, ReplicaId, StoreId
from raftmq.metadata.image import MetadataImage, NodeRecord
from raftmq.metadata.voters import plan_voters
from raftmq.raft.types import Membership


def one(node: int, store: int = 7) -> ReplicaId:
    return ReplicaId(NodeId(node), StoreId(store))


def some(*nodes: int) -> frozenset[ReplicaId]:
    return frozenset(one(node) for node in nodes)


def image_of(*nodes: int, leaving: tuple[int, ...] = (), fenced: tuple[int, ...] = (), store: int = 7) -> MetadataImage:
    records = {
        NodeId(node): NodeRecord(
            one(node, store if node == nodes[-1] else 7), BootCount(1), "h", 1, "p", 2, 3, "", node in fenced, 1,
            leaving=node in leaving,
        )
        for node in nodes
    }  # fmt: skip
    return MetadataImage(version=LogIndex(40), nodes=records)


def step(image: MetadataImage, now: Membership, *caught_up: int) -> Membership | str:
    """The next configuration, or what it waits for."""
    plan = plan_voters(image, now, some(*caught_up), {})
    return plan.waits if plan.target is None else plan.target


def test_first_voters_that_have_yet_to_register_keep_their_vote() -> None:
    assert step(image_of(1), Membership(some(1, 2, 3))) == ""
    assert step(image_of(1, 2, 3), Membership(some(1, 2, 3))) == ""


def test_who_registers_learns_and_an_even_number_of_voters_is_nothing_to_grow_to() -> None:
    learning = Membership(some(1, 2, 3), learners=some(4))
    assert step(image_of(1, 2, 3, 4), Membership(some(1, 2, 3))) == learning
    assert step(image_of(1, 2, 3, 4), learning, 4) == ""
    five = Membership(some(1, 2, 3), learners=some(4, 5))
    assert step(image_of(1, 2, 3, 4, 5), five, 4) == "node 5 catches up with the metadata"
    assert step(image_of(1, 2, 3, 4, 5), five, 4, 5) == Membership(some(1, 2, 3, 4, 5))
    assert step(image_of(1, 2, 3, 4, 5, fenced=(5,)), five, 4, 5) == ""


def test_a_vote_moves_from_a_node_that_leaves_to_one_that_has_caught_up() -> None:
    now = Membership(some(1, 2, 3), learners=some(4))
    image = image_of(1, 2, 3, 4, leaving=(1,))
    assert step(image, now) == "node 4 catches up with the metadata"
    assert step(image, now, 4) == Membership(some(2, 3, 4))
    assert step(image, Membership(some(2, 3, 4))) == Membership(some(2, 3, 4), learners=some(1))
    assert step(image_of(1, 2, 3, leaving=(1,)), Membership(some(1, 2, 3))) == (
        "no live node can take over the controller's vote of node 1"
    )


def test_a_new_disk_takes_the_vote_of_the_one_before() -> None:
    image = image_of(1, 2, 4, 3, store=9)
    new = frozenset({one(3, 9)})
    learning = Membership(some(1, 2, 3), learners=some(4) | new)
    assert step(image, Membership(some(1, 2, 3), learners=some(4))) == learning
    plan = plan_voters(image, learning, new | some(4), {})
    assert plan.target == Membership(some(1, 2) | new, learners=some(4))


def test_a_node_that_was_removed_is_told_so_before_it_is_told_nothing_more() -> None:
    image = replace(image_of(2, 3, 4), removed=some(1))
    now = Membership(some(2, 3, 4), learners=some(1))
    assert plan_voters(image, now, (), {one(1): LogIndex(39)}).target is None
    assert plan_voters(image, now, (), {one(1): LogIndex(40)}).target == Membership(some(2, 3, 4))
    assert plan_voters(image, now, (), {}, silent=some(1)).target == Membership(some(2, 3, 4))
