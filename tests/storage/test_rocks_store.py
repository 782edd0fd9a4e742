"""RocksStore: the conformance suite, the time index, threads, and a process that is killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftmq.ports import Store
from raftmq.storage.rocks import RocksStore
from tests.storage.build import NODE
from tests.storage.conformance import Harness, StoreConformance


def abandon(store: RocksStore) -> None:
    """Leave on disk what a killed process leaves: the files as they are at this moment, before ``close`` flushes."""
    path = store._directory.path
    image = path.with_name(path.name + ".image")
    shutil.copytree(path, image)
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
