"""How a group gets from one set of replicas to another, a step at a time. Pure.

    learner added ──> caught up ──> both sets decide (joint) ──> the new one alone ──> done

Never a step without looking at what the one before has come to: whoever drives this may be another node by then.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from raftmq.ids import ReplicaId
from raftmq.raft.types import Membership
from raftmq.replica.changing import Configuration


@dataclass(frozen=True, slots=True)
class Step:
    """``target``: the configuration to propose now. ``arrived``: there is no more to do. Else ``waits`` says why."""

    target: Membership | None = None
    arrived: bool = False
    waits: str = ""


def towards(found: Configuration, wanted: Collection[ReplicaId]) -> Step:
    """The next step to a configuration of exactly these voters, and nobody else."""
    if not found.is_settled:
        return Step(waits="a change of the group's configuration is being committed")
    goal = frozenset(wanted)
    now = found.membership
    newcomers = goal - now.voters
    if not newcomers <= now.learners:
        return Step(Membership(now.voters, learners=newcomers))
    if late := sorted(newcomers - frozenset(found.caught_up)):
        behind = found.last_index - found.match_index.get(late[0], 0)
        return Step(waits=f"the replica on node {late[0].node} catches up: {behind} entries behind")
    if now.voters != goal or now.learners:
        return Step(Membership(goal))
    return Step(arrived=True)


def back(found: Configuration, before: Collection[ReplicaId], after: Collection[ReplicaId]) -> Step:
    """The next step back to `before` of a move that led to `after`: only while the newcomer has no vote. Once it has
    one, the way leads on to `after`, and ``arrived`` is true there too."""
    if not found.is_settled:
        return Step(waits="a change of the group's configuration is being committed")
    if found.membership.voters == frozenset(before):
        return towards(found, before)
    return towards(found, after)
