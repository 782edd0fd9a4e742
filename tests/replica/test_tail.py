"""The newest entries in memory."""

from collections.abc import Sequence

import pytest

from raftmq.ids import GroupId, LogIndex, Offset, Term
from raftmq.raft.types import EntryKind
from raftmq.records.entry import CHAIN_START, LogEntry, seal
from raftmq.replica.tail import Tail, TailBudget


def entries(*counts: int, first: int = 1, walls: Sequence[int] = ()) -> list[LogEntry]:
    """Entries with so many records each; 0 makes a no-op. `walls`: their stamps."""
    made: list[LogEntry] = []
    chain, offset = CHAIN_START, Offset(0)
    for position, count in enumerate(counts):
        kind = EntryKind.DATA if count else EntryKind.NOOP
        made.append(
            seal(
                previous_chain=chain,
                index=LogIndex(first + position),
                term=Term(1),
                kind=kind,
                version=1,
                base_offset=offset,
                count=count,
                log_tick=0,
                wall_ms=walls[position] if walls else 0,
                inline=b"",
                payload=b"x" * 100 * count,
            )
        )
        chain, offset = made[-1].chain, made[-1].next_offset
    return made


def filled(*counts: int) -> Tail:
    tail = Tail(LogIndex(1))
    tail.append(entries(*counts))
    return tail


def test_range_gives_at_least_one_entry_and_then_keeps_to_the_budget() -> None:
    tail = filled(1, 1, 1, 1)
    size = entries(1)[0].size
    assert [e.index for e in tail.range(LogIndex(2), LogIndex(4), 1)] == [2]
    assert [e.index for e in tail.range(LogIndex(2), LogIndex(4), 2 * size)] == [2, 3]
    assert [e.index for e in tail.range(LogIndex(2), LogIndex(9), 1 << 20)] == [2, 3, 4]
    assert tail.range(LogIndex(5), LogIndex(9), 1 << 20) == ()


def test_batches_start_with_the_one_that_holds_the_offset_and_skip_what_has_no_records() -> None:
    tail = filled(0, 3, 0, 2, 4)
    found = tail.batches(Offset(2), Offset(9), 1 << 20)
    assert found is not None
    assert [(e.base_offset, e.count) for e in found] == [(0, 3), (3, 2), (5, 4)]
    found = tail.batches(Offset(3), Offset(5), 1 << 20)
    assert found is not None
    assert [e.base_offset for e in found] == [3]


@pytest.mark.parametrize("wall_ms, found", [(0, None), (100, None), (101, 3), (200, 3), (201, 3), (300, 3), (301, 5)])
def test_a_time_leads_to_what_was_appended_then_or_later_if_it_is_surely_here(wall_ms: int, found: int | None) -> None:
    """At the first entry's time and before it, there may be others that have left the tail."""
    tail = Tail(LogIndex(1))
    tail.append(entries(3, 0, 2, walls=(100, 200, 300)))
    assert tail.offset_at(wall_ms) == found
    assert tail.first_offset == 0


def test_an_empty_tail_knows_no_time() -> None:
    tail = Tail(LogIndex(1))
    assert (tail.offset_at(0), tail.first_offset) == (None, None)


def test_batches_below_the_tail_are_not_guessed() -> None:
    tail = filled(3, 3, 3)
    tail.evict(0, LogIndex(1))
    assert tail.first_index == 2
    assert tail.batches(Offset(2), Offset(9), 1 << 20) is None
    assert tail.batches(Offset(3), Offset(9), 1 << 20) is not None


def test_eviction_stops_at_the_limit_and_keeps_the_byte_count() -> None:
    tail = filled(1, 1, 1)
    tail.evict(0, LogIndex(2))
    assert tail.first_index == 3
    assert tail.bytes == entries(1)[0].size


@pytest.mark.parametrize("index", [1, 2, 4])
def test_truncation_forgets_the_suffix(index: int) -> None:
    tail = filled(1, 1, 1)
    tail.truncate_from(LogIndex(index))
    assert tail.get(LogIndex(index)) is None
    assert tail.bytes == (index - 1) * entries(1)[0].size
    tail.append(entries(*[1] * 5)[index - 1 :])
    assert tail.get(LogIndex(5)) is not None


def test_a_gap_is_refused() -> None:
    tail = filled(1)
    with pytest.raises(AssertionError):
        tail.append(entries(1, first=3))


class Held:
    """A group with a tail, the last entries of which must stay."""

    def __init__(self, number: int, count: int, kept: int = 0) -> None:
        self.id = GroupId(number)
        self.tail = Tail(LogIndex(1))
        self._limit = LogIndex(count - kept)
        self.tail.append(entries(*[1] * count))

    def trim_tail(self, budget: int) -> None:
        self.tail.evict(budget, self._limit)


SIZE = entries(1)[0].size


def test_a_group_that_is_alone_may_hold_all_that_there_is() -> None:
    budget, group = TailBudget(10 * SIZE), Held(1, 10)
    budget.used(group)
    assert group.tail.bytes == budget.total == 10 * SIZE


def test_the_longest_idle_gives_first_and_no_more_than_is_needed() -> None:
    budget = TailBudget(10 * SIZE)
    idle, middle, busy = Held(1, 4), Held(2, 4), Held(3, 4)
    for group in (idle, middle, busy):
        budget.used(group)
    assert [group.tail.bytes // SIZE for group in (idle, middle, busy)] == [2, 4, 4]
    budget.used(idle)
    late = Held(4, 5)
    budget.used(late)
    assert [group.tail.bytes // SIZE for group in (idle, middle, busy, late)] == [2, 0, 3, 5]
    assert budget.total == 10 * SIZE


def test_what_has_to_stay_stays_and_others_give_in_its_place() -> None:
    budget = TailBudget(4 * SIZE)
    stuck, free, busy = Held(1, 3, kept=3), Held(2, 3), Held(3, 3, kept=3)
    for group in (stuck, free, busy):
        budget.used(group)
    assert [group.tail.bytes // SIZE for group in (stuck, free, busy)] == [3, 0, 3]
    assert budget.total == 6 * SIZE


def test_a_group_that_is_gone_counts_no_more() -> None:
    budget = TailBudget(4 * SIZE)
    budget.used(Held(1, 4))
    budget.forget(GroupId(1))
    budget.forget(GroupId(1))
    assert budget.total == 0
