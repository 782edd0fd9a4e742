"""asyncio executes what the pump ordered: rounds on a storage thread, reads on a reader thread, ticks by timers.

One pass of the event loop makes one round. While the storage thread writes and syncs, further rounds queue up; the
thread then takes all of them, writes one batch and syncs once: that is the group commit.

    loop:     inputs ── wake ──> round() ── frames leave ──┐            persisted() <── call_soon_threadsafe ──┐
    storage:                                               └─> queue ──> write (one batch) ──> sync ───────────┘

A failed write or sync is final: the driver stops for good and tells its owner, who ends the process. So is an error
that nobody expected inside the pump: a round that broke off has taken work out of the groups that will never be
written, and later rounds would vouch for it. A *stalled* write (nothing was applied) is tried again a little later, on
the storage thread, while the loop goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

import structlog

from raftmq.errors import DataLoss
from raftmq.ids import Generation, LogIndex, Offset, Tick
from raftmq.measure import Distribution
from raftmq.ports import BatchRow, StorageError, StorageStalled, Store, WriteOp
from raftmq.records.entry import LogEntry
from raftmq.replica.manager import Replicas
from raftmq.replica.outbox import ReadOrder, ReadResult, Round

T = TypeVar("T")

_log = structlog.get_logger(__name__)

STALL_PAUSE_S = 0.005
STALL_WARN_S = 1.0
IDLE_SETTLE_S = 0.05
GATHER_S = 0.005
"""The longest that a round waits for a disk that is busy syncing. What arrives meanwhile could not be synced sooner
anyway, and shares the round's frames and writes; a disk that hangs delays heartbeats by no more than this."""


