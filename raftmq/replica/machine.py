"""What the pump asks of a group's replicated state machine."""

from __future__ import annotations

from typing import Protocol

from raftmq.ids import LogIndex, Offset
from raftmq.ports import StateKind
from raftmq.records.entry import LogEntry


class StateMachine(Protocol):
    """Pure and deterministic: what it becomes depends on the entries alone."""

    @property
    def applied_index(self) -> LogIndex: ...
    @property
    def next_offset(self) -> Offset:
        """Offset after the last applied record: the high watermark. 0 where the group holds no records."""

    @property
    def log_start_offset(self) -> Offset: ...
    @property
    def raft_start(self) -> LogIndex:
        """First entry that is still needed, by a reader or a replica. Those below may be removed."""

    def apply(self, entry: LogEntry) -> object:
        """Take the next committed entry; returns what its proposer wants to know. Raises PoisonEntry to halt."""

    def take_rows(self) -> list[tuple[StateKind, bytes, bytes | None]]:
        """Derived rows that changed since the last call, to be written in one batch."""

    def all_rows(self) -> list[tuple[StateKind, bytes, bytes]]:
        """All derived rows as of the applied index, in order of kind and key."""
