"""The state machine of the controller's group: its committed log, replayed, is the image of the cluster.

It keeps no rows on disk: the log of group 0 is small and is replayed from its start.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftmq.ids import LogIndex, Offset, WallMs
from raftmq.metadata import events
from raftmq.metadata.events import Event
from raftmq.metadata.image import MetadataImage
from raftmq.raft.types import EntryKind
from raftmq.records.entry import LogEntry
from raftmq.records.poison import CorruptState, PoisonEntry
from raftmq.records.state_kinds import StateKind


class MetadataMachine:
    """The metadata of the cluster on one node, as applied. Not thread-safe; performs no IO.

    PoisonEntry from `apply` means that the controller's group must stop on this node. The state is as it was before.
    """

    def __init__(self) -> None:
        self.image = MetadataImage()
        self.applied_index = LogIndex(0)
        self.log_tick = 0
        """Milliseconds of led time so far."""
        self.wall_ms = WallMs(0)
        """The newest wall stamp."""
        self.next_offset = Offset(0)
        """Always 0: the group holds no records."""
        self.log_start_offset = Offset(0)
        """Always 0."""
        self.raft_start = LogIndex(1)
        """Always 1: the whole log is kept."""

    def restore(self, rows: Iterable[tuple[StateKind, bytes, bytes]]) -> None:
        """There is nothing to restore: the log is replayed. Raises CorruptState where there are rows all the same."""
        assert self.applied_index == 0, "restore comes before the first entry"
        if list(rows):
            raise CorruptState("the controller's group keeps no rows")

    def apply(self, entry: LogEntry) -> list[Event]:
        """Apply a committed entry; returns what happened, in order. Raises PoisonEntry; nothing has changed then."""
        assert entry.index == self.applied_index + 1, f"entry {entry.index} cannot follow {self.applied_index}"
        if entry.log_tick < self.log_tick or entry.wall_ms < self.wall_ms:
            raise _poison(entry, "goes back in time")
        if entry.kind is EntryKind.DATA:
            raise _poison(entry, "holds records, which the controller's group never takes")
        happened: list[Event] = []
        if entry.kind is EntryKind.COMMAND:
            happened = self._replay(entry)
        self.applied_index = entry.index
        self.log_tick = entry.log_tick
        self.wall_ms = WallMs(entry.wall_ms)
        return happened

    def all_rows(self) -> list[tuple[StateKind, bytes, bytes]]:
        """No rows, ever."""
        return []

    def take_rows(self) -> list[tuple[StateKind, bytes, bytes | None]]:
        """No rows, ever."""
        return []

    def _replay(self, entry: LogEntry) -> list[Event]:
        """All events of an entry, or none."""
        image = self.image
        try:
            happened = events.decode(entry.inline, entry.version)
            for event in happened:
                image = image.replay(event)
        except PoisonEntry as error:
            raise _poison(entry, f"holds what cannot be replayed: {error}") from None
        if happened:
            self.image = image.at(entry.index)
        return happened


def _poison(entry: LogEntry, reason: str) -> PoisonEntry:
    return PoisonEntry(f"entry {entry.index} of term {entry.term} {reason}")
