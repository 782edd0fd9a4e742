"""Messages between the replicas of one group.

    candidate  -- RequestVote ------->  everyone     (``pre_vote`` first; dissertation, section 9.6)
    everyone   -- VoteReply --------->  candidate
    leader     -- AppendEntries ----->  follower     (entries filled in by the host; see ``AppendOrder``)
    follower   -- AppendReply ------->  leader
    leader     -- Heartbeat --------->  follower     (liveness and read-index rounds)
    follower   -- HeartbeatReply ---->  leader
    leader     -- InstallSnapshot --->  follower     (the *order* to fetch one; the bytes go another way)
    leader     -- TimeoutNow -------->  follower     (leadership transfer; dissertation, section 3.10)

Every message names its sender, its target and the sender's term. Nothing else may be assumed of delivery:
messages may be lost, late, doubled and reordered.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.ids import LogIndex, ReplicaId, Term
from raftmq.raft.types import Entry, SnapshotMeta


@dataclass(frozen=True, slots=True)
class Message:
    """What all messages carry."""

    source: ReplicaId
    target: ReplicaId
    term: Term


@dataclass(frozen=True, slots=True)
class RequestVote(Message):
    """Asks for a vote in ``term``. A pre-vote asks about the term the sender *would* take, and changes nothing.

    ``transfer`` marks the one kind of request that may bypass vote stickiness: the sender was told by the
    leader to take over.
    """

    last_index: LogIndex
    last_term: Term
    pre_vote: bool = False
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class VoteReply(Message):
    """``term``: of a granted (pre-)vote the term asked for; of a refusal the sender's own term."""

    granted: bool
    pre_vote: bool = False


@dataclass(frozen=True, slots=True)
class AppendEntries(Message):
    """Entries after (``prev_index``, ``prev_term``), which must match the receiver's log; may be empty.

    ``admission``: how often the leader had admitted newcomers in its term when it admitted the receiver; 0: it was a
    member all along.
    """

    prev_index: LogIndex
    prev_term: Term
    entries: tuple[Entry, ...]
    commit_index: LogIndex
    admission: int = 0


@dataclass(frozen=True, slots=True)
class AppendReply(Message):
    """``match_index``: the sender holds the leader's log up to here, durably.

    On ``rejected`` it is a *hint* instead: the largest index at which the logs may agree, and ``hint_term`` the
    sender's term there (fast back-up, Raft, end of section 5.3). ``prev_index`` echoes what was rejected, so that
    a stale rejection is recognised. ``suspect``: this replica is not to be counted as in sync yet.
    ``commit_index`` is the sender's: the leader repeats the news of a commit until it sees it here. ``admission``: of
    the message that is answered. A replica that is removed and comes back to the same disk has the name of the one
    before; what that one held says nothing about it.
    """

    match_index: LogIndex
    rejected: bool = False
    prev_index: LogIndex = LogIndex(0)
    hint_term: Term = Term(0)
    suspect: bool = False
    commit_index: LogIndex = LogIndex(0)
    admission: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """``round`` numbers read-index rounds of this term (0: liveness only)."""

    commit_index: LogIndex
    round: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatReply(Message):
    round: int = 0


@dataclass(frozen=True, slots=True)
class InstallSnapshot(Message):
    """The follower needs entries that the leader no longer has: it is to fetch the snapshot named here.
    ``admission`` as in ``AppendEntries``."""

    snapshot: SnapshotMeta
    admission: int = 0


@dataclass(frozen=True, slots=True)
class TimeoutNow(Message):
    """Start an election at once (dissertation, section 3.10)."""


@dataclass(frozen=True, slots=True)
class AppendOrder:
    """Not a message: what the core asks the host to turn into an ``AppendEntries``.

    The host reads entries [``first``, ``last``] (or fewer: at least one where ``first <= last``, at most
    ``max_bytes`` of them unless a single one is larger), checks each against ``runs``, builds the message and
    calls ``RaftNode.sent``. An empty range (``last == first - 1``) is a message without entries: a probe, or the
    news of a commit. An order is only good in the pass it was taken in, and while ``term`` is the node's term
    and ``first`` is not below the log start.
    """

    target: ReplicaId
    term: Term
    prev_index: LogIndex
    prev_term: Term
    first: LogIndex
    last: LogIndex
    runs: tuple[tuple[Term, LogIndex], ...]
    """Term runs that cover first..last: (term, first index of the run)."""
    max_bytes: int
    commit_index: LogIndex
