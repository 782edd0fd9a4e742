"""The time index: one row for each second in which data was appended, and never one for data that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftmq.storage.keys import Family, generation_range, pair_key, pair_number, value_number
from raftmq.storage.rocks import RocksStore
from tests.storage.build import GENERATION, NODE, LogBuilder, drop, put
from tests.storage.test_rocks_store import abandon


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(path: Path) -> Iterator[RocksStore]:
    store = RocksStore(path, node=NODE)
    yield store
    store.close()


def rows(store: RocksStore) -> list[tuple[int, int]]:
    with store._database.scan(Family.TIMES, *generation_range(GENERATION)) as cursor:
        return [(pair_number(key, GENERATION), value_number(value)) for key, value in cursor]


def expected(log: LogBuilder) -> list[tuple[int, int]]:
    """By the definition: each second's first offset."""
    first: dict[int, int] = {}
    for entry in log.entries:
        if entry.count:
            first.setdefault(entry.wall_ms // 1000, entry.base_offset)
    return sorted(first.items())


def timed(*walls: int) -> LogBuilder:
    log = LogBuilder()
    log.noop()
    for wall_ms in walls:
        log.data(wall_ms=wall_ms)
    return log


def test_a_row_for_each_new_second(store: RocksStore) -> None:
    log = timed(5000, 5400, 5999, 6000, 9000, 9001)
    store.write([put(log.entries[:3])])
    store.write([put(log.entries[3:])])
    assert rows(store) == expected(log) == [(5, 0), (6, 9), (9, 12)]


@pytest.mark.parametrize("index", range(1, 9))
@pytest.mark.parametrize("again", [5000, 5999, 6500, 9000, 12_000])
def test_truncation_takes_the_rows_of_what_is_gone(store: RocksStore, index: int, again: int) -> None:
    log = timed(5000, 5400, 5999, 6000, 9000, 9001)
    store.write([put(log.entries)])
    store.write([log.cut(index)])
    assert rows(store) == expected(log)
    if not log.entries or again >= log.entries[-1].wall_ms:
        log.data(wall_ms=again)
        store.write([put(log.entries[-1:])])
        assert rows(store) == expected(log)


def test_append_truncate_and_append_in_one_batch(store: RocksStore) -> None:
    log = timed(5000, 6000)
    store.write([put(log.entries)])
    first = [log.data(wall_ms=7000), log.data(wall_ms=8000)]
    cut = log.cut(4)
    second = [log.data(wall_ms=8500)]
    deeper = log.cut(3)
    third = [log.data(wall_ms=5500), log.data(wall_ms=8700)]
    store.write([put(first), cut, put(second), deeper, put(third)])
    assert rows(store) == expected(log) == [(5, 0), (8, 6)]


def test_the_newest_second_is_known_after_a_restart(path: Path) -> None:
    store = RocksStore(path, node=NODE)
    log = timed(5000)
    store.write([put(log.entries)])
    store.sync()
    abandon(store)
    store = RocksStore(path, node=NODE)
    log.data(wall_ms=5500)
    log.data(wall_ms=6500)
    store.write([put(log.entries[2:])])
    assert rows(store) == expected(log) == [(5, 0), (6, 6)]
    store.close()


def test_a_dropped_replica_has_no_times(store: RocksStore) -> None:
    log = timed(5000, 6000)
    store.write([put(log.entries)])
    store.write([drop(), put(log.entries[:2])])
    assert rows(store) == [(5, 0)]


def test_records_of_a_second_whose_row_was_trimmed_are_found(store: RocksStore) -> None:
    """A trim inside a second takes the second's row along with the batch that it names, and leaves later batches."""
    log = timed(5000, 5400, 5999, 6000, 9000)
    store.write([put(log.entries)])
    batch = store._database.batch()
    batch.delete_range(Family.TIMES, pair_key(GENERATION, 5), pair_key(GENERATION, 6))
    batch.delete_range(Family.OFFSETS, pair_key(GENERATION, 0), pair_key(GENERATION, 3))
    store._database.write(batch)
    assert [store.offset_at(GENERATION, at) for at in (0, 5400, 5500, 6000, 6001, 9001)] == [3, 3, 6, 9, 12, None]


@pytest.mark.parametrize("kept_from", range(1, 9))
def test_a_look_up_after_a_trim_finds_what_it_found_before_clipped_to_the_start(
    store: RocksStore, kept_from: int
) -> None:
    log = timed(5000, 5400, 5999, 6000, 9000, 9001, 12_000)
    store.write([put(log.entries)])
    instants = [at for second in range(4, 14) for at in (1000 * second, 1000 * second + 1, 1000 * second + 400)]
    before = [store.offset_at(GENERATION, at) for at in instants]
    store.write([log.trimmed(kept_from)])
    start = log.start(kept_from).offset
    after = [store.offset_at(GENERATION, at) for at in instants]
    assert after == [None if offset is None or start == log.next_offset else max(offset, start) for offset in before]
