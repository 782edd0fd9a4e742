"""Leadership moves back to the preferred replica only where it is safe and likely to stay."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from raftmq.ids import BootCount, GroupId, NodeId, PartitionId, ReplicaId, StoreId
from raftmq.metadata.balance import Transfer, plan_transfers
from raftmq.metadata.events import NodeFenced, NodeRegistered, PartitionAssigned, TopicCreated
from raftmq.metadata.image import MetadataImage

G1, G2, G3 = GroupId(1), GroupId(2), GroupId(3)
N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)
ALL = (N1, N2, N3)
OLD_ENOUGH = {N1: 30_000, N2: 30_000, N3: 30_000}


def replica(node: int) -> ReplicaId:
    return ReplicaId(NodeId(node), StoreId(node))


def cluster() -> MetadataImage:
    """Three nodes; partition 0 prefers node 1, 1 prefers 2, 2 prefers 3."""
    image = MetadataImage()
    for node in ALL:
        image = image.replay(NodeRegistered(replica(node), BootCount(1), "h", 1, "h", 2, 3, "", 1))
    orders = ((1, 2, 3), (2, 3, 1), (3, 1, 2))
    assigned = tuple(
        PartitionAssigned(GroupId(number + 1), PartitionId(number), tuple(replica(node) for node in order))
        for number, order in enumerate(orders)
    )
    return image.replay(TopicCreated(1, "t", 3, 2, 1024, assigned))


IMAGE = cluster()
SKEWED = {G1: N1, G2: N1, G3: N1}
IN_SYNC: dict[GroupId, Collection[NodeId]] = {G1: ALL, G2: ALL, G3: ALL}
TO_2, TO_3 = Transfer(G2, N1, N2), Transfer(G3, N1, N3)


def test_leaders_go_back_to_where_they_are_preferred() -> None:
    assert plan_transfers(IMAGE, SKEWED, IN_SYNC, OLD_ENOUGH, limit=10) == [TO_2, TO_3]


def test_nothing_moves_where_all_is_well() -> None:
    assert plan_transfers(IMAGE, {G1: N1, G2: N2, G3: N3}, IN_SYNC, OLD_ENOUGH, limit=10) == []


@pytest.mark.parametrize(("limit", "expected"), [(0, []), (1, [TO_2]), (2, [TO_2, TO_3])])
def test_only_so_many_at_a_time(limit: int, expected: list[Transfer]) -> None:
    assert plan_transfers(IMAGE, SKEWED, IN_SYNC, OLD_ENOUGH, limit=limit) == expected


def test_never_to_a_replica_that_is_not_in_sync() -> None:
    assert plan_transfers(IMAGE, SKEWED, {**IN_SYNC, G2: (N1, N3)}, OLD_ENOUGH, limit=10) == [TO_3]
    assert plan_transfers(IMAGE, SKEWED, {G3: ALL}, OLD_ENOUGH, limit=10) == [TO_3]


@pytest.mark.parametrize("sessions", [{**OLD_ENOUGH, N2: 29_999}, {N3: 30_000}])
def test_never_to_a_node_that_has_just_come_back(sessions: dict[NodeId, int]) -> None:
    assert plan_transfers(IMAGE, SKEWED, IN_SYNC, sessions, limit=10) == [TO_3]


def test_the_least_session_can_be_set() -> None:
    assert plan_transfers(IMAGE, SKEWED, IN_SYNC, {N2: 5, N3: 4}, limit=10, session_min_ms=5) == [TO_2]


def test_never_to_a_fenced_node() -> None:
    assert plan_transfers(IMAGE, SKEWED, IN_SYNC, OLD_ENOUGH, limit=10, fenced={N3}) == [TO_2]
    fenced = IMAGE.replay(NodeFenced(N2))
    assert plan_transfers(fenced, SKEWED, IN_SYNC, OLD_ENOUGH, limit=10) == [TO_3]


def test_a_group_that_rests_or_whose_leader_is_not_known_is_left_alone() -> None:
    assert plan_transfers(IMAGE, SKEWED, IN_SYNC, OLD_ENOUGH, limit=10, resting={G2}) == [TO_3]
    assert plan_transfers(IMAGE, {G3: N1}, IN_SYNC, OLD_ENOUGH, limit=10) == [TO_3]


def test_never_to_a_node_with_another_disk_than_the_replica_was_placed_on() -> None:
    other = NodeRegistered(ReplicaId(N2, StoreId(99)), BootCount(1), "h", 1, "h", 2, 3, "", 1)
    assert plan_transfers(IMAGE.replay(other), SKEWED, IN_SYNC, OLD_ENOUGH, limit=10) == [TO_3]
