"""What one pass over the groups wants done: collected here, executed by the driver (or by a simulator)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raftmq.ids import Generation, GroupId, LogIndex, NodeId, ReplicaId, Term
from raftmq.ports import Channel, Frame, GroupMessage, LeaderNotice, WriteOp
from raftmq.records.entry import LogEntry


@dataclass(frozen=True, slots=True)
class ReadOrder:
    """Entries that are no longer in memory: to be read off the loop, then handed to ``Replicas.read_done``.

    ``reader`` None: for the state machine; otherwise for this follower.
    """

    group: GroupId
    generation: Generation
    first: LogIndex
    last: LogIndex
    max_bytes: int
    reader: ReplicaId | None
    epoch: int
    """Of the group's ``ReadBack``: tells whether the log was truncated meanwhile."""


@dataclass(frozen=True, slots=True)
class Mark:
    """To be reported by ``RaftNode.persisted`` when the round is durable."""

    group: GroupId
    generation: Generation
    term: Term
    index: LogIndex


@dataclass(slots=True)
class Round:
    """One batch for the disk, and what may happen only after it is durable.

    Rounds are written and become durable in the order in which they were made; several may share one write and one
    sync. A round with ``must_sync`` False carries derived state only: it may become durable whenever.
    """

    number: int
    ops: list[WriteOp] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    after: list[tuple[NodeId, GroupMessage]] = field(default_factory=list)
    must_sync: bool = False
    installed: list[tuple[GroupId, Generation]] = field(default_factory=list)
    """Replicas that go on from a snapshot, in this generation, once the round is durable."""
    written: list[Callable[[], None]] = field(default_factory=list)
    """To be called when the round is written, durable or not."""
    queued_at: float = 0.0
    """When the driver queued it for the storage thread, by that driver's clock in seconds."""

    @property
    def is_empty(self) -> bool:
        """Nothing depends on it."""
        return not (self.ops or self.marks or self.after or self.written)


class Outbox:
    """One pass's orders. Messages are gathered per node and channel, so that each peer gets one frame a round."""

    def __init__(self, number: int) -> None:
        self.round = Round(number)
        self.reads: list[ReadOrder] = []
        self.notices: list[LeaderNotice] = []
        self._messages: dict[tuple[NodeId, Channel], list[GroupMessage]] = {}

    def send(self, node: NodeId, message: GroupMessage, channel: Channel = Channel.RAFT) -> None:
        self._messages.setdefault((node, channel), []).append(message)

    def frames(self) -> list[tuple[NodeId, Channel, Frame]]:
        """The messages gathered so far, a frame per node and channel, in a fixed order."""
        return [
            (node, channel, Frame(messages=tuple(messages)))
            for (node, channel), messages in sorted(self._messages.items())
        ]


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What came of a ``ReadOrder``."""

    order: ReadOrder
    entries: tuple[LogEntry, ...]
