"""Operations that meet: what one of them brings to a node, the others know of."""

from __future__ import annotations

import pytest

from raftmq.errors import PreconditionFailed
from raftmq.ids import NodeId
from raftmq.metadata import decisions, operating
from raftmq.metadata.decisions import CreateTopic
from raftmq.metadata.events import MoveBegun
from raftmq.metadata.image import MetadataImage, PartitionRecord
from raftmq.metadata.operation import OperationRecord
from tests.metadata.test_decisions import POLICY, cluster, replayed

SOURCE, TARGET = NodeId(1), NodeId(4)


def partition(image: MetadataImage) -> PartitionRecord:
    return image.topics["orders"].partitions[0]


def draining(image: MetadataImage) -> OperationRecord:
    return image.running()[-1]


@pytest.fixture
def moving() -> MetadataImage:
    """Five nodes; a replica moves from node 1 to node 4, which holds none yet."""
    image = cluster(5)
    image = replayed(image, decisions.create_topic(image, CreateTopic("orders", partitions=1), POLICY))
    assert TARGET not in {replica.node for replica in partition(image).replicas}
    in_sync = {partition(image).group: [NodeId(1), NodeId(2), NodeId(3)]}
    return replayed(image, operating.move_replica(image, "orders", 0, SOURCE, TARGET, in_sync, 1))


def drained(image: MetadataImage) -> MetadataImage:
    in_sync = {partition(image).group: [NodeId(1), NodeId(2), NodeId(3)]}
    return replayed(image, operating.drain_node(image, TARGET, in_sync, 2))


def next_moves(image: MetadataImage) -> list[MoveBegun]:
    moves = operating.next_moves(image, draining(image))
    return [move for move in moves if isinstance(move, MoveBegun)]


def test_a_drain_waits_for_the_replica_that_is_being_moved_to_the_node_and_moves_it_on(moving: MetadataImage) -> None:
    image = drained(moving)
    assert operating.left(image, draining(image)), "it is not over before that one has gone too"
    assert not operating.next_moves(image, draining(image))
    image = replayed(image, operating.moved(image, partition(image).group))
    (begun,) = next_moves(image)
    assert begun.source.node == TARGET
    assert begun.target.node in (1, 5)


def test_a_node_is_not_removed_while_a_replica_is_being_moved_to_it(moving: MetadataImage) -> None:
    image = drained(moving)
    image = replayed(image, operating.ended(image, draining(image).id, 3))
    with pytest.raises(PreconditionFailed, match="is to get them"):
        operating.remove_node(image, TARGET, 4)
    image = replayed(image, operating.abandoned(image, partition(image).group))
    assert operating.remove_node(image, TARGET, 5)
