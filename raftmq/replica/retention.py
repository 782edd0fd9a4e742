"""Which records may go: decided from what the log itself says, by the leader of a partition. Pure.

A log is summed up as *extents*, runs of applied entries. Retention drops whole extents, the oldest first:

    extents     |  a  |  b  |     c     |  d  |  e  |  ...            newest
    by age      last wall stamp at most now - retention_ms: all of its records are that old
    by size     without it, retention_bytes are still there

What is *read* and what is *replicated* end in two different places. Records below ``log_start_offset`` are gone for
readers at once. Entries below ``raft_start`` are removed from the disks, and that point waits for replicas that
still have to get them::

    entries     1 ....... raft_start ....... log start ............ applied
                removed       | kept for a slow    |  kept for readers
                              | replica only       |

Row and payload of an entry are removed together. So at any time an entry can be sent whole, or not at all, and a
follower needs either appends or a snapshot, never something in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raftmq.ids import LogIndex, Offset
from raftmq.partition.commands import TrimCommand
from raftmq.records.entry import LogEntry

EXTENTS_MAX = 256
"""Extents of one log in memory. More are joined, so that each holds about a thirtieth of the log at most."""
_JOINED = EXTENTS_MAX // 8
RECLAIM_BYTES = 1024 * 1024
"""Entries that only replicas needed are worth a command of their own from so many bytes on."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What a topic wants to keep at least. 0: without limit."""

    age_ms: int = 0
    size_bytes: int = 0
    done_below: Offset = Offset(0)
    """Whatever age and size say: nobody wants the records before this any more."""

    def __bool__(self) -> bool:
        return bool(self.age_ms or self.size_bytes or self.done_below)


@dataclass(frozen=True, slots=True)
class Extent:
    """Consecutive entries."""

    first_index: LogIndex
    last_index: LogIndex
    next_offset: Offset
    """After its last record."""
    size: int
    """Bytes of rows and payloads."""
    first_wall_ms: int
    last_wall_ms: int

    def joined(self, after: Extent) -> Extent:
        """This extent and the one `after` it as one."""
        assert after.first_index == self.last_index + 1, f"{after} does not follow {self}"
        return Extent(
            self.first_index,
            after.last_index,
            after.next_offset,
            self.size + after.size,
            self.first_wall_ms,
            after.last_wall_ms,
        )


class Extents:
    """The applied entries of one log that are still on disk. Applied ones only: they are never truncated."""

    __slots__ = ("_extents", "size")

    def __init__(self) -> None:
        self._extents: list[Extent] = []
        self.size = 0
        """Bytes of all of them."""

    def __len__(self) -> int:
        return len(self._extents)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def __getitem__(self, position: int) -> Extent:
        return self._extents[position]

    def add(self, entry: LogEntry) -> None:
        """`entry` has been applied. Its payload is not needed."""
        size = entry.stored_bytes
        self._extents.append(Extent(entry.index, entry.index, entry.next_offset, size, entry.wall_ms, entry.wall_ms))
        self.size += size
        if len(self._extents) > EXTENTS_MAX:
            self._join()

    def drop_below(self, index: LogIndex) -> None:
        """Entries below `index` are gone. An extent that reaches across it stays, as a whole."""
        gone = 0
        while gone < len(self._extents) and self._extents[gone].last_index < index:
            self.size -= self._extents[gone].size
            gone += 1
        del self._extents[:gone]

    def _join(self) -> None:
        """Join neighbours that together are small in bytes and in time.

        Of the pairs that are left each has more than a 32nd of the bytes or of the time, and no extent is in more
        than two pairs: there are fewer than 2 * 32 of the one kind and of the other.
        """
        size = self.size // _JOINED
        span = (self._extents[-1].last_wall_ms - self._extents[0].first_wall_ms) // _JOINED
        kept = [self._extents[0]]
        for extent in self._extents[1:]:
            whole = kept[-1].joined(extent)
            if whole.size <= size and whole.last_wall_ms - whole.first_wall_ms <= span:
                kept[-1] = whole
            else:
                kept.append(extent)
        self._extents = kept


def plan_trim(
    extents: Extents,
    retention: Retention,
    *,
    log_start: Offset,
    raft_start: LogIndex,
    wall_ms: int,
    needed_from: LogIndex,
    held_bytes_max: int,
    reclaim_bytes: int = RECLAIM_BYTES,
) -> TrimCommand | None:
    """The command to propose now, or None where it would not be worth one.

    ``needed_from``: first entry that a replica which is waited for does not have. Entries below the new log start
    are kept for it as long as they are at most ``held_bytes_max``; beyond that it will need a snapshot.
    """
    gone = _expired(extents, retention, log_start, wall_ms)
    if gone == 0:
        return None
    new_start = max(log_start, extents[gone - 1].next_offset)
    kept_from, reclaimed = _released(extents, gone, needed_from, held_bytes_max)
    if new_start == log_start and reclaimed < reclaim_bytes:
        return None
    return TrimCommand(new_start, max(raft_start, kept_from))


def _expired(extents: Extents, retention: Retention, log_start: Offset, wall_ms: int) -> int:
    """How many of the oldest extents no reader may ask for any more, those included that are trimmed already."""
    left = extents.size
    for position in range(len(extents)):
        extent = extents[position]
        old = retention.age_ms > 0 and extent.last_wall_ms <= wall_ms - retention.age_ms
        spare = retention.size_bytes > 0 and left - extent.size >= retention.size_bytes
        if extent.next_offset > max(log_start, retention.done_below) and not (old or spare):
            return position
        left -= extent.size
    return len(extents)


def _released(extents: Extents, gone: int, needed_from: LogIndex, held_bytes_max: int) -> tuple[LogIndex, int]:
    """(first entry to keep, bytes before it) of the `gone` oldest extents."""
    held = 0
    position = gone
    while position > 0 and extents[position - 1].last_index >= needed_from:
        held += extents[position - 1].size
        if held > held_bytes_max:
            break
        position -= 1
    if position == 0:
        return LogIndex(0), 0
    return LogIndex(extents[position - 1].last_index + 1), sum(extents[at].size for at in range(position))
