from __future__ import annotations

import pytest

from raftmq.broker.routing import Forward, Local, Refuse, Wait, may_route_again, route
from raftmq.errors import (
    DeadlineExceeded,
    LeadershipLost,
    NoLeader,
    NotEnoughReplicas,
    NotLeader,
    NotReady,
    Outcome,
    Overloaded,
    RaftmqError,
    ShuttingDown,
    Unavailable,
)
from raftmq.ids import NodeId, Term

ME, OTHER = NodeId(1), NodeId(2)


@pytest.mark.parametrize("no_forward", [False, True])
@pytest.mark.parametrize("forwarded", [False, True])
@pytest.mark.parametrize("leader", [None, ME, OTHER])
def test_a_leader_answers_whatever_else_is_said(leader: NodeId | None, forwarded: bool, no_forward: bool) -> None:
    known = None if leader is None else (leader, Term(3))
    assert route(ME, leads=True, leader=known, no_forward=no_forward, forwarded=forwarded) == Local()


def test_another_leader_gets_the_call() -> None:
    assert route(ME, leads=False, leader=(OTHER, Term(3)), no_forward=False, forwarded=False) == Forward(OTHER)


@pytest.mark.parametrize(("no_forward", "forwarded"), [(True, False), (False, True), (True, True)])
def test_a_call_takes_no_second_hop_and_none_that_is_not_wanted(no_forward: bool, forwarded: bool) -> None:
    decision = route(ME, leads=False, leader=(OTHER, Term(3)), no_forward=no_forward, forwarded=forwarded)
    assert isinstance(decision, Refuse)
    assert isinstance(decision.error, NotLeader)
    assert decision.error.outcome is Outcome.NOT_APPLIED
    assert decision.error.metadata == {"leader_node": "2", "leader_epoch": "3"}


@pytest.mark.parametrize("leader", [None, (ME, Term(3))])
def test_without_a_leader_the_first_node_waits(leader: tuple[NodeId, Term] | None) -> None:
    decision = route(ME, leads=False, leader=leader, no_forward=False, forwarded=False)
    assert isinstance(decision, Wait)
    assert isinstance(decision.error, NoLeader)


@pytest.mark.parametrize(("no_forward", "forwarded"), [(True, False), (False, True)])
def test_without_a_leader_a_call_that_may_not_go_on_is_refused(no_forward: bool, forwarded: bool) -> None:
    decision = route(ME, leads=False, leader=None, no_forward=no_forward, forwarded=forwarded)
    assert isinstance(decision, Refuse)
    assert isinstance(decision.error, NoLeader)
    assert decision.error.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize(
    ("error", "write", "read"),
    [
        (NotLeader("x"), True, True),
        (NoLeader("x"), True, True),
        (NotReady("x"), True, True),
        (ShuttingDown("x"), True, True),
        (Unavailable("x"), True, True),
        (Unavailable("x", outcome=Outcome.UNKNOWN), False, True),
        (NotLeader("x", outcome=Outcome.UNKNOWN), False, True),
        (LeadershipLost("x"), False, False),
        (NotEnoughReplicas("x"), False, False),
        (Overloaded("x"), False, False),
        (DeadlineExceeded("x"), False, False),
    ],
)
def test_a_call_is_routed_again_only_where_nothing_can_happen_twice(
    error: RaftmqError, write: bool, read: bool
) -> None:
    assert may_route_again(error, reads=False) is write
    assert may_route_again(error, reads=True) is read
