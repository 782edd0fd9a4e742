"""The newest entries of one log, in memory: what followers and tailing consumers ask for again and again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol

from raftmq.ids import GroupId, LogIndex, Offset
from raftmq.raft.types import EntryKind
from raftmq.records.entry import LogEntry


class Tail:
    """A contiguous run of entries that ends at the log's end.

    An entry must stay here until it can be read from the store, so ``evict`` takes the limit up to which that holds.
    """

    def __init__(self, next_index: LogIndex) -> None:
        self._entries: list[LogEntry] = []
        self._first = next_index
        self.bytes = 0

    @property
    def first_index(self) -> LogIndex:
        """Index of the oldest entry held; one past the log's end where none is."""
        return self._first

    def append(self, entries: Sequence[LogEntry]) -> None:
        assert entries[0].index == self._first + len(self._entries), "the tail must stay contiguous"
        self._entries.extend(entries)
        self.bytes += sum(entry.size for entry in entries)

    def truncate_from(self, index: LogIndex) -> None:
        """Forget every entry at or after `index`."""
        if index <= self._first:
            self._entries.clear()
            self._first = index
            self.bytes = 0
            return
        gone = self._entries[index - self._first :]
        del self._entries[index - self._first :]
        self.bytes -= sum(entry.size for entry in gone)

    def evict(self, budget: int, limit: LogIndex) -> None:
        """Drop oldest entries, none above `limit`, until at most `budget` bytes are held."""
        count = 0
        held = self.bytes
        for entry in self._entries:
            if held <= budget or entry.index > limit:
                break
            held -= entry.size
            count += 1
        if count:
            del self._entries[:count]
            self._first = LogIndex(self._first + count)
            self.bytes = held

    def get(self, index: LogIndex) -> LogEntry | None:
        position = index - self._first
        return self._entries[position] if 0 <= position < len(self._entries) else None

    def range(self, first: LogIndex, last: LogIndex, max_bytes: int) -> tuple[LogEntry, ...]:
        """Entries from `first` to `last`, fewer when over `max_bytes` (at least one); empty if `first` is not here."""
        start = first - self._first
        if start < 0 or start >= len(self._entries):
            return ()
        taken = 0
        end = start
        stop = min(len(self._entries), last - self._first + 1)
        while end < stop:
            taken += self._entries[end].size
            if taken > max_bytes and end > start:
                break
            end += 1
        return tuple(self._entries[start:end])

    def offset_at(self, wall_ms: int) -> Offset | None:
        """First offset of what was appended at `wall_ms` or later, the log's end where nothing was; None if the tail
        does not reach back so far."""
        position = bisect_left(self._entries, wall_ms, key=lambda entry: entry.wall_ms)
        if position == 0:
            return None
        return self._entries[position].base_offset if position < len(self._entries) else self._entries[-1].next_offset

    @property
    def first_offset(self) -> Offset | None:
        """Of the oldest entry held; None where none is."""
        return self._entries[0].base_offset if self._entries else None

    def batches(self, offset: Offset, end: Offset, max_bytes: int) -> list[LogEntry] | None:
        """Data entries from the one that holds `offset`, below `end`; None if the tail does not reach back so far."""
        if not self._entries or self._entries[0].base_offset > offset:
            return None
        position = bisect_right(self._entries, offset, key=lambda entry: entry.next_offset)
        found: list[LogEntry] = []
        taken = 0
        for entry in self._entries[position:]:
            if entry.base_offset >= end:
                break
            if entry.kind is not EntryKind.DATA:
                continue
            taken += len(entry.payload) + len(entry.inline)
            if taken > max_bytes and found:
                break
            found.append(entry)
        return found


class Trimmed(Protocol):
    """A group, as far as its tail goes."""

    id: GroupId
    tail: Tail

    def trim_tail(self, budget: int) -> None: ...


class TailBudget:
    """What the tails of all groups may hold together, in bytes. Who has had nothing to do for longest gives first."""

    STEPS = 8
    """So many groups are asked to give at one time, at most: what is not applied cannot go yet, however often."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[GroupId, tuple[Trimmed, int]] = {}
        """What each group held when it was looked at last; the longest idle first."""
        self.total = 0

    def used(self, group: Trimmed) -> None:
        """`group` has had something to do."""
        self._note(group)
        steps = min(self.STEPS, len(self._held))
        while self.total > self._limit and steps:
            oldest, _ = next(iter(self._held.values()))
            oldest.trim_tail(max(0, oldest.tail.bytes - (self.total - self._limit)))
            self._note(oldest)
            steps -= 1

    def forget(self, group_id: GroupId) -> None:
        """The group is gone."""
        _, held = self._held.pop(group_id, (None, 0))
        self.total -= held

    def _note(self, group: Trimmed) -> None:
        self.forget(group.id)
        if held := group.tail.bytes:
            self._held[group.id] = group, held
            self.total += held
