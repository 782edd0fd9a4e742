"""Entries that are no longer in memory, read back from disk: for a follower that is behind, or for the state
machine."""

from __future__ import annotations

from raftmq.ids import Generation, GroupId, LogIndex, ReplicaId
from raftmq.records.entry import LogEntry
from raftmq.replica.outbox import Outbox, ReadOrder

READ_BYTES = 1024 * 1024
"""How much is read at a time."""


class ReadBack:
    """One buffer per reader; the reader None is the state machine.

    A truncation makes a new *epoch*: what was ordered before it may hold entries that are no longer in the log, and is
    thrown away when it arrives. So whatever is here is in the log.
    """

    def __init__(self, group: GroupId, generation: Generation) -> None:
        self._group = group
        self._generation = generation
        self._held: dict[ReplicaId | None, list[LogEntry]] = {}
        self._ordered: set[ReplicaId | None] = set()
        self._epoch = 0

    def __bool__(self) -> bool:
        return bool(self._held)

    @property
    def readers(self) -> list[ReplicaId | None]:
        """Who has a buffer."""
        return list(self._held)

    def order(self, reader: ReplicaId | None, first: LogIndex, last: LogIndex, outbox: Outbox) -> None:
        """Have [first, last] read, unless something is being read for `reader` already."""
        if reader not in self._ordered:
            self._ordered.add(reader)
            outbox.reads.append(ReadOrder(self._group, self._generation, first, last, READ_BYTES, reader, self._epoch))

    def done(self, order: ReadOrder, entries: tuple[LogEntry, ...]) -> None:
        """What was ordered is here."""
        self._ordered.discard(order.reader)
        if order.epoch == self._epoch:
            self._held[order.reader] = list(entries)

    def failed(self, order: ReadOrder) -> None:
        """What was ordered is not there any more."""
        self._ordered.discard(order.reader)

    def get(self, reader: ReplicaId | None, index: LogIndex) -> LogEntry | None:
        held = self._held.get(reader)
        if not held:
            return None
        position = index - held[0].index
        return held[position] if 0 <= position < len(held) else None

    def range(self, reader: ReplicaId, first: LogIndex, last: LogIndex, max_bytes: int) -> tuple[LogEntry, ...]:
        """Entries from `first` to `last`, fewer when over `max_bytes` (at least one); empty if `first` is not here."""
        taken: list[LogEntry] = []
        size = 0
        index = first
        while index <= last and (entry := self.get(reader, index)) is not None:
            size += entry.size
            if taken and size > max_bytes:
                break
            taken.append(entry)
            index = LogIndex(index + 1)
        return tuple(taken)

    def spent(self, reader: ReplicaId | None, done: LogIndex) -> None:
        """`reader` has everything up to `done`: drop its buffer if there is nothing beyond."""
        held = self._held.get(reader)
        if held is not None and (not held or held[-1].index <= done):
            del self._held[reader]

    def forget(self, reader: ReplicaId | None) -> None:
        self._held.pop(reader, None)

    def truncated(self) -> None:
        """Entries were removed from the log: trust nothing that was read before."""
        self._held.clear()
        self._epoch += 1
