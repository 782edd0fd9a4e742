"""Configurations: how one follows another, and which one holds at an index.

    stable --(one voter more or less, or learners only)--> stable
    stable --(anything else)--> joint --(leave, proposed by the leader by itself)--> stable

A configuration is in force from the moment it is appended, committed or not (dissertation, section 4.1); when
its entry is truncated, the one before holds again. A change may begin only when the previous one is committed
and the leader has committed an entry of its own term: without the latter, single-server changes proposed by
two leaders in turn can give two disjoint majorities.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from raftmq.ids import LogIndex
from raftmq.raft.errors import MembershipRefused
from raftmq.raft.types import Membership


def first_step(current: Membership, target: Membership) -> Membership:
    """The configuration to append now in order to get from `current` to `target`.

    It is `target` itself when at most one voter is added or removed: any majority of the one then meets any
    majority of the other. Else it is the joint configuration of both. Raises MembershipRefused.
    """
    if current.is_joint:
        raise MembershipRefused("a joint configuration is in force: its second half comes first")
    if target.is_joint or not target.voters:
        raise MembershipRefused("the target must be a plain configuration with at least one voter")
    if target == current:
        raise MembershipRefused("the target is the present configuration")
    if len(current.voters ^ target.voters) <= 1:
        return target
    if target.learners & current.voters:
        # A joint entry has no place to remember who is to become a learner when it is left.
        raise MembershipRefused("a voter becomes a learner in a change of its own, not in a joint one")
    return Membership(voters=target.voters, outgoing=current.voters, learners=target.learners)


def leave(joint: Membership) -> Membership:
    """The second half of a joint change: the incoming voters alone."""
    assert joint.is_joint, "only a joint configuration can be left"
    return Membership(voters=joint.voters, learners=joint.learners)


class MembershipLog:
    """The configurations of the log: the newest applied one, and every later one, by index."""

    __slots__ = ("_indexes", "_memberships")

    def __init__(self, memberships: Iterable[tuple[LogIndex, Membership]]) -> None:
        pairs = list(memberships)
        assert pairs, "a replica knows at least the configuration it was created with"
        # Invariant: _indexes ascend strictly; never empty.
        self._indexes = [index for index, _ in pairs]
        self._memberships = [membership for _, membership in pairs]
        assert all(a < b for a, b in zip(self._indexes, self._indexes[1:], strict=False))

    @property
    def current(self) -> Membership:
        return self._memberships[-1]

    @property
    def current_index(self) -> LogIndex:
        return self._indexes[-1]

    @property
    def oldest(self) -> Membership:
        """The newest applied one."""
        return self._memberships[0]

    def at(self, index: LogIndex) -> Membership | None:
        """The configuration in force at `index`. None: it was dropped."""
        position = bisect_right(self._indexes, index) - 1
        return self._memberships[position] if position >= 0 else None

    def since(self, index: LogIndex) -> list[Membership]:
        """The configuration in force at `index`, and every later one."""
        return self._memberships[max(bisect_right(self._indexes, index) - 1, 0) :]

    def append(self, index: LogIndex, membership: Membership) -> None:
        assert index > self._indexes[-1]
        self._indexes.append(index)
        self._memberships.append(membership)

    def truncate(self, index: LogIndex) -> bool:
        """Roll back every configuration at or after `index`. Returns whether there was one."""
        before = len(self._indexes)
        while len(self._indexes) > 1 and self._indexes[-1] >= index:
            self._indexes.pop()
            self._memberships.pop()
        return len(self._indexes) < before

    def drop_below(self, index: LogIndex) -> None:
        """Forget what was in force before `index`; the configuration at `index` stays."""
        position = bisect_right(self._indexes, index) - 1
        if position > 0:
            del self._indexes[:position], self._memberships[:position]

    def reset(self, index: LogIndex, membership: Membership) -> None:
        """Start over from a snapshot."""
        self._indexes, self._memberships = [index], [membership]
