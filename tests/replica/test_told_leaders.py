"""Who leads a group, as far as a node knows: by its own replica, or because the leader says so to everybody."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmq.ids import GroupId, NodeId, ReplicaId, StoreId, Term
from raftmq.ports import LeaderNotice
from raftmq.replica.host import ReplicaHost

GROUP = GroupId(7)
Leader = tuple[int, int] | None
"""(node, term)."""


def leader_of(*, own: Leader = None, term: int | None = None, told: Leader = None, halted: str | None = None) -> Leader:
    """`own`: who leads by the replica on this node, which is in `term`. None: there is no replica here."""
    groups: dict[GroupId, Any] = {}
    if term is not None:
        leader = None if own is None else ReplicaId(NodeId(own[0]), StoreId(1))
        groups[GROUP] = SimpleNamespace(halted=halted, node=SimpleNamespace(leader=leader, term=Term(term)))
    leaders = {} if told is None else {GROUP: LeaderNotice(GROUP, Term(told[1]), NodeId(told[0]), ())}
    host = SimpleNamespace(replicas=SimpleNamespace(group=groups.get, leaders=leaders))
    return ReplicaHost.leader_of(cast(ReplicaHost, host), GROUP)


@pytest.mark.parametrize("told", [None, (2, 1), (1, 3)])
def test_a_replica_that_follows_is_believed(told: Leader) -> None:
    assert leader_of(own=(1, 3), term=3, told=told) == (1, 3)


def test_a_replica_that_nobody_talks_to_any_more_is_not() -> None:
    """A leader had begun to add it, and died. It never campaigns; an operation that was to take it away asked the dead
    leader for ever."""
    assert leader_of(own=(1, 1), term=1, told=(4, 3)) == (4, 3)


def test_a_term_without_a_leader_makes_older_notices_void() -> None:
    assert leader_of(term=3, told=(1, 2)) is None
    assert leader_of(term=3, told=(1, 3)) is None
    assert leader_of(term=3) is None


def test_without_a_replica_or_with_a_halted_one_it_is_who_says_so() -> None:
    assert leader_of(told=(2, 5)) == (2, 5)
    assert leader_of(own=(1, 9), term=9, told=(2, 5), halted="damaged") == (2, 5)
    assert leader_of() is None
