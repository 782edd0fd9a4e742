"""What asyncio and the storage thread make of rounds: group commit, order, stalls, failures, the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from raftmq.errors import DataLoss
from raftmq.ids import Generation, GroupId, LogIndex, NodeId, Offset, StoreId, Term, Tick
from raftmq.ports import BatchRow, PutNode, StorageError, StorageStalled, Store, WriteOp
from raftmq.records.entry import LogEntry
from raftmq.replica.driver import Driver, SystemClock
from raftmq.replica.manager import Replicas
from raftmq.replica.outbox import Mark, ReadOrder, ReadResult, Round
from raftmq.storage.memory import MemoryStore


class Disk:
    """Notes what is asked of it; a test holds it up by ``gate``."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.in_sync = threading.Event()
        self.settled = threading.Event()
        self.stalls = 0
        self.stalled = threading.Event()
        self.write_error: BaseException | None = None
        self.sync_error: BaseException | None = None
        self.read_error: BaseException | None = None

    def write(self, ops: Sequence[WriteOp]) -> None:
        if self.stalls:
            self.stalls -= 1
            self.stalled.set()
            raise StorageStalled("not now")
        if self.write_error is not None:
            raise self.write_error
        self.happened.append("write " + " ".join(op.name for op in ops if isinstance(op, PutNode)))

    def sync(self) -> None:
        self.in_sync.set()
        self.gate.wait()
        if self.sync_error is not None:
            raise self.sync_error
        self.happened.append("sync")

    def settle(self) -> None:
        self.happened.append("settle")
        self.settled.set()

    def read_entries(self, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int) -> list[LogEntry]:
        if self.read_error is not None:
            raise self.read_error
        return []

    def read_batches(self, generation: Generation, offset: Offset, end: Offset, max_bytes: int) -> list[BatchRow]:
        raise StorageError("checksum mismatch")

    def offset_at(self, generation: Generation, wall_ms: int) -> Offset | None:
        raise StorageError("checksum mismatch")


class Pump:
    """In place of the replicas: hands out what a test has prepared, notes what it is told."""

    def __init__(self) -> None:
        self.due: list[Round] = []
        self.reads: list[ReadOrder] = []
        self.told: list[str] = []
        self.rounds = 0
        self.went = asyncio.Event()
        self.ticks = 0
        self.deadline = Tick(1 << 50)
        self.error: BaseException | None = None
        self.heard = asyncio.Event()

    def round(self) -> tuple[Round | None, list[ReadOrder]]:
        if self.error is not None:
            raise self.error
        self.rounds += 1
        self.went.set()
        reads, self.reads = self.reads, []
        return (self.due.pop(0) if self.due else None), reads

    def persisted(self, done: Round) -> None:
        self._hear(f"persisted {done.number}")

    def read_done(self, result: ReadResult) -> None:
        self._hear("read")

    def read_failed(self, order: ReadOrder, reason: str) -> bool:
        self._hear(f"unreadable: {reason}")
        return True

    def tick(self) -> None:
        self.ticks += 1
        self.deadline = Tick(1 << 50)
        if self.error is not None:
            raise self.error
        self._hear("tick")

    def next_deadline(self) -> Tick:
        return self.deadline

    def _hear(self, what: str) -> None:
        self.told.append(what)
        self.heard.set()

    async def until(self, *told: str) -> None:
        while not set(told) <= set(self.told):
            self.heard.clear()
            await self.heard.wait()


class Bench:
    """A driver between the two."""

    def __init__(self) -> None:
        self.disk, self.pump = Disk(), Pump()
        self.failures: list[BaseException] = []
        self.failed = asyncio.Event()
        self.driver = Driver(cast(Store, self.disk), self._fail)

    def _fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.failed.set()

    async def put(self, *numbers: int, must_sync: bool = True) -> None:
        """Make one round after the other, each in a pass of the loop of its own."""
        for number in numbers:
            mark = Mark(GroupId(1), Generation(1), Term(1), LogIndex(number))
            self.pump.due.append(Round(number, [PutNode(str(number), b"")], [mark], must_sync=must_sync))
            self.pump.went.clear()
            self.driver.wake()
            if not self.failures:
                await self.pump.went.wait()


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    bench.driver.start(cast(Replicas, bench.pump))
    try:
        yield bench
    finally:
        bench.disk.gate.set()
        await bench.driver.stop()


