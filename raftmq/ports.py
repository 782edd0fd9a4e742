"""What the shell needs from the world outside, as protocols. One conformance suite per port keeps fakes honest.

``Store``      the node's disk. Writes are ordered; nothing is durable until ``sync`` has returned.
``Transport``  frames to other nodes. May lose, delay, reorder and double them; never blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from raftmq.ids import BootCount, Generation, GroupId, LogIndex, NodeId, Offset, StoreId, Term, Tick
from raftmq.raft.messages import Message
from raftmq.raft.types import HardState, Membership, SnapshotMeta
from raftmq.records.entry import CHAIN_START, LogEntry
from raftmq.records.state_kinds import StateKind as StateKind
from raftmq.records.topic_kinds import TopicKind


class StorageError(Exception):
    """A write, sync or read failed: the node must stop (fail-stop), and must not try again."""


class StorageStalled(Exception):
    """The store would have had to wait. Nothing of the batch was applied: build it again, later."""


class StorageRefused(Exception):
    """The directory must not be opened: locked, of another node, of another format. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of everything that lies before a log's first entry."""

    term: Term = Term(0)
    chain: bytes = CHAIN_START
    offset: Offset = Offset(0)
    log_tick: int = 0
    wall_ms: int = 0


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """The row of one replica in the ``raft`` family: what must be known before its log is read."""

    group: GroupId
    generation: Generation
    hard_state: HardState
    memberships: tuple[tuple[LogIndex, Membership], ...]
    commit_index: LogIndex = LogIndex(0)
    raft_start: LogIndex = LogIndex(1)
    anchor: Anchor = Anchor()
    log_start_offset: Offset = Offset(0)
    suspect: bool = False
    installing: Generation | None = None
    """A snapshot is being written there, to take this one's place. Of no use to any other process: drop it at start."""
    damaged: Generation | None = None
    """What this replica was before it was found damaged and started over. Kept until it is no longer suspect: then it
    has everything again."""
    kind: TopicKind = TopicKind.RECORDS
    """Which state machine its log is for."""


# -- write operations: a batch is a sequence of them, applied in order, all or nothing ---------------------------


@dataclass(frozen=True, slots=True)
class PutEntries:
    """Append entries to a replica's log (contiguous), with their payloads and offset rows."""

    generation: Generation
    entries: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True)
class TruncateFrom:
    """Remove every entry at or after ``index``, whose first record had ``offset``."""

    generation: Generation
    index: LogIndex
    offset: Offset


@dataclass(frozen=True, slots=True)
class TrimPoint:
    """Where a log begins: its first entry, its first record, and the wall stamp of the entry before (0: none was)."""

    index: LogIndex
    offset: Offset
    wall_ms: int


@dataclass(frozen=True, slots=True)
class TrimBefore:
    """Remove every entry before ``end``. ``begin`` is where the log begins now: what lies before it is gone already.

    Entries of the same batch must lie at or after ``end``.
    """

    generation: Generation
    begin: TrimPoint
    end: TrimPoint


@dataclass(frozen=True, slots=True)
class PutReplica:
    row: ReplicaRow


@dataclass(frozen=True, slots=True)
class DropReplica:
    """Remove a replica and all rows of its generation."""

    group: GroupId
    generation: Generation


@dataclass(frozen=True, slots=True)
class PutState:
    """Derived state; ``value`` None removes the row."""

    generation: Generation
    kind: StateKind
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class PutNode:
    """A row of the ``node`` family (cluster id, formation)."""

    name: str
    value: bytes


WriteOp = PutEntries | TruncateFrom | TrimBefore | PutReplica | DropReplica | PutState | PutNode


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch as a reader gets it."""

    base_offset: Offset
    count: int
    index: LogIndex
    term: Term
    wall_ms: int
    header: bytes
    """Serialised ``raftmq.v1.BatchHeader``."""
    payload: bytes

    @property
    def next_offset(self) -> Offset:
        return Offset(self.base_offset + self.count)


@dataclass(frozen=True, slots=True)
class LostTail:
    """This disk once lost synced writes, and a row may have been among them. Never forgotten, unlike suspicion.

    A replica of a group up to ``group`` that has no row here may have voted: create it suspect, in ``term``.
    """

    group: GroupId
    term: Term


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Who this disk is. ``suspect``: fewer synced writes were found at *this* open than the tail marker promises."""

    store_id: StoreId
    boot_count: BootCount
    suspect: bool
    lost: LostTail | None = None


