"""Value objects of the consensus core."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from functools import lru_cache

from raftmq.ids import LogIndex, ReplicaId, Term


class Role(Enum):
    """What a replica is at this moment (Raft, section 5.1; pre-candidate: dissertation, section 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class EntryKind(IntEnum):
    """What an entry is. The numbers are on disk and on the wire: never change or reuse one."""

    NOOP = 1
    """First entry of a leader's term (Raft, section 8)."""
    DATA = 2
    """A record batch. The core does not look inside."""
    COMMAND = 3
    """A command for the group's state machine. The core does not look inside."""
    MEMBERSHIP = 4
    """A new configuration; takes effect when it is appended (dissertation, section 4.1)."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Who replicates and who votes. ``outgoing`` is non-empty only in a joint configuration (Raft, section 6).

    Invariant: learners are disjoint from voters and from outgoing.
    """

    voters: frozenset[ReplicaId]
    outgoing: frozenset[ReplicaId] = frozenset()
    learners: frozenset[ReplicaId] = frozenset()

    def __post_init__(self) -> None:
        assert not self.learners & (self.voters | self.outgoing), "a learner must not vote"

    @property
    def is_joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def all(self) -> frozenset[ReplicaId]:
        """Everyone who receives the log."""
        return self.voters | self.outgoing | self.learners if self.outgoing or self.learners else self.voters

    @property
    def all_voters(self) -> frozenset[ReplicaId]:
        """Everyone whose vote counts in one of the two halves."""
        return self.voters | self.outgoing if self.outgoing else self.voters

    @property
    def voters_in_order(self) -> tuple[ReplicaId, ...]:
        """``all_voters``, in an order that is the same everywhere."""
        return _in_order(self.all_voters)


@lru_cache(maxsize=1_000)
def _in_order(members: frozenset[ReplicaId]) -> tuple[ReplicaId, ...]:
    return tuple(sorted(members))


@dataclass(frozen=True, slots=True)
class HardState:
    """What must be on disk before a reply that depends on it leaves (Raft, figure 2)."""

    term: Term = Term(0)
    vote: ReplicaId | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One position of the log as the core sees it: numbers, and an opaque payload carried through.

    ``size`` is what the entry costs in a frame, in bytes; windows are counted in it.
    ``membership`` is set exactly for ``EntryKind.MEMBERSHIP``.
    """

    index: LogIndex
    term: Term
    kind: EntryKind
    payload: object = None
    size: int = 0
    membership: Membership | None = None


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """What a snapshot stands for: everything up to and including ``index``."""

    index: LogIndex
    term: Term
    membership: Membership


@dataclass(frozen=True, slots=True)
class Restored:
    """What a replica knows when its process starts. All of it comes from disk (or from the group's creation).

    ``runs`` are the log's term runs in order: (term, first index of the run). The log covers
    ``start_index`` .. ``last_index`` (empty: last_index == start_index - 1); ``start_term`` is the term of the
    entry before ``start_index`` (0 if there never was one).

    ``memberships`` are (log index, configuration) pairs, ascending: first the newest one at or below
    ``commit_index`` (index 0: the configuration the group was created with), then every later one in the log.

    ``suspect``: this disk may have lost synced entries. The host has already raised ``hard_state.term`` above
    every term in which this replica may have voted or acknowledged; see ``RaftNode``.
    """

    hard_state: HardState
    memberships: tuple[tuple[LogIndex, Membership], ...]
    start_index: LogIndex = LogIndex(1)
    start_term: Term = Term(0)
    last_index: LogIndex = LogIndex(0)
    runs: tuple[tuple[Term, LogIndex], ...] = ()
    commit_index: LogIndex = LogIndex(0)
    applied_index: LogIndex = LogIndex(0)
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """The leader's view of one member, for people and scripts."""

    match_index: LogIndex
    next_index: LogIndex
    state: str
    in_flight: int
    suspect: bool
    is_learner: bool


@dataclass(frozen=True, slots=True)
class RaftStatus:
    """A consistent picture of one replica, cheap to take, safe to keep."""

    role: Role
    term: Term
    vote: ReplicaId | None
    leader: ReplicaId | None
    last_index: LogIndex
    persisted_index: LogIndex
    commit_index: LogIndex
    applied_index: LogIndex
    membership: Membership
    membership_index: LogIndex
    suspect: bool
    transfer_target: ReplicaId | None = None
    peers: dict[ReplicaId, PeerStatus] = field(default_factory=dict)
