"""For how long a node takes what it was told of consumer groups for true."""

from __future__ import annotations

import pytest

from raftmq.ids import GroupId, Offset, Tick
from raftmq.replica.backlog import FRESH_MS, Backlog, Consumers

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
