"""What executes a node's rounds in place of ``replica.driver``: the same order of things, on a disk in memory.

    round ──> queue ──> write (all that waits, one batch) ──> sync, after a while ──> persisted, on the loop

While a sync is under way the next rounds queue up: that is the group commit. A failed write or sync ends the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, TypeVar

from raftmq.errors import DataLoss
from raftmq.ids import Generation, LogIndex, Offset, Tick
from raftmq.ports import BatchRow, StorageError, StorageStalled, WriteOp
from raftmq.records.entry import LogEntry
from raftmq.replica.manager import Replicas
from raftmq.replica.outbox import ReadOrder, ReadResult, Round
from raftmq.sim.loop import Handle
from raftmq.sim.process import between
from raftmq.storage.memory import MemoryStore

T = TypeVar("T")

if TYPE_CHECKING:
    from raftmq.sim.process import Process

STALL_PAUSE_MICROS = 5_000
SETTLE_MICROS = 50_000
HANDOVER_MICROS = (10, 60)
"""Until the storage thread has taken what was queued for it."""


@dataclass(slots=True)
class DiskSpeed:
    """How long things take on one node's disk, in microseconds."""

    sync: tuple[int, int] = (300, 3_000)
    read: tuple[int, int] = (50, 1_000)
    hung: bool = False
    """A sync that begins now does not end until this is False again."""