class SystemClock:
    """The real clocks."""

    def tick(self) -> Tick:
        return Tick(time.monotonic_ns() // 1_000_000)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000


@dataclass(slots=True)
class DriverStats:
    """Since the start, in seconds. Written by the storage thread."""

    queue: Distribution = field(default_factory=Distribution)
    """How long rounds waited for the storage thread."""
    write: Distribution = field(default_factory=Distribution)
    sync: Distribution = field(default_factory=Distribution)
    rounds: int = 0
    """Written; several may share one write and one sync."""
    stalls: int = 0
    """Writes that RocksDB put off."""
    busy_since: float | None = None
    """``time.monotonic()`` at which the write or sync under way began."""


class Driver:
    """Runs a ``Replicas``. ``failed`` is called at most once, on the loop, when this process must not go on."""

    def __init__(self, store: Store, failed: Callable[[BaseException], None]) -> None:
        self.stats = DriverStats()
        self._store = store
        self._failed = failed
        self._replicas: Replicas | None = None
        self._loop = asyncio.get_running_loop()
        self._round_due = False
        self._gathering: asyncio.TimerHandle | None = None
        """The round that waits for the disk, or for its time."""
        self._syncing = 0
        """Rounds whose sync has not been heard of."""
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = Tick(0)
        self._queue: SimpleQueue[Round | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write_rounds, name="raftmq-storage", daemon=True)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="raftmq-reader")
        self._unsettled = False
        self._stopped = False
        self._broken: BaseException | None = None

    def start(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._writer.start()
        self.wake()

    async def stop(self) -> None:
        """Finish what is queued, then stop. Nothing is written afterwards, and nobody is answered."""
        if self._stopped:
            return
        self._run_round()
        self._end()
        self._queue.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        await self._loop.run_in_executor(None, self._readers.shutdown)

    @property
    def queued_rounds(self) -> int:
        """Rounds that wait for the storage thread."""
        return self._queue.qsize()

    async def read_batches(self, generation: Generation, offset: Offset, end: Offset, max_bytes: int) -> list[BatchRow]:
        """Batches for a reader, from disk, off the loop. Raises DataLoss where what is stored cannot be read."""
        read = partial(self._store.read_batches, generation, offset, end, max_bytes)
        return await self._for_reader(read, generation, f"the records at offset {offset}")

    async def read_entries(
        self, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int
    ) -> list[LogEntry]:
        """See ``Store.read_entries``; off the loop. Raises DataLoss where what is stored cannot be read."""
        read = partial(self._store.read_entries, generation, first, last, max_bytes)
        return await self._for_reader(read, generation, f"the log from entry {first} on")

    async def offset_at(self, generation: Generation, wall_ms: int) -> Offset | None:
        """See ``Store.offset_at``; off the loop. Raises DataLoss where what is stored cannot be read."""
        return await self._for_reader(
            partial(self._store.offset_at, generation, wall_ms), generation, "the index of times"
        )

    async def _for_reader(self, read: Callable[[], T], generation: Generation, what: str) -> T:
        try:
            return await self._loop.run_in_executor(self._readers, read)
        except StorageError as error:
            _log.error("reading for a client failed", generation=generation, what=what, error=str(error))
            raise DataLoss(f"{what} cannot be read on this node") from error

    def wake(self) -> None:
        """There is work: make a round at the end of this pass of the loop, or soon if the disk is busy anyway."""
        if self._round_due or self._stopped:
            return
        self._round_due = True
        if self._syncing:
            self._gathering = self._loop.call_later(GATHER_S, self._run_round)
        else:
            self._loop.call_soon(self._run_round)

    # -- on the loop -------------------------------------------------------------------------------------------------

    def _run_round(self) -> None:
        self._round_due = False
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._stopped or self._replicas is None:
            return
        with self.fatal():
            made, reads = self._replicas.round()
            if made is not None:
                made.queued_at = time.monotonic()
                self._syncing += made.must_sync
                self._queue.put(made)
            for order in reads:
                self._readers.submit(self._read, order)
            self._arm()

    def _arm(self) -> None:
        assert self._replicas is not None
        deadline = self._replicas.next_deadline()
        if self._timer is not None:
            if deadline == self._armed_for:
                return
            self._timer.cancel()
        self._armed_for = deadline
        delay = max(0, deadline - SystemClock().tick()) / 1000
        self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._stopped or self._replicas is None:
            return
        with self.fatal():
            self._replicas.tick()
            if not self._round_due:
                self._arm()

    def _persisted(self, rounds: list[Round]) -> None:
        if self._stopped or self._replicas is None:
            return
        self._syncing -= sum(done.must_sync for done in rounds)
        with self.fatal():
            for done in rounds:
                self._replicas.persisted(done)
        if self._gathering is not None:
            self._run_round()

    def _read_back(self, result: ReadResult) -> None:
        if not self._stopped and self._replicas is not None:
            with self.fatal():
                self._replicas.read_done(result)

    def _read_failed(self, order: ReadOrder, error: StorageError) -> None:
        """Rows that cannot be read cost one group its replica here, not the node: others hold the same entries."""
        if not self._stopped and self._replicas is not None and self._replicas.read_failed(order, str(error)):
            _log.error("reading the log failed", group=order.group, first=order.first, error=str(error))

    @contextmanager
    def fatal(self) -> Iterator[None]:
        """For calls into the pump: an error that comes out of one leaves it in no state to go on from."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  see above
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Storage failed, or the pump (also when somebody else saw it): never go on."""
        if self._broken is None:
            self._broken = error
            self._end()
            self._failed(error)

    def _end(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    # -- on the storage thread ----------------------------------------------------------------------------------------

    def _write_rounds(self) -> None:
        try:
            while (rounds := self._next_rounds()) is not None:
                self._write_and_sync(rounds)
                self._post(partial(self._persisted, rounds))
        except Exception as error:  # noqa: BLE001
            # Whatever it was, what is on disk is no longer known here.
            self._post(partial(self.fail, error))

    def _write_and_sync(self, rounds: list[Round]) -> None:
        stats = self.stats
        began = stats.busy_since = time.monotonic()
        for each in rounds:
            stats.queue.add(began - each.queued_at)
        stats.rounds += len(rounds)
        ops: list[WriteOp] = [op for each in rounds for op in each.ops]
        if ops:
            self._write(ops)
            stats.write.add(time.monotonic() - began)
        if any(each.must_sync for each in rounds):
            began = time.monotonic()
            self._store.sync()
            stats.sync.add(time.monotonic() - began)
            self._unsettled = True
        stats.busy_since = None

    def _next_rounds(self) -> list[Round] | None:
        """Everything that is queued, at least one round; None when it is over."""
        try:
            first = self._queue.get(timeout=IDLE_SETTLE_S if self._unsettled else None)
        except Empty:
            self._store.settle()
            self._unsettled = False
            first = self._queue.get()
        if first is None:
            return None
        rounds = [first]
        while not self._queue.empty():
            another = self._queue.get()
            if another is None:
                self._queue.put(None)
                break
            rounds.append(another)
        return rounds

    def _write(self, ops: list[WriteOp]) -> None:
        began = time.monotonic()
        warned = False
        while True:
            try:
                self._store.write(ops)
                return
            except StorageStalled:
                self.stats.stalls += 1
                if not warned and time.monotonic() - began > STALL_WARN_S:
                    warned = True
                    _log.warning("storage is stalled; writes wait", seconds=round(time.monotonic() - began, 1))
                time.sleep(STALL_PAUSE_S)

    def _post(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            # The loop is closed: the process is ending, and nobody waits for this any more.
            _log.debug("a storage result came after the event loop had closed")

    # -- on a reader thread ------------------------------------------------------------------------------------------

    def _read(self, order: ReadOrder) -> None:
        try:
            entries = self._store.read_entries(order.generation, order.first, order.last, order.max_bytes)
        except StorageError as error:
            self._post(partial(self._read_failed, order, error))
        except Exception as error:  # noqa: BLE001  unanswered, the one who waits for these entries would wait for ever
            self._post(partial(self.fail, error))
        else:
            self._post(partial(self._read_back, ReadResult(order, tuple(entries))))
