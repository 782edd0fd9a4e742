"""Changes of members and elections in every order, up to a bound: see ``walk``."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from raftmq.raft.quorum import quorum_value
from raftmq.raft.types import Membership

from .harness import members
from .walk import Budget, start, walk

STATES = int(os.environ.get("RAFTMQ_WALK_STATES", "500"))
"""In each scope. 500 states are a second, and some five steps deep."""

FIRST = members(1, 2, 3, learners=[4, 5])
SCOPES = {
    "two of three replaced while somebody is elected": (FIRST, [members(1, 4, 5)], Budget(changes=0)),
    "the leader leaves": (FIRST, [members(2, 3, 4)], Budget(changes=0)),
    "one joins, and goes at once": (
        members(1, 2, 3, learners=[4]),
        [members(1, 2, 3, 4), members(1, 2, 3)],
        Budget(elections=1, losses=0),
    ),
    "nothing is lost, so that it goes deeper": (FIRST, [members(1, 4, 5)], Budget(0, 0, 0, 0)),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_no_order_of_events_breaks_what_must_hold(scope: str) -> None:
    """R1, R4, R5, R11, and what is durable before it is said: asked of every state."""
    first, targets, budget = SCOPES[scope]
    walked = walk(start(first, *targets, budget=budget), STATES)
    assert walked.states == STATES or not budget.elections, "a bound was reached, or everything"
    assert walked.elected if budget.elections else walked.left_joint


def _new_half(membership: Membership, value: Any) -> Any:
    """The majority of the incoming voters decides alone."""
    return quorum_value(replace(membership, outgoing=frozenset()), value)


def test_a_joint_configuration_that_counts_one_half_only_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmq.raft.leader.quorum_value", _new_half)
    first, targets, budget = SCOPES["nothing is lost, so that it goes deeper"]
    with pytest.raises(AssertionError, match="without a quorum"):
        walk(start(first, *targets, budget=budget), STATES)
