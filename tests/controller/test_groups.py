"""Finding the leader of a group whose configuration is to be looked at."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmq.controller.groups import Groups
from raftmq.errors import NoLeader, Unavailable
from raftmq.ids import GroupId, NodeId, ReplicaId, StoreId, Term
from raftmq.ports import LeaderNotice
from raftmq.replica.driver import SystemClock

GROUP = GroupId(1)


def ask(*, own: tuple[NodeId, Term] | None, told: int | None, error: type[Unavailable] = Unavailable) -> list[NodeId]:
    """Whom node 1 asks, whose own replica knows the leader `own`, and that was told of another."""
    asked: list[NodeId] = []

    async def forward(node: NodeId, _method: str, _request: bytes, _timeout_ms: int) -> bytes:
        asked.append(node)
        raise Unavailable("enough")

    notices = {} if told is None else {GROUP: LeaderNotice(GROUP, Term(2), NodeId(told), ())}
    replicas = SimpleNamespace(leaders=notices, me=ReplicaId(NodeId(1), StoreId(7)))
    host = SimpleNamespace(replicas=replicas, leader_of=lambda group: own)
    groups = Groups(cast(Any, host), forward, SystemClock())
    with pytest.raises(error):
        asyncio.run(groups.configuration(GROUP, 1_000))
    return asked


def test_a_replica_that_knows_its_leader_is_believed() -> None:
    assert ask(own=(NodeId(3), Term(2)), told=4) == [3]


def test_the_leader_of_a_group_that_this_node_was_removed_from_is_known_by_notice() -> None:
    assert ask(own=None, told=4) == [4]


@pytest.mark.parametrize("told", [None, 1])
def test_without_a_leader_nobody_is_asked(told: int | None) -> None:
    assert ask(own=None, told=told, error=NoLeader) == []