class SimDriver:
    """``BatchReader``, and the one who runs the rounds. ``failed`` is called once."""

    def __init__(
        self,
        process: Process,
        store: MemoryStore,
        speed: DiskSpeed,
        rng: Random,
        failed: Callable[[BaseException], None],
        durable: Callable[[list[WriteOp]], None],
    ) -> None:
        self._process = process
        self._store = store
        self._speed = speed
        self._rng = rng
        self._failed = failed
        self._durable = durable
        self.trap: Callable[[str], bool] = lambda moment: False
        """Asked between two steps of the storage thread whether the process dies here: "written", "synced"."""
        self._replicas: Replicas | None = None
        self._round_due = False
        self._timer: Handle | None = None
        self._armed_for = Tick(0)
        self._queue: list[Round] = []
        self._is_busy = False
        self._unsynced: list[WriteOp] = []
        """Written, and durable with the next sync, whoever asks for that."""
        self._unsettled = 0
        self._stopped = False
        self.syncs = 0
        self.reads = 0
        self.catch_ups = 0
        """Reads for followers that are behind what is in memory."""

    def start(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self.wake()

    def wake(self) -> None:
        """There is work: make a round at the end of this pass of the loop."""
        if not self._round_due and not self._stopped:
            self._round_due = True
            self._process.loop.call_soon(self._run_round)

    async def read_batches(self, generation: Generation, offset: Offset, end: Offset, max_bytes: int) -> list[BatchRow]:
        """Batches for a reader. Raises DataLoss where what is stored cannot be read."""
        return await self._for_reader(partial(self._store.read_batches, generation, offset, end, max_bytes))

    async def read_entries(
        self, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int
    ) -> list[LogEntry]:
        """See ``Store.read_entries``. Raises DataLoss where what is stored cannot be read."""
        return await self._for_reader(partial(self._store.read_entries, generation, first, last, max_bytes))

    async def offset_at(self, generation: Generation, wall_ms: int) -> Offset | None:
        """See ``Store.offset_at``. Raises DataLoss where what is stored cannot be read."""
        return await self._for_reader(partial(self._store.offset_at, generation, wall_ms))

    async def _for_reader(self, work: Callable[[], T]) -> T:
        answer = self._process.loop.create_future()

        def read() -> None:
            try:
                found = work()
            except StorageError as error:
                lost = DataLoss(f"what a reader asked for cannot be read on this node: {error}")
                self._process.post(lambda: None if answer.done() else answer.set_exception(lost))
            else:
                self._process.post(lambda: None if answer.done() else answer.set_result(found))

        self._on_thread(between(self._rng, self._speed.read), read)
        read_back: T = await answer
        return read_back

    # -- on the loop -------------------------------------------------------------------------------------------------

    def _run_round(self) -> None:
        self._round_due = False
        if self._stopped or self._replicas is None:
            return
        made, reads = self._replicas.round()
        if made is not None:
            self._queue.append(made)
            self._next()
        for order in reads:
            self._on_thread(between(self._rng, self._speed.read), self._read, order)
        self._arm()

    def _arm(self) -> None:
        assert self._replicas is not None
        deadline = self._replicas.next_deadline()
        if self._timer is not None:
            if deadline == self._armed_for:
                return
            self._timer.cancel()
        self._armed_for = deadline
        delay = max(0, deadline - self._process.clock.tick()) / 1000
        self._timer = self._process.loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._stopped or self._replicas is None:
            return
        self._replicas.tick()
        if not self._round_due:
            self._arm()

    def _persisted(self, rounds: list[Round]) -> None:
        if self._stopped or self._replicas is None:
            return
        for done in rounds:
            self._replicas.persisted(done)

    def _read_back(self, result: ReadResult) -> None:
        if not self._stopped and self._replicas is not None:
            self._replicas.read_done(result)

    def _read_failed(self, order: ReadOrder, error: StorageError) -> None:
        if not self._stopped and self._replicas is not None:
            self._replicas.read_failed(order, str(error))

    def fail(self, error: BaseException) -> None:
        """Storage failed: never go on."""
        if not self._stopped:
            self._stopped = True
            self._failed(error)

    # -- on the threads ----------------------------------------------------------------------------------------------

    def _on_thread(self, delay: int, call: Callable[..., None], *args: object) -> None:
        self._process.agenda.after(delay, self._process.on_thread, call, *args)

    def _next(self) -> None:
        """The storage thread takes whatever waits."""
        if not self._is_busy and self._queue:
            self._is_busy = True
            rounds, self._queue = self._queue, []
            self._on_thread(between(self._rng, HANDOVER_MICROS), self._write, rounds)

    def _write(self, rounds: list[Round]) -> None:
        rounds += self._queue  # what was queued before the thread got to it
        self._queue = []
        ops: list[WriteOp] = [op for each in rounds for op in each.ops]
        try:
            if ops:
                self._store.write(ops)
                self._unsynced += ops
        except StorageStalled:
            self._on_thread(STALL_PAUSE_MICROS, self._write, rounds)
        except StorageError as error:
            self._process.post(self.fail, error)
        else:
            if self.trap("written"):
                return
            if any(each.must_sync for each in rounds):
                self._on_thread(between(self._rng, self._speed.sync), self._sync, rounds)
            else:
                self._done(rounds)

    def _sync(self, rounds: list[Round]) -> None:
        if self._speed.hung:
            self._on_thread(STALL_PAUSE_MICROS, self._sync, rounds)
            return
        try:
            self._store.sync()
        except StorageError as error:
            self._process.post(self.fail, error)
            return
        self.syncs += 1
        durable, self._unsynced = self._unsynced, []
        self._durable(durable)
        if self.trap("synced"):
            return
        self._unsettled += 1
        self._on_thread(SETTLE_MICROS, self._settle, self._unsettled)
        self._done(rounds)

    def _settle(self, number: int) -> None:
        if number == self._unsettled and not self._is_busy and not self._stopped:
            try:
                self._store.settle()
            except StorageError as error:
                self._process.post(self.fail, error)

    def _done(self, rounds: list[Round]) -> None:
        self._is_busy = False
        self._process.post(self._persisted, rounds)
        self._next()

    def _read(self, order: ReadOrder) -> None:
        self.reads += 1
        self.catch_ups += order.reader is not None
        try:
            entries = self._store.read_entries(order.generation, order.first, order.last, order.max_bytes)
        except StorageError as error:
            self._process.post(self._read_failed, order, error)
        else:
            self._process.post(self._read_back, ReadResult(order, tuple(entries)))
