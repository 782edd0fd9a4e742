"""For how long a node takes what it was told of consumer groups for true."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raftmq.ids import GroupId, Offset, Tick
from raftmq.partition.queues.commands import Verdict
from raftmq.partition.queues.settings import QueueSettings
from raftmq.replica.backlog import FRESH_MS, Backlog, Consumers
from tests.partition.queues.build import Partition

GROUP = GroupId(1)
TOLD_AT = Tick(5_000)


@pytest.mark.parametrize("consumers", [None, {GROUP: Consumers(Offset(7), is_awaited=False)}])
def test_what_a_node_was_told_long_ago_it_does_not_know(consumers: dict[GroupId, Consumers] | None) -> None:
    backlog = Backlog(lambda _: None)
    backlog.told(consumers, TOLD_AT)
    assert backlog.is_known(GROUP, Tick(TOLD_AT + FRESH_MS))
    assert not backlog.is_known(GROUP, Tick(TOLD_AT + FRESH_MS + 1))


def test_of_what_is_not_named_nothing_is_known() -> None:
    backlog = Backlog(lambda _: None)
    backlog.told({}, TOLD_AT)
    assert not backlog.is_known(GROUP, TOLD_AT)


def test_where_nobody_tells_there_are_no_consumer_groups() -> None:
    assert Backlog(lambda _: None).is_known(GROUP, Tick(10 * FRESH_MS))


def test_what_is_parked_counts_for_nobody_however_much_it_is() -> None:
    partition = Partition(QueueSettings(), 10_000)
    group: Any = SimpleNamespace(machine=partition.machine)
    backlog = Backlog(lambda _: group)
    assert backlog.lowest_unconsumed(GROUP) == 0
    lease = partition.grant(9_000).lease
    partition.settle(lease, Verdict.PARK, *range(1, 9_000))
    assert backlog.lowest_unconsumed(GROUP) == 0
    partition.ack(lease, 0)
    assert backlog.lowest_unconsumed(GROUP) == 9_000
    partition.redrive(8_191)
    assert backlog.lowest_unconsumed(GROUP) == 8_191
    partition.redrive(8_192)
    partition.ack(partition.grant(1).lease, 8_191)
    assert backlog.lowest_unconsumed(GROUP) == 8_192
    rest = partition.grant(2_000)
    partition.settle(rest.lease, Verdict.PARK, *rest.offsets)
    assert backlog.lowest_unconsumed(GROUP) == 10_000
