"""What the stores rely on in the binding and in RocksDB, one test each: a new version that changes it fails here.

Behaviour that was measured, and that the code works around, is tested as it is, not as it should be: when such a
test fails, the work-around in ``raftmq/storage/database.py`` may be taken out.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rocksdict import Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from raftmq.ids import LogIndex
from raftmq.ports import StorageError, StorageStalled
from raftmq.storage.database import Database
from raftmq.storage.keys import Family
from raftmq.storage.options import Tuning, write_options
from raftmq.storage.rocks import RocksStore
from tests.storage.build import EVERYTHING, GENERATION, NODE, LogBuilder, mixed_log, put
from tests.storage.conformance import read_all


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "db", Tuning(), create=True)
    yield database
    database.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Rdict]:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    bare = Rdict(str(tmp_path / "bare"), options)
    yield bare
    bare.close()


def fill(database: Database, family: Family, count: int, value: bytes = b"value") -> None:
    batch = database.batch()
    for at in range(count):
        batch.put(family, number(at), value)
    database.write(batch)


# -- writes ----------------------------------------------------------------------------------------------------------


def test_a_write_does_not_sync_by_default() -> None:
    assert WriteOptions().sync is False
    assert write_options().sync is False
    assert write_options().no_slowdown is True


def test_a_write_stall_is_an_error_and_applies_nothing(database: Database) -> None:
    table = database._tables[Family.STATE]
    # A stall for good: more table files than allowed, and a compaction that never starts.
    table.set_options({"level0_stop_writes_trigger": "2", "level0_file_num_compaction_trigger": "1000"})
    for at in range(2):
        batch = database.batch()
        batch.put(Family.STATE, number(at), b"before")
        database.write(batch)
        database.flush(Family.STATE)
    sequence = database.sequence
    batch = database.batch()
    batch.put(Family.LOG, number(7), b"other family")
    batch.put(Family.STATE, number(7), b"during")
    with pytest.raises(StorageStalled):
        database.write(batch)
    assert database.get(Family.LOG, number(7)) is None
    assert database.get(Family.STATE, number(7)) is None
    assert database.sequence == sequence
    database.sync()
    table.set_options({"level0_stop_writes_trigger": "1000"})
    batch = database.batch()
    batch.put(Family.STATE, number(7), b"after")
    database.write(batch)
    assert database.get(Family.STATE, number(7)) == b"after"


def test_a_batch_is_applied_in_order_with_its_range_deletions(database: Database) -> None:
    fill(database, Family.LOG, 10)
    batch = database.batch()
    batch.put(Family.LOG, number(20), b"gone")
    batch.delete_range(Family.LOG, number(5), number(30))
    batch.put(Family.LOG, number(6), b"new")
    database.write(batch)
    with database.scan(Family.LOG, number(4), number(99)) as cursor:
        assert list(cursor) == [(number(4), b"value"), (number(6), b"new")]


def test_an_inverted_delete_range_is_stopped_before_it_reaches_the_binding(database: Database) -> None:
    batch = database.batch()
    for begin, end in ((b"b", b"a"), (b"a", b"a")):
        with pytest.raises(AssertionError):
            batch.delete_range(Family.LOG, begin, end)
    database.write(batch)
    fill(database, Family.LOG, 1)


def test_an_inverted_delete_range_poisons_a_database(tmp_path: Path) -> None:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    bare = Rdict(str(tmp_path / "poisoned"), options)
    batch = WriteBatch(raw_mode=True)
    batch.delete_range(b"b", b"a")
    with pytest.raises(Exception, match="end key comes before start key"):
        bare.write(batch)
    with pytest.raises(Exception, match="end key comes before start key"):
        bare[b"c"] = b"innocent"
    with pytest.raises(Exception, match="end key comes before start key"):
        bare.close()


@pytest.mark.parametrize("wrap", [memoryview, bytearray])
def test_raw_mode_takes_bytes_only(wrap: type) -> None:
    batch = WriteBatch(raw_mode=True)
    with pytest.raises((ValueError, KeyError)):
        batch.put(wrap(b"key"), b"value")
    with pytest.raises((ValueError, KeyError)):
        batch.put(b"key", wrap(b"value"))


def test_the_sequence_number_counts_every_row_and_survives(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", Tuning(), create=True)
    assert database.sequence == 0
    fill(database, Family.LOG, 10)
    assert database.sequence == 10
    batch = database.batch()
    batch.delete_range(Family.LOG, number(0), number(5))
    database.write(batch)
    assert database.sequence == 11
    database.sync()
    database.close(flush=False)
    database = Database(tmp_path / "db", Tuning(), create=False)
    assert database.sequence == 11
    database.close()
    database = Database(tmp_path / "db", Tuning(), create=False)
    assert database.sequence == 11
    database.close()


# -- iterators -------------------------------------------------------------------------------------------------------


def test_the_upper_bound_is_exclusive_and_honoured_backwards(database: Database) -> None:
    fill(database, Family.LOG, 10)
    with database.scan(Family.LOG, number(3), number(6)) as cursor:
        assert [key for key, _ in cursor] == [number(3), number(4), number(5)]
    with database.scan(Family.LOG, number(3), number(6), backwards=True) as cursor:
        assert [key for key, _ in cursor] == [number(5), number(4), number(3)]


def test_a_cursor_keeps_its_bounds_alive(database: Database) -> None:
    """The binding copies neither the bytes of a bound nor the options: freed, they are read all the same."""
    fill(database, Family.LOG, 100)
    cursors = [database.cursor(Family.LOG, number(0), number(end)) for end in range(1, 100)]
    gc.collect()
    junk = [number(at * 7919) for at in range(10_000)]
    for end, cursor in enumerate(cursors, start=1):
        assert sum(1 for _ in cursor) == end
        database.release(cursor)
    assert len(junk) == 10_000


def test_a_key_outside_of_its_range_is_an_error(database: Database) -> None:
    """What a cursor would see if the bound it gave to the binding were not the bound that the binding uses."""
    fill(database, Family.LOG, 10)
    with database.scan(Family.LOG, number(0), number(9)) as cursor:
        cursor._end = number(3)
        assert [cursor.next() for _ in range(3)] == [(number(at), b"value") for at in range(3)]
        with pytest.raises(StorageError, match="came upon"):
            cursor.next()


def test_the_lower_bound_of_the_binding_is_an_upper_bound(bare: Rdict) -> None:
    for at in range(10):
        bare[number(at)] = b"value"
    options = ReadOptions()
    bound = number(3)
    options.set_iterate_lower_bound(bound)
    iterator = bare.iter(options)
    iterator.seek(number(3))
    assert not iterator.valid()
    iterator.seek(number(0))
    assert iterator.key() == number(0)


def test_an_open_iterator_is_a_snapshot(database: Database) -> None:
    fill(database, Family.LOG, 100)
    with database.scan(Family.LOG, number(0), number(200)) as cursor:
        batch = database.batch()
        batch.delete_range(Family.LOG, number(0), number(50))
        for at in range(50, 150):
            batch.put(Family.LOG, number(at), b"changed")
        database.write(batch)
        database.flush(Family.LOG)
        database._tables[Family.LOG].compact_range(None, None)
        assert list(cursor) == [(number(at), b"value") for at in range(100)]


def test_iterators_of_several_families_are_of_one_instant(database: Database) -> None:
    stop = threading.Event()
    key = number(1)

    def write() -> None:
        at = 0
        while not stop.is_set():
            batch = database.batch()
            batch.put(Family.LOG, key, number(at))
            batch.put(Family.PAYLOAD, key, number(at))
            database.write(batch)
            at += 1

    writer = threading.Thread(target=write)
    writer.start()
    limits = (number(0), number(9))
    seen: set[tuple[bytes, bytes] | None] = set()
    try:
        while len(seen) < 20:
            with database.scans(((Family.LOG, *limits), (Family.PAYLOAD, *limits))) as (rows, payloads):
                row, payload = rows.next(), payloads.next()
            assert row == payload
            seen.add(row)
    finally:
        stop.set()
        writer.join()


def test_an_iterator_may_be_used_by_another_thread_than_the_one_that_made_it(database: Database) -> None:
    fill(database, Family.LOG, 3)
    found: list[bytes] = []
    with database.scan(Family.LOG, number(0), number(9)) as cursor:
        thread = threading.Thread(target=lambda: found.extend(key for key, _ in cursor))
        thread.start()
        thread.join()
    assert found == [number(0), number(1), number(2)]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def test_a_scan_over_a_flipped_bit_in_a_table_ends_early_and_only_status_tells(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", Tuning(), create=True)
    for at in range(2000):
        batch = database.batch()
        batch.put(Family.LOG, number(at), b"%064d" % at)
        database.write(batch)
    database.flush(Family.LOG)
    database.close()
    table = max((tmp_path / "db").glob("*.sst"), key=lambda path: path.stat().st_size)
    flip(table, table.stat().st_size // 2)
    database = Database(tmp_path / "db", Tuning(), create=False)
    keys = list(database._tables[Family.LOG].keys())
    assert 0 < len(keys) < 2000
    with database.scan(Family.LOG, number(0), number(2000)) as cursor:
        for _ in keys:
            assert cursor.next() is not None
        with pytest.raises(StorageError, match="Corruption"):
            cursor.next()
    database.close(flush=False)


def test_a_flipped_bit_in_a_log_is_an_error_of_every_read_that_meets_it(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "data", node=NODE)
    log = LogBuilder()
    for _ in range(2000):
        log.data()
    store.write([put(log.entries)])
    store.close()
    table = max((tmp_path / "data" / "db").glob("*.sst"), key=lambda path: path.stat().st_size)
    flip(table, table.stat().st_size // 2)
    store = RocksStore(tmp_path / "data", node=NODE)
    with pytest.raises(StorageError):
        read_all(store)
    store.close()


def test_a_flipped_bit_in_a_blob_is_an_error(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "data", node=NODE)
    log = LogBuilder()
    for _ in range(20):
        log.data(payload=bytes(5000))
    store.write([put(log.entries)])
    store.close()
    (blob,) = (tmp_path / "data/db").glob("*.blob")
    flip(blob, blob.stat().st_size // 2)
    store = RocksStore(tmp_path / "data", node=NODE)
    assert len(list(store.scan_headers(GENERATION, LogIndex(1)))) == 20
    with pytest.raises(StorageError, match="Corruption"):
        store.read_entries(GENERATION, LogIndex(1), LogIndex(20), EVERYTHING)
    store.close()


# -- the end ---------------------------------------------------------------------------------------------------------


def test_close_lets_go_of_open_cursors_and_leaves_no_log_to_replay(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", Tuning(), create=True)
    for family in Family:
        fill(database, family, 100, bytes(2000))
    with database.scan(Family.LOG, number(0), number(9)) as cursor:
        assert cursor.next() is not None
        database.close()
        with pytest.raises(StorageError, match="closed"):
            cursor.next()
    assert sum(path.stat().st_size for path in (tmp_path / "db").glob("*.log")) == 0
    Database(tmp_path / "db", Tuning(), create=False).close()


def test_a_scan_that_is_never_begun_pins_nothing(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "data", node=NODE)
    store.write([put(mixed_log(4).entries)])
    scans = [store.scan_headers(GENERATION, LogIndex(1)) for _ in range(5)]
    assert len(store._database._cursors) == 5
    next(scans[0])
    del scans
    gc.collect()
    assert len(store._database._cursors) == 0
    store.close()


def test_a_missing_database_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        Database(tmp_path / "db", Tuning(), create=False)
    database = Database(tmp_path / "db", Tuning(), create=True)
    fill(database, Family.LOG, 3)
    database.close()
    (tmp_path / "db" / "CURRENT").unlink()
    with pytest.raises(StorageError):
        Database(tmp_path / "db", Tuning(), create=False)
