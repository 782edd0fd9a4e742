"""The decision what may go, from extents alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.ids import LogIndex, Offset, Term
from raftmq.partition.commands import TrimCommand
from raftmq.raft.types import EntryKind
from raftmq.records.entry import CHAIN_START, LogEntry, decode, seal
from raftmq.replica.retention import EXTENTS_MAX, RECLAIM_BYTES, Extents, Retention, plan_trim

EVERYTHING = 2**62


def log(*batches: tuple[int, int], first: int = 1) -> list[LogEntry]:
    """One record of so many bytes at such an instant, each a batch; -1 bytes: an entry without records."""
    entries: list[LogEntry] = []
    for index, (size, wall_ms) in enumerate(batches, first):
        entries.append(
            seal(
                previous_chain=entries[-1].chain if entries else CHAIN_START,
                index=LogIndex(index),
                term=Term(1),
                kind=EntryKind.NOOP if size < 0 else EntryKind.DATA,
                version=1,
                base_offset=entries[-1].next_offset if entries else Offset(0),
                count=0 if size < 0 else 1,
                log_tick=wall_ms,
                wall_ms=wall_ms,
                inline=b"",
                payload=bytes(max(0, size)),
                payload_crc=0,
            )
        )
    return entries


def extents_of(entries: list[LogEntry]) -> Extents:
    extents = Extents()
    for entry in entries:
        extents.add(entry)
    return extents


def plan(
    entries: list[LogEntry],
    retention: Retention,
    *,
    now: int = 0,
    log_start: int = 0,
    raft_start: int = 1,
    needed_from: int = EVERYTHING,
    held: int = EVERYTHING,
) -> TrimCommand | None:
    return plan_trim(
        extents_of(entries),
        retention,
        log_start=Offset(log_start),
        raft_start=LogIndex(raft_start),
        wall_ms=now,
        needed_from=LogIndex(needed_from),
        held_bytes_max=held,
    )


FIVE = log(*[(1000, 1000 * second) for second in range(5)])
"""Offsets 0 to 4 at log indexes 1 to 5, appended at 0 s to 4 s."""
ROW = FIVE[0].stored_bytes - 1000


def trim(log_start: int, raft_start: int) -> TrimCommand:
    return TrimCommand(Offset(log_start), LogIndex(raft_start))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (9_999, None),
        (10_000, trim(1, 2)),
        (11_999, trim(2, 3)),
        (13_000, trim(4, 5)),
        (14_000, trim(5, 6)),
    ],
)
def test_records_go_by_age_once_all_of_their_extent_is_as_old(now: int, expected: TrimCommand | None) -> None:
    assert plan(FIVE, Retention(age_ms=10_000), now=now) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [(5 * (1000 + ROW), None), (4 * (1000 + ROW), trim(1, 2)), (4 * (1000 + ROW) + 1, None), (1, trim(4, 5))],
)
def test_records_go_by_size_while_as_much_stays(size: int, expected: TrimCommand | None) -> None:
    assert plan(FIVE, Retention(size_bytes=size)) == expected


def test_either_limit_is_enough() -> None:
    assert plan(FIVE, Retention(10_000, 2 * (1000 + ROW)), now=10_000) == trim(3, 4)
    assert plan(FIVE, Retention(10_000, 2 * (1000 + ROW)), now=13_000) == trim(4, 5)


def test_without_limits_nothing_goes() -> None:
    assert not Retention()
    assert plan(FIVE, Retention(), now=10**15) is None


def test_entries_stay_for_a_replica_that_needs_them_but_are_not_read_any_more() -> None:
    assert plan(FIVE, Retention(age_ms=1), now=3_001, needed_from=3) == trim(4, 3)


@pytest.mark.parametrize(("held", "raft_start"), [(2 * (1000 + ROW), 3), (2 * (1000 + ROW) - 1, 4), (0, 5)])
def test_entries_stay_for_a_replica_up_to_a_limit(held: int, raft_start: int) -> None:
    assert plan(FIVE, Retention(age_ms=1), now=3_001, needed_from=3, held=held) == trim(4, raft_start)


def test_what_is_trimmed_already_is_not_proposed_again() -> None:
    assert plan(FIVE, Retention(age_ms=1), now=3_001, log_start=4) is None


def test_entries_that_only_a_replica_held_go_when_they_are_worth_a_command() -> None:
    large = log(*[(RECLAIM_BYTES // 4, 0)] * 4)
    assert plan(large, Retention(age_ms=1), now=10, log_start=4) == trim(4, 5)
    assert plan(large[:3], Retention(age_ms=1), now=10, log_start=3) is None


def test_what_trims_leave_in_the_log_does_not_lead_to_trims() -> None:
    """An idle partition whose records are all gone would otherwise trim its last trim for ever."""
    entries = log((100, 0), (-1, 0))
    assert plan(entries, Retention(age_ms=1), now=10) == trim(1, 3)
    assert plan(entries, Retention(age_ms=1), now=20, log_start=1, raft_start=2) is None


def test_extents_are_the_same_from_headers() -> None:
    read = [decode(entry.row, None) for entry in FIVE]
    assert list(extents_of(read)) == list(extents_of(FIVE))


def test_extents_of_entries_that_are_gone_are_dropped() -> None:
    extents = extents_of(FIVE)
    extents.drop_below(LogIndex(4))
    assert [extent.first_index for extent in extents] == [4, 5]
    assert extents.size == 2 * (1000 + ROW)


batches = st.lists(st.tuples(st.integers(-1, 3000), st.integers(0, 5000)), min_size=1, max_size=700)


@settings(max_examples=60, deadline=None)
@given(batches, st.integers(0, 60_000), st.integers(0, 300_000), st.integers(1, 800), st.integers(0, 100_000))
def test_nothing_goes_that_must_stay(
    drawn: list[tuple[int, int]], age_ms: int, size_bytes: int, needed_from: int, held: int
) -> None:
    wall_ms, timed = 0, []
    for size, pause in drawn:
        wall_ms += pause if pause < 500 else 0
        timed.append((size, wall_ms))
    entries = log(*timed)
    command = plan(entries, Retention(age_ms, size_bytes), now=wall_ms, needed_from=needed_from, held=held)
    if command is None:
        return
    assert command.raft_start <= len(entries) + 1
    gone = [entry for entry in entries if entry.next_offset <= command.log_start_offset]
    assert gone == [entry for entry in entries if entry.base_offset < command.log_start_offset or entry in gone], (
        "whole"
    )
    # Entries without records between two batches belong to either; the newest batch that went is what matters.
    last = max(entry.index for entry in entries if entry.base_offset < command.log_start_offset)
    behind = sum(entry.stored_bytes for entry in entries if entry.index > last)
    too_old = age_ms > 0 and entries[last - 1].wall_ms <= wall_ms - age_ms
    assert too_old or (size_bytes > 0 and behind >= size_bytes)
    for entry in entries:
        assert entry.index >= command.raft_start or entry.next_offset <= command.log_start_offset, "readable"
    kept = sum(e.stored_bytes for e in entries if needed_from <= e.index <= last)
    assert command.raft_start <= needed_from or kept > held, "a replica that is waited for can have what it needs"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)), min_size=300, max_size=1500))
def test_extents_are_few_and_each_is_a_small_part_of_the_log(drawn: list[tuple[int, int]]) -> None:
    walls = sorted(wall for _, wall in drawn)
    entries = log(*[(size, wall) for (size, _), wall in zip(drawn, walls, strict=True)])
    extents = Extents()
    for entry in entries:
        extents.add(entry)
        assert len(extents) <= EXTENTS_MAX
    assert extents.size == sum(entry.stored_bytes for entry in entries)
    first = [extent.first_index for extent in extents]
    assert first[0] == 1
    assert first[1:] == [extent.last_index + 1 for extent in extents][:-1]
    largest = max(entry.stored_bytes for entry in entries)
    for extent in extents:
        assert extent.size <= max(largest, extents.size / 32)
        assert extent.last_wall_ms - extent.first_wall_ms <= (walls[-1] - walls[0]) / 32
