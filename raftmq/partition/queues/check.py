"""What must hold of a queue group at any time; and of what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.partition.queues.group import Now, QueueGroup
from raftmq.partition.queues.offset_set import OffsetSet
from raftmq.partition.queues.tally import Counter


@dataclass(frozen=True, slots=True)
class Depth:
    """Where the records of a group are. ``closed`` and the others but ``held`` add up to `frontier` - `start`."""

    start: int
    frontier: int
    floor: int
    """Everything below is final."""
    closed: int
    ready: int
    waiting: int
    """Behind another record of their key."""
    leased: int
    delayed: int
    parked: int
    routed: int
    """Parked, and in a topic of dead letters too."""
    leases: int
    counters: dict[Counter, int]


def depth(group: QueueGroup) -> Depth:
    """The numbers of a group; cheap."""
    return Depth(
        group.start,
        group.frontier,
        group.floor,
        group.closed,
        group.ready,
        len(group.waiting),
        group.leases.outstanding,
        len(group.delayed),
        len(group.parked.offsets),
        len(group.parked.routed),
        len(group.leases),
        {counter: group.counters[counter] for counter in Counter},
    )


def check(group: QueueGroup, now: Now) -> None:
    """Every open record is in exactly one place, all numbers add up, and each place is the one that follows from
    what is stored. Raises AssertionError. Costs as much as there are open records: for tests and simulation."""
    _check_places(group)
    check_numbers(group)
    _check_index(group, now)


def check_numbers(group: QueueGroup) -> None:
    """What is cheap of it. Raises AssertionError."""
    counted = depth(group)
    opened = counted.ready + counted.waiting + counted.leased + counted.delayed + counted.parked
    assert opened == len(group.open), f"{opened} records are in a place, {len(group.open)} are open"
    assert counted.closed + opened == counted.frontier - counted.start, f"the numbers do not add up: {counted}"


def _check_places(group: QueueGroup) -> None:
    places = {
        "ready": list(group.dispatch.ready),
        "waiting": list(group.waiting),
        "delayed": list(group.delayed),
        "parked": list(group.parked.offsets),
        "leased": [offset for _, lease in group.leases for offset in lease.open_offsets()],
    }
    where: dict[int, str] = {}
    for place, offsets in places.items():
        for offset in offsets:
            assert offset not in where, f"offset {offset} is {place} and {where[offset]}"
            where[offset] = place
    for offset in group.open:
        assert group.start <= offset < group.frontier, f"offset {offset} was never introduced"
        assert where.pop(offset, None), f"offset {offset} is open and nowhere"
    assert all(offset in group.parked.offsets for offset in group.parked.routed), "routed, and not parked"
    assert not where, f"closed records are somewhere: {sorted(where.items())[:5]}"


def _check_index(group: QueueGroup, now: Now) -> None:
    """Find all places anew, and compare."""
    before: list[OffsetSet] = [group.dispatch.ready, group.waiting, group.delayed]
    kept = (group.dispatch, group.waiting, group.delayed, group.lines, group.due_ticks, group.due_walls, group.expiries)
    times = (group.next_tick(), group.next_wall())
    group.reindex(now)
    after: list[OffsetSet] = [group.dispatch.ready, group.waiting, group.delayed]
    times_after = (group.next_tick(), group.next_wall())
    (
        group.dispatch, group.waiting, group.delayed, group.lines, group.due_ticks, group.due_walls, group.expiries,
    ) = kept  # fmt: skip
    for name, was, found in zip(("ready", "waiting", "delayed"), before, after, strict=True):
        assert was == found, f"{name} is {list(was)[:9]}, what is stored says {list(found)[:9]}"
    assert times == times_after, f"the next change is at {times}, what is stored says {times_after}"
