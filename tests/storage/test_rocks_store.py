"""RocksStore: the conformance suite, the time index, threads, and a process that is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftmq.ids import GroupId, LogIndex, Offset
from raftmq.ports import StateKind, StorageError, StorageRefused, StorageStalled, Store, WriteOp
from raftmq.storage.database import Database
from raftmq.storage.keys import Family, group_key, pair_key
from raftmq.storage.options import Tuning
from raftmq.storage.rocks import RocksStore
from raftmq.storage.rows import encode_replica
from tests.storage.build import EVERYTHING, GENERATION, NODE, LogBuilder, mixed_log, put, put_row, put_state, row
from tests.storage.conformance import Harness, StoreConformance, read_all


def abandon(store: RocksStore) -> None:
    """Leave on disk what a killed process leaves: the files as they are at this moment, before anything is flushed."""
    path = store._directory.path
    image = path.with_name(path.name + ".image")
    store._database._rocks.cancel_all_background(True)
    shutil.copytree(path, image)
    store._database.fail("killed", RuntimeError("no more of this process"))
    store.close()
    shutil.rmtree(path)
    image.rename(path)


class _RocksHarness:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._rocks = RocksStore(path, node=NODE)
        self.store: Store = self._rocks

    def restart(self) -> Store:
        self._rocks.close()
        return self._reopen()

    def kill(self) -> Store:
        abandon(self._rocks)
        return self._reopen()

    def _reopen(self) -> Store:
        self._rocks = RocksStore(self._path, node=NODE)
        self.store = self._rocks
        return self.store


class TestRocksStore(StoreConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[Harness]:
        harness = _RocksHarness(tmp_path / "data")
        yield harness
        harness.store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(path: Path) -> Iterator[RocksStore]:
    store = RocksStore(path, node=NODE)
    yield store
    store.close()


# -- stalls and failures ---------------------------------------------------------------------------------------------


def test_a_stalled_write_can_be_built_again(store: RocksStore) -> None:
    log = mixed_log(8)
    table = store._database._tables[Family.STATE]
    table.set_options({"level0_stop_writes_trigger": "1", "level0_file_num_compaction_trigger": "1000"})
    store.write([put_row(term=1), put(log.entries[:4]), put_state(b"k", b"1")])
    store._database.flush(Family.STATE)
    ops: list[WriteOp] = [put_row(term=2), put(log.entries[4:]), put_state(b"k", b"2")]
    for _ in range(3):
        with pytest.raises(StorageStalled):
            store.write(ops)
    store.sync()
    assert read_all(store) == log.entries[:4]
    assert store.replicas()[0].hard_state.term == 1
    table.set_options({"level0_stop_writes_trigger": "1000"})
    store.write(ops)
    assert read_all(store) == log.entries
    assert store.replicas()[0].hard_state.term == 2


def assert_dead(store: RocksStore) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.write([]),
        store.sync,
        store.settle,
        store.replicas,
        lambda: store.node_value("cluster"),
        lambda: store.read_entries(GENERATION, LogIndex(1), LogIndex(1), EVERYTHING),
        lambda: store.read_batches(GENERATION, Offset(0), Offset(1), EVERYTHING),
        lambda: store.scan_headers(GENERATION, LogIndex(1)),
        lambda: store.state(GENERATION, StateKind.APPLIED),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="has failed before"):
            call()


def test_a_failed_write_is_final(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RocksStore(path, node=NODE)
    log = mixed_log(4)
    store.write([put(log.entries[:2])])
    store.sync()
    make = Database.batch

    def poisoned(database: Database) -> object:
        batch = make(database)
        batch.raw.delete_range(b"b", b"a")
        return batch

    with monkeypatch.context() as patch:
        patch.setattr(Database, "batch", poisoned)
        with pytest.raises(StorageError, match="a write failed"):
            store.write([put(log.entries[2:])])
    assert_dead(store)
    store.close()
    store = RocksStore(path, node=NODE)
    assert read_all(store)[:2] == log.entries[:2]
    assert not store.identity.suspect
    store.close()


def test_a_failed_sync_of_the_marker_is_final(path: Path) -> None:
    store = RocksStore(path, node=NODE)
    store.write([put_row(term=1)])
    store.sync()
    os.close(store._marker._descriptor)
    with pytest.raises(StorageError, match="tail marker"):
        store.settle()
    assert_dead(store)
    with pytest.raises(OSError, match="Bad file descriptor"):
        store.close()
    again = RocksStore(path, node=NODE)
    assert not again.identity.suspect
    again.close()


def test_a_full_disk_is_final_and_loses_nothing_that_was_synced(path: Path) -> None:
    """A file size limit stands for the full disk: the write fails in the middle of a round."""
    child = subprocess.run([sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=True)
    synced = int(child.stdout)
    store = RocksStore(path, node=NODE)
    assert synced > 0
    assert len(read_all(store)) >= synced
    assert not store.identity.suspect
    store.close()


_FULL = """
import resource, signal, sys
from raftmq.ports import StorageError
from raftmq.storage.rocks import RocksStore
from tests.storage.build import LogBuilder, put
store, log, synced = RocksStore(sys.argv[1], node=1), LogBuilder(), 0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
try:
    while True:
        store.write([put([log.data(payload=bytes(50_000))])])
        store.sync()
        synced = len(log.entries)
except StorageError:
    print(synced)
try:
    store.write([])
except StorageError:
    store.close()
