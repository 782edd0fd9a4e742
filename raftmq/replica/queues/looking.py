"""Looking at what a group has in a partition, without changing anything; and choosing among its parked records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from heapq import merge
from itertools import islice

from raftmq.partition.queues.group import QueueGroup
from raftmq.partition.queues.leases import Lease
from raftmq.partition.queues.offset_set import OffsetSet
from raftmq.v1 import types_pb2


class Place(Enum):
    """Where a record may be."""

    READY = "ready"
    """Waiting for its turn behind its key, too."""
    LEASED = "leased"
    DELAYED = "delayed"
    PARKED = "parked"


@dataclass(slots=True)
class Peeked:
    """A record, and what is known of it."""

    offset: int
    attempts: int
    failures: int
    redrives: int
    worker: str = ""
    remaining_ms: int | None = None
    """How long it stays there; None: time alone changes nothing."""
    reason: str = ""
    error: str = ""
    parked_ms: int = 0
    """Wall stamp; 0: it is not parked."""
    parked_tick: int = 0
    """Log tick: unlike the wall stamp it never stands still while there is a leader."""
    record: types_pb2.Record | None = None
    """None: it is not at hand. Never an empty one instead, which might be taken for what was sent."""
    append_time_ms: int = 0
    is_routed: bool = False
    """Parked, and in the group's topic of dead letters too."""


@dataclass(frozen=True, slots=True)
class ParkedFilter:
    """All of it must hold; what is empty, or None, holds for every parked record."""

    offsets: frozenset[int] = frozenset()
    reason: str = ""
    error_contains: str = ""
    after_ms: int | None = None
    before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How many records are redriven, and how fast."""

    most: int
    per_s: int = 0
    """0: all at once."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class RedriveCount:
    matched: int
    redriven: int
    looping: int
    """Left parked, because they have been redriven too often."""


def offsets_in(group: QueueGroup, place: Place, first: int, most: int) -> list[int]:
    """Up to `most` offsets in a place, from `first` on, ascending."""
    found: Iterator[int]
    match place:
        case Place.READY:
            found = merge(_from(group.dispatch.ready, first), _from(group.waiting, first))
        case Place.DELAYED:
            found = _from(group.delayed, first)
        case Place.PARKED:
            found = _from(group.parked.offsets, first)
        case Place.LEASED:
            leased = (offset for _, lease in group.leases for offset in lease.open_offsets())
            found = iter(sorted(offset for offset in leased if offset >= first))
    return list(islice(found, most))


def told(group: QueueGroup, place: Place, offsets: Sequence[int], now: tuple[int, int]) -> list[Peeked]:
    """What is known of records in their place; the records themselves are for the caller to read."""
    leased: dict[int, Lease] = {}
    if place is Place.LEASED:
        leased = {offset: lease for _, lease in group.leases for offset in lease.open_offsets()}
    return [_told(group, place, offset, now, leased.get(offset)) for offset in offsets]


def _told(group: QueueGroup, place: Place, offset: int, now: tuple[int, int], lease: Lease | None) -> Peeked:
    records = group.records
    peeked = Peeked(offset, records.handouts[offset], records.failures[offset], records.redrives[offset])
    if lease is not None:
        peeked.attempts += 1
        peeked.worker, peeked.remaining_ms = lease.worker, max(0, lease.deadline - now[0])
    elif place is Place.DELAYED:
        due = records.due[offset]
        peeked.remaining_ms = max(0, (due >> 1) - now[0 if due & 1 else 1])
    elif place is Place.PARKED:
        parked = group.parked.get(offset)
        if parked is not None:
            peeked.reason, peeked.error, peeked.parked_ms = parked.reason, parked.error, parked.wall_ms
            peeked.parked_tick = parked.log_tick
            peeked.is_routed = parked.is_routed
    return peeked


def parked(group: QueueGroup, wanted: ParkedFilter) -> list[int]:
    """Offsets of the parked records that `wanted` chooses, ascending."""
    return [offset for offset in group.parked.offsets if _is_wanted(group, offset, wanted)]


def _is_wanted(group: QueueGroup, offset: int, wanted: ParkedFilter) -> bool:
    if wanted.offsets and offset not in wanted.offsets:
        return False
    record = group.parked.get(offset)
    return (
        record is not None
        and wanted.reason in ("", record.reason)
        and wanted.error_contains in record.error
        and (wanted.after_ms is None or record.wall_ms >= wanted.after_ms)
        and (wanted.before_ms is None or record.wall_ms < wanted.before_ms)
    )


def _from(offsets: OffsetSet, first: int) -> Iterator[int]:
    for begin, after in offsets.runs(first):
        yield from range(max(begin, first), after)
