"""How far the slowest group is, partition by partition."""

from __future__ import annotations

from raftmq.groups.commands import Commit, DeleteGroup
from raftmq.groups.positions import joined, slowest
from raftmq.groups.types import Position, TopicPartition
from tests.groups.build import ORDERS, Log, joining, key

OTHER = 8


def committed(*positions: tuple[TopicPartition, int]) -> Commit:
    return Commit("", 0, tuple((at, Position(offset)) for at, offset in positions))


def test_the_slowest_group_counts_and_one_that_reads_without_committing_is_told_of() -> None:
    log = Log()
    log.do(committed((key(0), 5), (key(1), 9), (key(0, OTHER), 1)), group="fast")
    log.do(committed((key(0), 3)), group="slow")
    groups = log.machine.groups.values()
    assert slowest(groups, {ORDERS.topic_id}) == {key(0): (3, False), key(1): (9, False)}
    log.do(joining("m"), group="slow")
    assert slowest(groups, {ORDERS.topic_id}) == {
        key(0): (3, False), key(1): (9, True), key(2): (None, True), key(3): (None, True),
    }  # fmt: skip
    assert slowest(groups, {OTHER}) == {key(0, OTHER): (1, False)}
    assert slowest(groups, set()) == {}


def test_a_group_that_is_deleted_does_not_count() -> None:
    log = Log()
    log.do(committed((key(0), 5)), group="fast")
    log.do(committed((key(0), 3)), group="slow")
    log.do(DeleteGroup(), group="slow")
    assert slowest(log.machine.groups.values(), {ORDERS.topic_id}) == {key(0): (5, False)}


def test_of_two_coordinators_the_lower_one_counts() -> None:
    assert joined((None, False), (None, False)) == (None, False)
    assert joined((4, False), (None, True)) == (4, True)
    assert joined((4, True), (2, False)) == (2, True)