"""


def test_a_flush_that_fails_at_the_end_is_told(path: Path) -> None:
    store = RocksStore(path, node=NODE)
    log = mixed_log(4)
    store.write([put(log.entries)])
    store._database._rocks.cancel_all_background(True)
    with pytest.raises(StorageError, match="a flush of log failed"):
        store.close()
    again = RocksStore(path, node=NODE)
    assert read_all(again) == log.entries
    again.close()


# -- rows that are not what they should be ---------------------------------------------------------------------------


def forge(store: RocksStore, family: Family, key: bytes, value: bytes) -> None:
    batch = store._database.batch()
    batch.put(family, key, value)
    store._database.write(batch)


def test_a_payload_of_another_batch_is_refused(store: RocksStore) -> None:
    log = mixed_log(4)
    store.write([put(log.entries)])
    forge(store, Family.PAYLOAD, pair_key(GENERATION, 3), log.entries[1].payload)
    with pytest.raises(StorageError, match="offset 3 fails its checksum"):
        store.read_batches(GENERATION, Offset(0), Offset(9), EVERYTHING)
    assert len(store.read_batches(GENERATION, Offset(0), Offset(3), EVERYTHING)) == 1
    with pytest.raises(StorageError, match="payload checksum mismatch"):
        store.read_entries(GENERATION, LogIndex(1), LogIndex(4), EVERYTHING)


def test_a_missing_payload_is_an_error_of_both_reads(store: RocksStore) -> None:
    log = mixed_log(4)
    store.write([put(log.entries)])
    batch = store._database.batch()
    batch.delete(Family.PAYLOAD, pair_key(GENERATION, 3))
    store._database.write(batch)
    with pytest.raises(StorageError, match="is missing"):
        store.read_batches(GENERATION, Offset(0), Offset(9), EVERYTHING)
    with pytest.raises(StorageError, match="is missing"):
        store.read_entries(GENERATION, LogIndex(1), LogIndex(4), EVERYTHING)


def test_an_entry_under_the_key_of_another_is_refused(store: RocksStore) -> None:
    log = mixed_log(4)
    log.noop()
    store.write([put(log.entries[:4])])
    forge(store, Family.LOG, pair_key(GENERATION, 9), log.entries[4].row)
    with pytest.raises(StorageError, match="the row of entry 9 holds entry 5"):
        list(store.scan_headers(GENERATION, LogIndex(1)))


def test_a_hole_in_the_offsets_is_an_error(store: RocksStore) -> None:
    store.write([put(mixed_log(4).entries)])
    batch = store._database.batch()
    batch.delete(Family.OFFSETS, pair_key(GENERATION, 3))
    store._database.write(batch)
    for offset in (0, 3, 5):
        with pytest.raises(StorageError, match="no batch holds offset"):
            store.read_batches(GENERATION, Offset(offset), Offset(9), EVERYTHING)


def test_a_replica_row_under_the_key_of_another_group_is_refused(path: Path) -> None:
    store = RocksStore(path, node=NODE)
    forge(store, Family.RAFT, group_key(GroupId(6)), encode_replica(row(5)))
    with pytest.raises(StorageError, match="the row of group 6 is of group 5"):
        store.replicas()
    store.close()
    with pytest.raises(StorageRefused, match="the row of group 6 is of group 5"):
        RocksStore(path, node=NODE)


# -- threads and processes -------------------------------------------------------------------------------------------


def test_reads_of_other_threads_meet_writes_and_close(path: Path) -> None:
    store = RocksStore(path, node=NODE, tuning=Tuning(data_memtable=1 << 18, small_memtable=1 << 16))
    log = LogBuilder()
    store.write([put([log.data(payload=bytes(3000))])])
    wrong: list[object] = []
    reads = threading.Semaphore(0)

    def read() -> None:
        try:
            while True:
                last = log.entries[-1].index - 1
                found = store.read_entries(GENERATION, LogIndex(1), LogIndex(max(last - 1, 1)), 100_000)
                batches = store.read_batches(GENERATION, Offset(0), Offset(3), EVERYTHING)
                scanned = next(store.scan_headers(GENERATION, LogIndex(1)))
                if found[0].index != 1 or len(batches) != 1 or scanned.index != 1:
                    wrong.append((found, batches, scanned))
                reads.release()
        except StorageError as error:
            if "closed" not in str(error):
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(150):
        entry = log.data(payload=os.urandom(3000))
        store.write([put([entry])])
        store.sync()
        reads.acquire()
    store.close()
    for reader in readers:
        reader.join()
    assert wrong == []
    again = RocksStore(path, node=NODE)
    assert read_all(again) == log.entries
    again.close()


_WRITER = """
import sys
from raftmq.storage.rocks import RocksStore
from tests.storage.build import LogBuilder, put, put_row
store, log = RocksStore(sys.argv[1], node=1), LogBuilder()
while True:
    entry = log.data(payload=bytes(20_000), wall_ms=100 * log.next_index)
    store.write([put_row(term=entry.index), put([entry])])
    store.sync()
    print(entry.index, flush=True)
"""


@pytest.mark.parametrize("rounds", [1, 40, 150])
def test_everything_synced_survives_kill_9(path: Path, rounds: int) -> None:
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(rounds):
            told = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout.read().split(b"\n")[:-1]:
            told = int(line)
    store = RocksStore(path, node=NODE)
    entries = read_all(store)
    assert len(entries) >= told >= rounds
    assert [batch.index for batch in store.read_batches(GENERATION, Offset(0), Offset(1 << 40), EVERYTHING)] == [
        entry.index for entry in entries
    ]
    assert [replica.hard_state.term for replica in store.replicas()] == [len(entries)]
    assert (store.identity.boot_count, store.identity.suspect) == (2, False)
    store.close()