async def on_thread(event: threading.Event) -> None:
    await asyncio.to_thread(event.wait)


ORDER = ReadOrder(GroupId(1), Generation(1), LogIndex(1), LogIndex(2), 100, None, 0)


async def test_rounds_that_come_during_a_sync_share_the_next_one() -> None:
    async with running() as bench:
        bench.disk.gate.clear()
        await bench.put(1)
        await on_thread(bench.disk.in_sync)
        await bench.put(2, 3, 4)
        assert bench.pump.told == [], "nothing is durable yet"
        bench.disk.gate.set()
        await bench.pump.until("persisted 4")
        assert bench.pump.told == [f"persisted {number}" for number in (1, 2, 3, 4)]
        assert bench.disk.happened[:4] == ["write 1", "sync", "write 2 3 4", "sync"]


async def test_what_comes_during_a_sync_shares_a_round_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmq.replica.driver.GATHER_S", 3_600.0)
    async with running() as bench:
        bench.disk.gate.clear()
        await bench.put(1)
        await on_thread(bench.disk.in_sync)
        before = bench.pump.rounds
        for _ in range(3):  # in passes of the loop of their own
            bench.driver.wake()
            await asyncio.sleep(0.001)
        assert bench.pump.rounds == before
        bench.disk.gate.set()
        await bench.pump.until("persisted 1")
        assert bench.pump.rounds == before + 1


async def test_a_disk_that_hangs_does_not_hold_up_rounds() -> None:
    async with running() as bench:
        bench.disk.gate.clear()
        await bench.put(1)
        await on_thread(bench.disk.in_sync)
        bench.pump.went.clear()
        bench.driver.wake()
        await bench.pump.went.wait()
        assert bench.pump.told == [], "the disk hangs still"


async def test_a_round_that_needs_no_sync_gets_none() -> None:
    async with running() as bench:
        await bench.put(1, must_sync=False)
        await bench.pump.until("persisted 1")
        assert bench.disk.happened == ["write 1"]


async def test_a_stalled_write_is_tried_again_while_the_loop_goes_on() -> None:
    async with running() as bench:
        bench.disk.stalls = 3
        await bench.put(1)
        await on_thread(bench.disk.stalled)
        bench.pump.deadline = SystemClock().tick()
        bench.driver.wake()
        await bench.pump.until("tick", "persisted 1")
        assert bench.disk.happened[:2] == ["write 1", "sync"]
        assert not bench.failures


@pytest.mark.parametrize("where", ["write_error", "sync_error"])
@pytest.mark.parametrize("error", [StorageError("no space left"), RuntimeError("a surprise")])
async def test_after_a_failed_write_or_sync_nothing_is_written_or_answered(where: str, error: Exception) -> None:
    async with running() as bench:
        await bench.put(1)
        await bench.pump.until("persisted 1")
        setattr(bench.disk, where, error)
        await bench.put(2)
        await bench.failed.wait()
        before = list(bench.disk.happened)
        setattr(bench.disk, where, None)
        await bench.put(3, 4)
        await bench.driver.stop()
        assert bench.disk.happened == before
        assert bench.pump.told == ["persisted 1"]
        assert bench.failures == [error], "told once"


async def test_an_idle_disk_settles_its_marker() -> None:
    async with running() as bench:
        await bench.put(1)
        await on_thread(bench.disk.settled)
        await bench.put(2)
        await bench.pump.until("persisted 2")
        assert bench.disk.happened[:5] == ["write 1", "sync", "settle", "write 2", "sync"]


