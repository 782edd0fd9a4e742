"""Random operations on RocksStore and MemoryStore: every read must be equal, also after restarts and kills."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raftmq.ids import Generation, GroupId, LogIndex, Offset, StoreId
from raftmq.ports import DropReplica, PutState, StateKind, StorageError, Store, TruncateFrom, WriteOp
from raftmq.storage.memory import MemoryStore
from raftmq.storage.rocks import RocksStore
from tests.storage.build import EVERYTHING, NODE, LogBuilder, put, put_row
from tests.storage.test_rocks_store import abandon

GENERATIONS = st.integers(0, 2)


class Equivalence(RuleBasedStateMachine):
    """Batches are gathered by rules and written together, so that operations meet inside one batch too."""

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "data"
        self.rocks = RocksStore(self.path, node=NODE)
        self.memory = MemoryStore(node=NODE, store_id=StoreId(1))
        self.logs = {generation: LogBuilder() for generation in range(3)}
        self.starts = dict.fromkeys(range(3), 1)
        self.batch: list[WriteOp] = []
        self.wall_ms = 0

    @rule(generation=GENERATIONS, counts=st.lists(st.integers(0, 4), min_size=1, max_size=5), pause=st.integers(0, 900))
    def append(self, generation: int, counts: list[int], pause: int) -> None:
        log = self.logs[generation]
        entries = []
        for count in counts:
            self.wall_ms += pause
            entries.append(log.data(count, wall_ms=self.wall_ms) if count else log.noop())
        self.batch.append(put(entries, generation))

    @rule(generation=GENERATIONS, back=st.integers(0, 8))
    def truncate(self, generation: int, back: int) -> None:
        log = self.logs[generation]
        op = log.cut(max(self.starts[generation], log.next_index - back))
        self.batch.append(TruncateFrom(Generation(generation), op.index, op.offset))

    @rule(generation=GENERATIONS, forward=st.integers(0, 8))
    def trim(self, generation: int, forward: int) -> None:
        self.write()
        log, begin = self.logs[generation], self.starts[generation]
        end = min(begin + forward, log.next_index)
        if end > begin:
            self.batch.append(replace(log.trimmed(end, begin), generation=Generation(generation)))
            self.starts[generation] = end

    @rule(group=st.integers(0, 2), generation=GENERATIONS, term=st.integers(0, 5))
    def put_row(self, group: int, generation: int, term: int) -> None:
        self.batch.append(put_row(group, generation, term))

    @rule(group=st.integers(0, 2), generation=GENERATIONS)
    def drop(self, group: int, generation: int) -> None:
        self.logs[generation] = LogBuilder()
        self.starts[generation] = 1
        self.batch.append(DropReplica(GroupId(group), Generation(generation)))

    @rule(
        generation=GENERATIONS,
        kind=st.sampled_from(StateKind),
        key=st.binary(max_size=2),
        value=st.none() | st.binary(max_size=2),
    )
    def put_state(self, generation: int, kind: StateKind, key: bytes, value: bytes | None) -> None:
        self.batch.append(PutState(Generation(generation), kind, key, value))

    @rule()
    def write(self) -> None:
        for store in (self.rocks, self.memory):
            store.write(self.batch)
        self.batch = []

    @rule()
    def sync(self) -> None:
        for store in (self.rocks, self.memory):
            store.sync()

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        self.write()
        if clean:
            self.rocks.close()
            self.memory.close()
        else:
            abandon(self.rocks)
            self.memory.kill()
        self.rocks = RocksStore(self.path, node=NODE)
        self.memory = self.memory.reopen()

    @rule(generation=GENERATIONS, first=st.integers(1, 12), length=st.integers(0, 8), size=st.integers(0, 500))
    def read_entries(self, generation: int, first: int, length: int, size: int) -> None:
        last = LogIndex(first + length - 1)
        self.same(lambda store: store.read_entries(Generation(generation), LogIndex(first), last, size))

    @rule(generation=GENERATIONS, offset=st.integers(0, 20), length=st.integers(0, 30), size=st.integers(0, 200))
    def read_batches(self, generation: int, offset: int, length: int, size: int) -> None:
        end = Offset(offset + length)
        self.same(lambda store: store.read_batches(Generation(generation), Offset(offset), end, size))

    @rule(generation=GENERATIONS, back=st.integers(-1, 5_000))
    def offset_at(self, generation: int, back: int) -> None:
        self.same(lambda store: store.offset_at(Generation(generation), max(0, self.wall_ms - back)))

    @invariant()
    def everything_is_equal(self) -> None:
        self.same(lambda store: store.replicas())
        for generation in map(Generation, range(3)):
            start = self.logs[generation].start(self.starts[generation])
            self.same(lambda store, g=generation, s=start: list(store.scan_headers(g, s.index)))
            self.same(lambda store, g=generation, s=start: store.read_batches(g, s.offset, Offset(1 << 40), EVERYTHING))
            self.same(lambda store, g=generation: store.read_batches(g, Offset(0), Offset(1 << 40), EVERYTHING))
            for kind in StateKind:
                self.same(lambda store, g=generation, k=kind: list(store.state(g, k)))
        assert self.rocks.identity.boot_count == self.memory.identity.boot_count
        assert self.rocks.identity.suspect is self.memory.identity.suspect is False

    def same(self, read: Any) -> None:
        def outcome(store: Store) -> object:
            try:
                return read(store)
            except StorageError as error:
                return str(error)

        assert outcome(self.rocks) == outcome(self.memory)

    def teardown(self) -> None:
        self.rocks.close()
        self.directory.cleanup()


TestEquivalence = Equivalence.TestCase
TestEquivalence.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
