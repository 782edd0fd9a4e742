"""What was removed gives its room back when it is asked for, not only when later writes happen to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from raftmq.ids import LogIndex
from raftmq.storage.rocks import RocksStore
from tests.storage.build import EVERYTHING, GENERATION, GROUP, NODE, LogBuilder, drop, put, put_row

ENTRIES = 40
SIZE = 100_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    """Two replicas whose payloads lie in the same files."""
    rng = Random(1)
    store = RocksStore(tmp_path / "data", node=NODE)
    for number in range(2):
        log = LogBuilder()
        for _ in range(ENTRIES):
            log.data(payload=rng.randbytes(SIZE))
        store.write([put_row(GROUP + number, GENERATION + number), put(log.entries, GENERATION + number)])
    store.sync()
    store.reclaim(0)
    try:
        yield store
    finally:
        store.close()


def blobs(tmp_path: Path) -> int:
    return sum(path.stat().st_size for path in tmp_path.rglob("*.blob"))


def test_what_lies_between_live_values_comes_back_where_copying_them_can_be_afforded(
    store: RocksStore, tmp_path: Path
) -> None:
    whole = blobs(tmp_path)
    assert whole > 2 * ENTRIES * SIZE
    store.write([drop(GROUP + 1, GENERATION + 1)])
    store.sync()
    store.reclaim(0)
    assert blobs(tmp_path) == whole, "nothing could be spared"
    store.reclaim(whole)
    assert blobs(tmp_path) < whole // 2 + SIZE
    kept = store.read_entries(GENERATION, LogIndex(1), LogIndex(ENTRIES), EVERYTHING)
    assert len(kept) == ENTRIES


def test_files_without_a_live_value_go_at_no_cost(store: RocksStore, tmp_path: Path) -> None:
    store.write([drop(GROUP + number, GENERATION + number) for number in range(2)])
    store.sync()
    store.reclaim(0)
    assert blobs(tmp_path) == 0