async def test_stop_writes_what_is_queued_and_answers_nobody() -> None:
    async with running() as bench:
        bench.disk.gate.clear()
        await bench.put(1)
        await on_thread(bench.disk.in_sync)
        await bench.put(2)
        bench.pump.due.append(Round(3, [PutNode("3", b"")], must_sync=True))
        stopping = asyncio.create_task(bench.driver.stop())
        await asyncio.sleep(0)
        bench.disk.gate.set()
        await stopping
        assert bench.disk.happened == ["write 1", "sync", "write 2 3", "sync"]
        assert bench.pump.told == []
        assert not bench.failures


async def test_a_write_that_fails_at_the_very_end_is_told_too() -> None:
    async with running() as bench:
        bench.disk.gate.clear()
        await bench.put(1)
        await on_thread(bench.disk.in_sync)
        bench.disk.sync_error = StorageError("no space left")
        stopping = asyncio.create_task(bench.driver.stop())
        await asyncio.sleep(0)
        bench.disk.gate.set()
        await stopping
        await bench.failed.wait()
        assert bench.failures == [bench.disk.sync_error]


async def test_stop_twice_is_stop_once() -> None:
    async with running() as bench:
        await bench.driver.stop()
        await bench.driver.stop()
        bench.driver.wake()
        assert bench.pump.told == []


async def in_a_round(bench: Bench) -> None:
    bench.driver.wake()


async def in_a_tick(bench: Bench) -> None:
    bench.pump.error, error = None, bench.pump.error
    bench.pump.deadline = SystemClock().tick()
    bench.driver.wake()
    await asyncio.sleep(0)
    bench.pump.error = error


async def from_outside(bench: Bench) -> None:
    with bench.driver.fatal():
        assert bench.pump.error is not None
        raise bench.pump.error


@pytest.mark.parametrize("where", [in_a_round, in_a_tick, from_outside])
async def test_an_error_inside_the_pump_ends_it(where: Callable[[Bench], Awaitable[None]]) -> None:
    """A round that broke off has taken work out of the groups. Later rounds must not vouch for it."""
    async with running() as bench:
        await asyncio.sleep(0)
        bench.pump.error = AssertionError("an invariant")
        await where(bench)
        await bench.failed.wait()
        assert bench.failures == [bench.pump.error]
        bench.pump.error = None
        await bench.put(1)
        await bench.driver.stop()
        assert bench.disk.happened == []
        assert bench.pump.told == []


async def test_rows_that_cannot_be_read_are_told_and_do_not_end_the_node() -> None:
    async with running() as bench:
        bench.disk.read_error = StorageError("checksum mismatch")
        bench.pump.reads.append(ORDER)
        bench.driver.wake()
        await bench.pump.until("unreadable: checksum mismatch")
        bench.disk.read_error = None
        bench.pump.reads.append(ORDER)
        bench.driver.wake()
        await bench.pump.until("read")
        assert not bench.failures


async def test_a_read_that_fails_otherwise_does_not_leave_its_reader_waiting() -> None:
    async with running() as bench:
        bench.disk.read_error = TypeError("a mistake")
        bench.pump.reads.append(ORDER)
        bench.driver.wake()
        await bench.failed.wait()
        assert bench.failures == [bench.disk.read_error]


async def test_records_that_cannot_be_read_are_a_loss_of_data() -> None:
    async with running() as bench:
        with pytest.raises(DataLoss):
            await bench.driver.read_batches(Generation(1), Offset(0), Offset(1), 100)
        with pytest.raises(DataLoss):
            await bench.driver.offset_at(Generation(1), 0)


async def test_a_real_store_gets_the_same_calls() -> None:
    """The double above stands for ``ports.Store``: the same on one that keeps what it is given."""
    store = MemoryStore(node=NodeId(1), store_id=StoreId(7))
    pump = Pump()
    failures: list[BaseException] = []
    driver = Driver(store, failures.append)
    driver.start(cast(Replicas, pump))
    pump.due.append(Round(1, [PutNode("here", b"value")], must_sync=True))
    driver.wake()
    await pump.until("persisted 1")
    await driver.stop()
    store.crash()
    assert store.reopen().node_value("here") == b"value"
    assert not failures
