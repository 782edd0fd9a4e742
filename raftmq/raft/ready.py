"""``Ready``: what the core wants done, handed over in one piece."""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.ids import LogIndex, ReplicaId, Term
from raftmq.raft.messages import Message
from raftmq.raft.types import Entry, HardState, Role, SnapshotMeta


@dataclass(frozen=True, slots=True)
class ReadGrant:
    """A read may be served once ``index`` is applied (dissertation, section 6.4)."""

    request_id: int
    index: LogIndex


@dataclass(frozen=True, slots=True)
class Ready:
    """One round's work, in the order in which the host must do it. See ``RaftNode`` for the contract."""

    hard_state: HardState | None
    """To be written with ``entries``, in one atomic batch. None: unchanged."""
    truncate_from: LogIndex | None
    """Every entry at or after this index is to be removed in the same batch, before ``entries``."""
    entries: tuple[Entry, ...]
    """To be appended, contiguous, starting at ``truncate_from`` or at the end of the log."""
    snapshot: SnapshotMeta | None
    """A snapshot that a leader orders this replica to fetch and install. None: nothing ordered. The order is
    repeated while the leader hears nothing: a fetch that is under way goes on."""
    send_now: tuple[Message, ...]
    """May leave before the batch is durable."""
    send_after_persist: tuple[Message, ...]
    """Must not leave before hard state and entries of this and every earlier Ready are durable."""
    committed_to: LogIndex
    """Entries above the applied index up to here may be applied."""
    reads: tuple[ReadGrant, ...]
    """Reads that were confirmed by a quorum round."""
    reads_failed: tuple[int, ...]
    """Read requests that will never be confirmed: leadership was lost."""
    role: Role
    leader: ReplicaId | None
    term: Term
    suspect: bool
    """False after True: the replica has been cleared; the host writes that down."""
    persist_mark: LogIndex
    """The last index of the log after this Ready: to be handed back by ``persisted(term, persist_mark)``."""
