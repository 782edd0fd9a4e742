"""MemoryStore: the conformance suite, and what it loses when it is told to."""

from __future__ import annotations

from random import Random

import pytest

from raftmq.ids import Generation, GroupId, LogIndex, StoreId, Term
from raftmq.ports import PutNode, StorageError, StorageRefused, StorageStalled, Store
from raftmq.storage.memory import MemoryStore
from tests.storage.build import GENERATION, NODE, LogBuilder, mixed_log, put, put_row
from tests.storage.conformance import Harness, StoreConformance, read_all


class _MemoryHarness:
    def __init__(self) -> None:
        self._memory = MemoryStore(node=NODE, store_id=StoreId(77))
        self.store: Store = self._memory

    def restart(self) -> Store:
        self._memory.close()
        return self._reopen()

    def kill(self) -> Store:
        self._memory.kill()
        return self._reopen()

    def _reopen(self) -> Store:
        self._memory = self._memory.reopen()
        self.store = self._memory
        return self.store


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def harness(self) -> Harness:
        return _MemoryHarness()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(node=NODE, store_id=StoreId(77))


def append(store: MemoryStore, log: LogBuilder) -> None:
    store.write([put([log.data()])])


def test_a_power_cut_loses_what_was_not_synced(store: MemoryStore) -> None:
    log = mixed_log(5)
    store.write([put(log.entries), put_row(term=3)])
    store.sync()
    synced = list(log.entries)
    append(store, log)
    store.write([put_row(term=4)])
    store.crash()
    again = store.reopen()
    assert read_all(again) == synced
    assert [r.hard_state.term for r in again.replicas()] == [3]
    assert not again.identity.suspect


def test_a_power_cut_may_leave_any_prefix_of_unsynced_batches() -> None:
    found = set()
    for seed in range(40):
        store = MemoryStore(node=NODE, store_id=StoreId(77))
        log = LogBuilder()
        append(store, log)
        store.sync()
        for _ in range(3):
            append(store, log)
        store.crash(Random(seed))
        entries = read_all(store.reopen())
        assert entries == log.entries[: len(entries)]
        found.add(len(entries))
    assert found == {1, 2, 3, 4}


def test_the_same_seed_loses_the_same() -> None:
    def lengths() -> list[int]:
        rng = Random(5)
        store = MemoryStore(node=NODE, store_id=StoreId(77))
        log = LogBuilder()
        result = []
        for _ in range(30):
            append(store, log)
            append(store, log)
            store.crash(rng)
            store = store.reopen()
            result.append(len(read_all(store)))
            log.cut(result[-1] + 1)
        return result

    assert lengths() == lengths()


def test_more_syncs_than_are_kept_change_nothing(store: MemoryStore) -> None:
    log = LogBuilder()
    for _ in range(200):
        append(store, log)
        store.sync()
    store.crash()
    assert read_all(store.reopen()) == log.entries


def test_losing_synced_batches_makes_the_disk_suspect(store: MemoryStore) -> None:
    log = LogBuilder()
    store.write([put_row(term=3)])
    for term in (3, 5, 8):
        store.write([put_row(term=term), put([log.data(term=term)])])
        store.sync()
    store.crash(lose_synced=2)
    again = store.reopen()
    assert again.identity.suspect
    assert again.suspect_reason is not None
    (row,) = again.replicas()
    assert row.suspect
    assert (row.hard_state.term, row.hard_state.vote) == (9, None)
    assert again.identity.lost is not None
    assert (again.identity.lost.group, again.identity.lost.term) == (5, 9)
    again.crash()
    later = again.reopen()
    assert not later.identity.suspect
    assert later.identity.lost == again.identity.lost
    assert later.replicas() == [row]


def test_a_loss_inside_the_last_round_is_not_noticed_until_the_marker_is_settled(store: MemoryStore) -> None:
    log = LogBuilder()
    for settled in (False, True):
        append(store, log)
        store.sync()
        if settled:
            store.settle()
        store.crash(lose_synced=1)
        store = store.reopen()
        assert store.identity.suspect is settled
        log.cut(len(read_all(store)) + 1)


def test_a_lost_boot_is_counted_all_the_same(store: MemoryStore) -> None:
    store.close()
    second = store.reopen()
    second.crash(lose_synced=64)
    third = second.reopen()
    assert third.identity.suspect
    assert third.identity.boot_count == 3


def test_the_ceilings_cover_the_round_that_was_lost(store: MemoryStore) -> None:
    """The vote of the very last sync may have been answered: the raised term must be above it."""
    store.write([put_row(term=3)])
    store.sync()
    store.write([put_row(group=9, generation=8, term=12)])
    store.sync()
    store.crash(lose_synced=2)
    again = store.reopen()
    assert again.identity.lost is not None
    assert again.identity.lost.term > 12
    assert again.identity.lost.group == 9


def test_the_ceilings_of_the_first_round_are_durable_with_it(store: MemoryStore) -> None:
    store.write([put_row(term=12)])
    store.sync()
    store.crash(lose_synced=2)
    lost = store.reopen().identity.lost
    assert lost is not None
    assert (lost.group, lost.term) == (5, 13)


def test_a_stalled_write_applies_nothing(store: MemoryStore) -> None:
    log = mixed_log(3)
    store.stall_next_write()
    with pytest.raises(StorageStalled):
        store.write([put(log.entries)])
    assert read_all(store) == []
    store.write([put(log.entries)])
    assert read_all(store) == log.entries


def test_a_failed_write_is_final(store: MemoryStore) -> None:
    store.fail_next_write()
    with pytest.raises(StorageError):
        store.write([put(mixed_log(3).entries)])
    with pytest.raises(StorageError):
        store.sync()
    with pytest.raises(StorageError):
        store.replicas()
    store.crash()
    assert read_all(store.reopen()) == []


def test_a_failed_sync_is_final_and_promises_nothing(store: MemoryStore) -> None:
    store.write([put(mixed_log(3).entries)])
    store.fail_next_sync()
    with pytest.raises(StorageError):
        store.sync()
    with pytest.raises(StorageError):
        store.write([])
    store.crash()
    assert read_all(store.reopen()) == []


def test_a_disk_in_use_cannot_be_opened_again(store: MemoryStore) -> None:
    with pytest.raises(StorageRefused):
        store.reopen()


def test_numbers_of_the_loss_are_typed(store: MemoryStore) -> None:
    store.write([put_row(group=2, generation=3, term=4)])
    store.sync()
    store.settle()
    store.crash(lose_synced=1)
    lost = store.reopen().identity.lost
    assert lost is not None
    assert (lost.group, lost.term) == (GroupId(2), Term(5))
    assert list(store.reopen().scan_headers(Generation(GENERATION), LogIndex(1))) == []


def test_a_loss_is_noticed_from_one_batch_behind_the_marker_on() -> None:
    for lost_behind in (0, 1):
        store = MemoryStore(node=NODE, store_id=StoreId(7))
        for number in range(5):
            store.write([PutNode(f"row {number}", b"x")])
            store.sync()
        assert store.unmarked == 1, "the last sync's marker becomes durable with the next"
        assert store.losable >= 5
        store.crash(lose_synced=store.unmarked + lost_behind)
        assert store.reopen().identity.suspect is bool(lost_behind)