class Store(Protocol):
    """One node's disk: every replica's log, hard state and derived state.

    ``write``, ``sync`` and ``close`` are called by one thread at a time; reads may come from other threads at any
    moment and see what was written, synced or not.
    """

    @property
    def identity(self) -> StoreIdentity: ...

    def node_value(self, name: str) -> bytes | None:
        """A row of the ``node`` family."""

    def replicas(self) -> list[ReplicaRow]:
        """Every replica on this disk, by group. With a suspect identity each row is suspect and its term raised."""

    def scan_headers(self, generation: Generation, first: LogIndex) -> Iterator[LogEntry]:
        """Headers (payload empty) from `first` on, checked: contiguous, row CRC right, chain unbroken."""

    def read_entries(self, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int) -> list[LogEntry]:
        """Entries [first, last], whole, checked; fewer when over `max_bytes` (at least one). Raises StorageError."""

    def read_batches(self, generation: Generation, offset: Offset, end: Offset, max_bytes: int) -> list[BatchRow]:
        """Batches from the one that holds `offset` up to `end` (exclusive), at least one if there is any."""

    def offset_at(self, generation: Generation, wall_ms: int) -> Offset | None:
        """First offset of the first batch that was appended at `wall_ms` or later; None where there is none."""

    def state(self, generation: Generation, kind: StateKind) -> Iterator[tuple[bytes, bytes]]:
        """Derived rows of one kind, by key."""

    def write(self, ops: Sequence[WriteOp]) -> None:
        """Apply `ops` in order, all or nothing; visible at once, durable after the next ``sync``.

        Raises StorageStalled (nothing applied, try again later) or StorageError (stop).
        """

    def sync(self) -> None:
        """Make every write before this call durable. Releases the GIL. Raises StorageError."""

    def settle(self) -> None:
        """Make the tail marker of the last ``sync`` durable. The next ``sync`` does it too; call this when idle for
        about 50 ms. Called like ``sync``. Raises StorageError."""

    def close(self) -> None:
        """Flush and close. Idempotent."""


# -- snapshots: a stream of parts from one replica to another ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """What follows: entries from ``first_index`` to ``meta.index``, then the state there, then ``SnapshotEnd``."""

    meta: SnapshotMeta
    chain: bytes
    """Over every entry up to ``meta.index``."""
    raft_start: LogIndex
    """Where the sender's log begins, after ``anchor``."""
    anchor: Anchor
    first_index: LogIndex


@dataclass(frozen=True, slots=True)
class SnapshotEntries:
    entries: tuple[LogEntry, ...]


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """Rows of derived state as of ``meta.index``, in order of kind and key."""

    rows: tuple[tuple[StateKind, bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """``digest``: over all rows of derived state (``replica.cut.digest``). Entries have checksums of their own."""

    digest: bytes


SnapshotPart = SnapshotHead | SnapshotEntries | SnapshotState | SnapshotEnd


# -- transport -----------------------------------------------------------------------------------------------------


class Channel(IntEnum):
    """Streams from one node to another, each with a connection of its own."""

    RAFT = 1
    BULK = 2


class DiskLevel(IntEnum):
    """How much room the file system under a node's data has left."""

    AMPLE = 0
    LOW = 1
    """No records are taken from producers here, and what the node's replicas hold does not count as in sync."""
    FULL = 2
    """Other leaders' records are not taken any more either."""


@dataclass(frozen=True, slots=True)
class LedSet:
    """Groups that the sender leads and the receiver holds, with their terms."""

    version: int
    terms: dict[GroupId, Term]


@dataclass(frozen=True, slots=True)
class NodeHeartbeat:
    """``led`` is None where the receiver is known to hold ``led_version``."""

    sequence: int
    led_version: int
    led: LedSet | None
    disk: DiskLevel = DiskLevel.AMPLE
    """Of the sender."""


@dataclass(frozen=True, slots=True)
class NodeHeartbeatAck:
    """``disputed``: groups of the led set that the acknowledging node does not follow in that term, with its own
    term there (0: it has no such replica)."""

    sequence: int
    led_version: int
    disputed: dict[GroupId, Term]


@dataclass(frozen=True, slots=True)
class LeaderNotice:
    """A leader tells every node that it leads, and who is in sync."""

    group: GroupId
    term: Term
    leader: NodeId
    in_sync: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class GroupMessage:
    """A Raft message with its address. Entries in an ``AppendEntries`` carry a ``LogEntry`` as payload."""

    group: GroupId
    message: Message


@dataclass(frozen=True, slots=True)
class Frame:
    """What one node tells another in one round. Heartbeats and votes go before appends."""

    heartbeat: NodeHeartbeat | None = None
    heartbeat_ack: NodeHeartbeatAck | None = None
    messages: tuple[GroupMessage, ...] = ()
    notices: tuple[LeaderNotice, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Who sent a frame, as its stream's first message said."""

    node: NodeId
    store: StoreId
    boot: BootCount


class Receiver(Protocol):
    """What a transport calls, on the event loop's thread."""

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        """A frame arrived. Must not block."""

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        """A stream *to* `node` was (re)established: what was sent before may be lost."""

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        """Proof that the process is gone: a live stream ended and the redial was refused, or closed before the
        handshake. At most once per (node, boot)."""


class Transport(Protocol):
    """Frames to other nodes. ``send`` never blocks and never fails: when a peer's bounded queue is full, or the
    peer is away, the frame is dropped, and ``on_peer_up`` will tell when to start over."""

    def send(self, node: NodeId, channel: Channel, frame: Frame) -> None: ...


class Clock(Protocol):
    """The only source of time of the shell."""

    def tick(self) -> Tick:
        """Monotonic milliseconds."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""
