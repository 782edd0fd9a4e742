"""How deep a partition is, and what that means for a batch that wants in: decided by its leader, before anything is
appended. Pure.

    log        | trimmed |  read by all groups  |   depth: what counts   | the batch |
                         ^ log start            ^ low                    ^ end

The depth is what lies between *low* and the end of the leader's log, committed or not. Low is the log's start, or where
the slowest consumer group is (``backlog``). So without groups a limit bounds what is kept, like retention, but at the
moment of each append; with groups it bounds how far consumers may fall behind.

A limit is strict: a leader knows no later start than its followers, and appends nothing that would exceed it. Hence on
every replica, after each entry, the log from its start on is within the limit of the time (with policies that refuse).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from raftmq.errors import MessageTooLarge, OverflowDropped, QueueFull
from raftmq.ids import GroupId, LogIndex, Offset
from raftmq.metadata.depth import DepthLimit, Overflow
from raftmq.records.batch import PRIORITY_MAX, CheckedBatch
from raftmq.records.entry import ROW_BYTES
from raftmq.replica.retention import Extents

RETRY_AFTER_MS = 100
SPARE = 32
"""Where the oldest are dropped, a 32nd of the limit more goes than has to: a trim need not come with every batch."""
_SHARE_BASE, _SHARE_WHOLE = PRIORITY_MAX + 2, 2 * (PRIORITY_MAX + 1)
"""Priority p is taken up to (p + 11) / 20 of the limit."""
SAMPLED_UP_TO = 2
"""Samples are taken up to twice the limit."""


@dataclass(frozen=True, slots=True)
class Depth:
    records: int
    bytes: int
    """Of entries as they are stored. One that is partly read counts whole, and where many old ones are summed up as one
    extent (a 32nd of the log at most), so does that."""
    age_ms: int
    """Since the oldest of them was appended; 0 if there are none."""

    def with_batch(self, count: int, size: int) -> Depth:
        return Depth(self.records + count, self.bytes + size, self.age_ms)

    def beyond(self, limit: DepthLimit, part: int = 1, whole: int = 1) -> tuple[str, int, int] | None:
        """(measure, depth, limit) where the depth is more than `part` / `whole` of `limit`; None: it is not."""
        for measure, depth, most in (
            ("records", self.records, limit.max_records),
            ("bytes", self.bytes, limit.max_bytes),
            ("age_ms", self.age_ms, limit.max_age_ms),
        ):
            if most and depth * whole > most * part:
                return measure, depth, most
        return None


def measured(extents: Extents, low: Offset, end: Offset, in_flight: int, wall_ms: int) -> Depth:
    """The depth from `low` to `end`; `in_flight`: bytes that are appended and not in `extents` yet."""
    size = extents.size
    for extent in extents:
        if extent.next_offset > low:
            return Depth(end - low, size + in_flight, max(0, wall_ms - extent.first_wall_ms))
        size -= extent.size
    return Depth(end - low, size + in_flight, 0)


def start_that_fits(
    limit: DepthLimit, extents: Extents, low: Offset, end: Offset, in_flight: int, wall_ms: int
) -> Offset:
    """The log start from which on what there is, `in_flight` and the batch that wants in, is within `limit`, with a
    little to spare. `end`: after that batch."""
    start = low
    if limit.max_records:
        start = max(start, Offset(end - limit.max_records + limit.max_records // SPARE))
    left, most = extents.size + in_flight, limit.max_bytes - limit.max_bytes // SPARE
    for extent in extents:
        too_old = limit.max_age_ms > 0 and wall_ms - extent.first_wall_ms > limit.max_age_ms
        too_much = limit.max_bytes > 0 and left > most
        if extent.next_offset > start and not (too_old or too_much):
            break
        left -= extent.size
        start = max(start, extent.next_offset)
    else:
        start = end if 0 < limit.max_bytes < left else start
    return start


class Overflows:
    """What became of records that there was no room for, over all partitions of this node, since it started."""

    def __init__(self, tell: Callable[[GroupId, Overflow, str, int], None] = lambda *_: None) -> None:
        self.refused: Counter[tuple[GroupId, Overflow]] = Counter()
        """Records that were told QUEUE_FULL, once for each attempt."""
        self.dropped: Counter[tuple[GroupId, Overflow]] = Counter()
        """Records that were told OVERFLOW_DROPPED, or were removed to make room."""
        self._tell = tell

    def refuse(self, group: GroupId, overflow: Overflow, records: int) -> None:
        self.refused[group, overflow] += records
        self._tell(group, overflow, "refused", records)

    def drop(self, group: GroupId, overflow: Overflow, records: int) -> None:
        self.dropped[group, overflow] += records
        self._tell(group, overflow, "dropped", records)

    def forget(self, group: GroupId) -> None:
        """The group is gone for good."""
        for counter in (self.refused, self.dropped):
            for key in [key for key in counter if key[0] == group]:
                del counter[key]


@dataclass(frozen=True, slots=True)
class Room:
    """What a batch is judged by, beside the log."""

    limit: DepthLimit
    low: Offset | None
    """Where the slowest group is (``Backlog.lowest_unconsumed``)."""
    overflows: Overflows
    kept_from: Offset | None = None
    """Records from here on may not be dropped (``Backlog.kept_from``)."""
    is_known: bool = True
    """`low` speaks for all groups. Otherwise nothing is dropped: who sends again may find room."""


class Gate:
    """Admission by depth, of one term of leading one partition."""

    def __init__(self, group: GroupId) -> None:
        self._group = group
        self._in_flight: deque[tuple[LogIndex, int]] = deque()
        self._in_flight_bytes = 0
        self._start = Offset(0)
        """The latest start that a trim of this term brings; it is ahead of those that are applied."""
        self._turn = 0

    def appended(self, index: LogIndex, batch: CheckedBatch) -> None:
        """`batch` was admitted, and is in the log."""
        self._in_flight.append((index, _stored(batch)))
        self._in_flight_bytes += _stored(batch)

    def admit(
        self,
        batch: CheckedBatch,
        room: Room,
        extents: Extents,
        log_start: Offset,
        end: Offset,
        applied: LogIndex,
        wall_ms: int,
    ) -> Offset | None:
        """Let `batch` pass; the start that the log must be trimmed to before, or None. `end`: of the log without it.

        Raises QueueFull, OverflowDropped, or MessageTooLarge where it would not even fit an empty partition.
        """
        limit = room.limit
        while self._in_flight and self._in_flight[0][0] <= applied:
            self._in_flight_bytes -= self._in_flight.popleft()[1]
        low = min(end, max(log_start, self._start, room.low or Offset(0)))
        size = _stored(batch)
        alone = Depth(batch.count, size, 0).beyond(limit)
        if alone is not None:
            raise MessageTooLarge(
                f"the batch has {alone[1]} {alone[0]}, the topic allows a partition {alone[2]}", field="batch"
            )
        depth = measured(extents, low, end, self._in_flight_bytes, wall_ms).with_batch(batch.count, size)
        if limit.overflow is Overflow.DROP_LOWEST_PRIORITY:
            self._by_priority(batch, room, depth)
        elif (full := depth.beyond(limit)) is None:
            return None
        elif not room.is_known:
            raise self._full(batch, room, full)
        elif limit.overflow is Overflow.DROP_OLDEST:
            after, in_flight = Offset(end + batch.count), self._in_flight_bytes + size
            start = min(end, start_that_fits(limit, extents, low, after, in_flight, wall_ms))
            if room.kept_from is not None and start > max(room.kept_from, log_start):
                raise self._full(batch, room, full)  # the oldest may not go
            room.overflows.drop(self._group, limit.overflow, start - low)
            self._start = start
            return start
        elif limit.overflow is Overflow.SAMPLE and depth.beyond(limit, SAMPLED_UP_TO) is None:
            self._sample(batch, room, full)
        else:
            raise self._full(batch, room, full)
        return None

    def _sample(self, batch: CheckedBatch, room: Room, full: tuple[str, int, int]) -> None:
        self._turn += 1
        if self._turn % room.limit.sample_one_in:
            raise self._dropped(batch, room, full, f"of {room.limit.sample_one_in} batches one is taken")

    def _by_priority(self, batch: CheckedBatch, room: Room, depth: Depth) -> None:
        full = depth.beyond(room.limit, batch.priority + _SHARE_BASE, _SHARE_WHOLE)
        if full is None:
            return
        if batch.priority == PRIORITY_MAX or not room.is_known:
            raise self._full(batch, room, full)
        raise self._dropped(batch, room, full, f"priority {batch.priority} is too low")

    def _full(self, batch: CheckedBatch, room: Room, full: tuple[str, int, int]) -> QueueFull:
        room.overflows.refuse(self._group, room.limit.overflow, batch.count)
        measure, depth, limit = full
        return QueueFull(
            f"with this batch the partition would have {depth} {measure}, its topic allows {limit}",
            retry_after_ms=RETRY_AFTER_MS,
            metadata=_described(room, full),
        )

    def _dropped(self, batch: CheckedBatch, room: Room, full: tuple[str, int, int], why: str) -> OverflowDropped:
        room.overflows.drop(self._group, room.limit.overflow, batch.count)
        measure, depth, limit = full
        return OverflowDropped(
            f"dropped, as the topic wants it: {why} where a partition has {depth} {measure} of {limit}",
            metadata=_described(room, full),
        )


def _stored(batch: CheckedBatch) -> int:
    """What it takes in the log."""
    return batch.size + ROW_BYTES


def _described(room: Room, full: tuple[str, int, int]) -> dict[str, str]:
    measure, depth, limit = full
    return {"measure": measure, "depth": str(depth), "limit": str(limit), "overflow": room.limit.overflow.name}
