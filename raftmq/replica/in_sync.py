"""Which replicas are in sync. The set delays answers; it never decides what is committed: the Raft majority does.

The leader notes when its log grew. A voter is in sync while it holds, durably, what the leader's log held
``lag_max`` ago; it leaves at once when its process is known to be dead. In a new term a voter counts towards
``min_in_sync_replicas`` only once it holds the term's no-op, and a wait for *all* counts every voter that is not known
to be dead until it has had ``lag_max`` of the term to catch up: a new leader does not know yet who was in sync, and
must not answer ALL on a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from raftmq.ids import LogIndex, NodeId, ReplicaId, Tick
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.heartbeats import NodeHeartbeats


class Followers(Protocol):
    """What the leader knows of its voters."""

    def voters(self) -> Iterable[ReplicaId]:
        """Sorted."""

    def match_index(self, member: ReplicaId) -> LogIndex: ...
    def is_suspect(self, member: ReplicaId) -> bool: ...
    def is_dead(self, member: ReplicaId) -> bool: ...
    def is_short(self, member: ReplicaId) -> bool:
        """Its disk is running full: it may soon take no more."""


class InSyncSet:
    """For one term of one leader. ``noop_index`` is the index of the term's first entry."""

    GRAIN = 10
    """Growth is noted once per so many ticks: the queue stays short under any load."""

    def __init__(self, me: ReplicaId, followers: Followers, now: Tick, noop_index: LogIndex, lag_max: int) -> None:
        self._me = me
        self._followers = followers
        self._began = now
        self._noop = noop_index
        self._lag_max = lag_max
        self._growth: deque[tuple[Tick, LogIndex]] = deque()
        """(tick, last index of the log since then), ascending in both."""
        self._floor = noop_index

    def grew(self, now: Tick, last_index: LogIndex) -> None:
        """The log ends at `last_index` now."""
        growth = self._growth
        if growth and now - growth[-1][0] < self.GRAIN:
            # Folding into the newest note dates this growth a little early: a replica may leave up to GRAIN sooner.
            growth[-1] = (growth[-1][0], last_index)
        else:
            growth.append((now, last_index))

    @property
    def is_at_rest(self) -> bool:
        """The log has not grown for so long that what a replica must hold stays what it is."""
        return not self._growth

    def floor(self, now: Tick) -> LogIndex:
        """The log's end ``lag_max`` ago: what a replica must hold to be in sync."""
        growth = self._growth
        while growth and growth[0][0] <= now - self._lag_max:
            self._floor = growth.popleft()[1]
        return self._floor

    def members(self, now: Tick) -> list[ReplicaId]:
        """Voters in sync now, the leader among them."""
        floor = self.floor(now)
        followers = self._followers
        return [
            voter
            for voter in followers.voters()
            if voter == self._me
            or (
                followers.match_index(voter) >= floor
                and not followers.is_suspect(voter)
                and not followers.is_dead(voter)
                and not followers.is_short(voter)
            )
        ]

    def held_by_all(self, now: Tick) -> LogIndex:
        """The highest index that every replica whom ALL must wait for holds durably."""
        settled = now - self._began >= self._lag_max
        floor = self.floor(now)
        followers = self._followers
        held: LogIndex | None = None
        for voter in followers.voters():
            match = followers.match_index(voter)
            if voter != self._me:
                if followers.is_dead(voter):
                    continue
                if settled and (match < floor or followers.is_suspect(voter) or followers.is_short(voter)):
                    continue
            held = match if held is None else min(held, match)
        return LogIndex(0) if held is None else held


def nodes_of(members: Iterable[ReplicaId]) -> tuple[NodeId, ...]:
    """Node numbers of replicas, sorted."""
    return tuple(sorted(member.node for member in members))


class GroupFollowers:
    """``in_sync.Followers`` of one group; the rest comes from the node's view of its peers."""

    def __init__(self, group: ReplicaGroup, nodes: NodeHeartbeats) -> None:
        self._group = group
        self._nodes = nodes

    def voters(self) -> Iterable[ReplicaId]:
        return self._group.voters()

    def match_index(self, member: ReplicaId) -> LogIndex:
        return self._group.node.match_index(member)

    def is_suspect(self, member: ReplicaId) -> bool:
        return self._group.node.member_suspect(member)

    def is_dead(self, member: ReplicaId) -> bool:
        return self._nodes.is_dead(member)

    def is_short(self, member: ReplicaId) -> bool:
        return self._nodes.is_short(member)
