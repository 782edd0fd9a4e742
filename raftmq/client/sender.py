"""One partition's batches on their way to its leader: in order, several at a time, and never twice.

        append            take                 acknowledged
    open ─────> sealed ─────────> window ───────────────────> finished
                  ^                  │
                  └──── go back ─────┘   an attempt failed: every batch not acknowledged returns to its place

The sender is in one of two phases, as a Raft leader is with a follower:

* **probe**: the first batch travels alone and is tried until it is accepted, or until its delivery time is over. All
  judgement about errors is made here, where nothing else is under way and an answer can mean only one thing.
* **stream**: up to ``max_in_flight`` batches travel at once, numbered in order. The first failure of any of them ends
  the phase: what is still under way is awaited, then the sender goes back to the first batch not acknowledged
  (go-back-N) and probes. A server refuses gaps, so that nothing behind a lost batch can have been applied.

Linger: a batch that is not full waits only while others are under way (as in RFC 896). A producer that was idle
sends at once; a busy one gathers for up to ``linger_ms``.

When the first batch fails for good, the batches behind it must not leave a gap in the sequence:

* Surely nothing of it or behind it was applied: the same numbers are given out again.
* Otherwise the batches of unknown outcome fail too, with that outcome, and the rest goes on under a higher epoch,
  which fences whatever may still be under way. A batch of unknown outcome never gets another number: that could be a
  duplicate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from raftmq.client import convert
from raftmq.client.accumulator import ClientBatch, Encoded, Identity
from raftmq.client.identity import IdentityKeeper
from raftmq.client.retry import leader_epoch, with_outcome
from raftmq.client.router import Router
from raftmq.client.settings import ProducerSettings
from raftmq.client.types import BatchReceipt, RecordReceipt
from raftmq.errors import (
    DeadlineExceeded,
    FencedProducer,
    InternalError,
    MessageTooLarge,
    Outcome,
    OutOfOrderSequence,
    OverflowDropped,
    RaftmqError,
    Unavailable,
    UnknownPartition,
    UnknownProducer,
    UnknownTopic,
)
from raftmq.v1 import broker_pb2


class PartitionSender:
    """The open batch, the queue and the window of one partition. `start` before use."""

    def __init__(
        self,
        topic: str,
        partition: int,
        router: Router,
        settings: ProducerSettings,
        identities: IdentityKeeper,
        *,
        on_sealed: Callable[[int], None],
        on_finished: Callable[[ClientBatch], None],
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._router = router
        self._settings = settings
        self.max_batch_bytes = settings.max_batch_bytes
        """When a batch is full; may change at any time."""
        self._identities = identities
        self._on_sealed = on_sealed
        self._on_finished = on_finished

        self._open: ClientBatch | None = None
        self._sealed: deque[ClientBatch] = deque()
        self._window: list[ClientBatch] = []
        # Invariant: numbered batches come before all others, in order, over window and sealed.
        self._flights: set[asyncio.Task[None]] = set()
        self._refused = False
        self._fatal: RaftmqError | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

        self._identity: Identity | None = None if settings.idempotent else Identity(0, 0)
        self._outgrown: Identity | None = None
        self._next_sequence = 0
        self._acked_epoch = 0

    # -- filling

    def new_batch(self, whole: asyncio.Future[BatchReceipt] | None = None) -> ClientBatch:
        return ClientBatch(
            now=asyncio.get_running_loop().time(),
            delivery_timeout_ms=self._settings.delivery_timeout_ms,
            on_finished=self._on_finished,
            codec=self._settings.compression.value,
            whole=whole,
        )

    def append(self, record: Encoded) -> asyncio.Future[RecordReceipt]:
        """Add a record to the open batch. Raises what ended this sender, if anything has."""
        self.raise_if_dead()
        batch = self._open
        if batch is not None and batch.size + record.size > self.max_batch_bytes:
            self.seal()
            batch = None
        if batch is None:
            batch = self._open = self.new_batch()
            self._wake.set()
        future = batch.add_promised(record)
        if batch.count >= self._settings.max_batch_records:
            self.seal()
        return future

    def append_batch(self, batch: ClientBatch) -> None:
        """Queue a sealed batch behind everything appended before."""
        self.seal()
        self._sealed.append(batch)
        self._wake.set()

    def seal(self) -> None:
        """Close the open batch, if there is one: it lingers no longer."""
        batch, self._open = self._open, None
        if batch is not None:
            batch.seal()
            self._sealed.append(batch)
            self._wake.set()
            self._on_sealed(self._partition)

    def raise_if_dead(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    def unfinished(self) -> list[ClientBatch]:
        """Everything appended and neither acknowledged nor failed yet."""
        return [*self._window, *self._sealed, *([self._open] if self._open is not None else [])]

    # -- life

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"raftmq-producer-{self._topic}-{self._partition}")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop sending. What is not acknowledged fails with the outcome that is known."""
        tasks = [task for task in (self._task, *self._flights) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._die(Unavailable("the producer is closed", outcome=Outcome.NOT_APPLIED))

    async def _run(self) -> None:
        while True:
            if self._open is None and not self._sealed:
                await self._wait(None)
            elif await self._probe():
                await self._stream()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A sender that dies of a bug must not leave anybody waiting."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        for batch in self.unfinished():
            batch.note(Outcome.UNKNOWN if batch.attempts else Outcome.NOT_APPLIED)
        self._die(InternalError(f"the producer failed: {error!r}"))
        task.get_loop().call_exception_handler({"message": "raftmq producer failed", "exception": error})

    # -- probe

    async def _probe(self) -> bool:
        """Try the first batch, alone, until it is accepted (True) or has failed for good (False)."""
        assert not self._window
        if not self._sealed:
            self.seal()
        # It stays in the queue: should the sender be stopped meanwhile, it is failed with the others.
        batch = self._sealed[0]
        if isinstance(batch.last_error, OverflowDropped):
            # It was told so in the window. Another try would be another draw.
            self._give_up(batch, batch.last_error)
            return False
        retrying = self._router.policy.retrying(
            lambda error: self._may_retry(batch, error), timeout_ms=self._settings.delivery_timeout_ms
        )
        try:
            async for attempt in retrying:
                with attempt:
                    await self._number_first(batch)
                    await self._send(batch)
        except RaftmqError as error:
            if isinstance(error, MessageTooLarge):
                await self._router.refresh_quietly()  # the topic's limit was altered, it seems
            if not (isinstance(error, MessageTooLarge) and self._divide(batch)):
                self._give_up(batch, error)
            return False
        self._sealed.popleft()
        return True

    async def _number_first(self, batch: ClientBatch) -> None:
        if self._identity is None:
            left_ms = int((batch.deadline - self._now()) * 1000)
            self._identity = await self._identities.after(self._outgrown, timeout_ms=max(left_ms, 1))
            self._next_sequence = 0
        self._number(batch)

    def _may_retry(self, batch: ClientBatch, error: RaftmqError) -> bool:
        if self._now() >= batch.deadline:
            return False
        if batch.outcome is not Outcome.NOT_APPLIED and not self._settings.idempotent:
            return False
        if isinstance(error, (OutOfOrderSequence, UnknownProducer)):
            # A deposed leader that does not know it yet has not seen what its successor acknowledged.
            return leader_epoch(error) < self._acked_epoch
        if isinstance(error, (UnknownTopic, UnknownPartition)):
            # Said by a node that is behind, unless a fresh picture of the cluster says the same.
            return self._topic in self._router.metadata.image.topics
        return error.retriable

    def _give_up(self, batch: ClientBatch, error: RaftmqError) -> None:
        """The first batch failed for good: settle what becomes of it and of those behind it."""
        if isinstance(error, (OutOfOrderSequence, FencedProducer)):
            # Acknowledged records are missing, or another producer has taken over: nothing can follow.
            self._die(error)
            return
        starts_over = isinstance(error, UnknownProducer) and bool(batch.sequence)
        if not starts_over or batch.outcome is not Outcome.NOT_APPLIED:
            self._sealed.popleft()
            batch.fail(self._final(batch, error))
        if not self._settings.idempotent:
            return
        doubtful = [b for b in self._sealed if b.outcome is not Outcome.NOT_APPLIED]
        if self._identity is not None and (starts_over or doubtful or batch.outcome is not Outcome.NOT_APPLIED):
            self._outgrown, self._identity = self._identity, None
        elif batch.sequence is not None:
            self._next_sequence = batch.sequence
        self._sealed = deque(b for b in self._sealed if b.outcome is Outcome.NOT_APPLIED)
        for b in self._sealed:
            b.unnumber()
        for b in doubtful:
            b.fail(Unavailable("a batch before this one failed while it was under way", outcome=b.outcome))

    def _divide(self, batch: ClientBatch) -> bool:
        """Let the first batch, too large as it is, travel as two. False: what may be applied keeps its number."""
        if not batch.is_divisible or any(b.outcome is not Outcome.NOT_APPLIED for b in self._sealed):
            return False
        self._next_sequence = batch.sequence or 0
        self._sealed.popleft()
        for b in self._sealed:
            b.unnumber()
        self._sealed.extendleft(reversed(batch.halves()))
        return True

    def _final(self, batch: ClientBatch, error: RaftmqError) -> RaftmqError:
        """What the batch's owners are told: of all attempts, the outcome of the worst."""
        if error.retriable and self._now() >= batch.deadline:
            last = batch.last_error or error
            error = DeadlineExceeded(
                f"not acknowledged within {self._settings.delivery_timeout_ms} ms; last: {last.message}",
                metadata={**last.metadata, "last_reason": last.reason},
            )
        return with_outcome(error, batch.outcome)

    # -- stream

    async def _stream(self) -> None:
        """Keep the window full until an attempt fails; then go back to the first batch not acknowledged."""
        self._refused = False
        while not self._refused:
            batch = self._take()
            if batch is not None:
                self._launch(batch)
            else:
                await self._wait(self._linger_left())
        while self._flights:
            await self._wait(None)
        self._take_back()

    def _take_back(self) -> None:
        """Queue the window again, but for what must not be sent twice."""
        window, self._window = self._window, []
        for batch in reversed(window):
            if batch.outcome is Outcome.NOT_APPLIED or self._settings.idempotent:
                self._sealed.appendleft(batch)
            else:
                assert batch.last_error is not None
                batch.fail(self._final(batch, batch.last_error))

    def _take(self) -> ClientBatch | None:
        """The next batch that may leave now."""
        if len(self._window) >= self._settings.max_in_flight:
            return None
        if not self._sealed and self._open is not None and (not self._window or self._linger_left() == 0):
            self.seal()
        return self._sealed.popleft() if self._sealed else None

    def _linger_left(self) -> float | None:
        """Seconds that the open batch may still wait; None where its time does not matter."""
        if self._open is None or len(self._window) >= self._settings.max_in_flight:
            return None
        return max(self._open.created + self._settings.linger_ms / 1000 - self._now(), 0.0)

    def _launch(self, batch: ClientBatch) -> None:
        self._number(batch)
        self._window.append(batch)
        # Tasks start in the order of their creation, and so do the calls: batches leave in order.
        task = asyncio.create_task(self._fly(batch))
        self._flights.add(task)
        task.add_done_callback(self._landed)

    async def _fly(self, batch: ClientBatch) -> None:
        try:
            await self._send(batch)
        except RaftmqError:
            # Judged when nothing else is under way.
            self._refused = True
        else:
            if batch in self._window:
                self._window.remove(batch)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flights.discard(task)
        self._wake.set()
        self._ended(task)

    # -- both

    def _number(self, batch: ClientBatch) -> None:
        if self._settings.idempotent and batch.sequence is None:
            assert self._identity is not None
            batch.number(self._identity, self._next_sequence)
            self._next_sequence += batch.count

    async def _send(self, batch: ClientBatch) -> None:
        """One attempt. Raises RaftmqError, after noting in the batch what the attempt may have done."""
        assert batch.message is not None
        left_ms = int((batch.deadline - self._now()) * 1000)
        if left_ms <= 0:
            raise DeadlineExceeded("the delivery time was over before it could be sent", outcome=Outcome.NOT_APPLIED)
        timeout_ms = min(left_ms, self._settings.request_timeout_ms)
        request = broker_pb2.ProduceRequest(
            topic=self._topic,
            partition=self._partition,
            batch=batch.message,
            acks=self._settings.acks.value,
            expected_offset=batch.expected_offset,
        )
        request.timeout.FromMilliseconds(timeout_ms)
        batch.attempts += 1
        try:
            answer = await self._router.produce(
                self._topic, self._partition, request, timeout_ms=timeout_ms, stream=self._settings.stream
            )
        except RaftmqError as error:
            batch.note(error.outcome)
            batch.last_error = error
            raise
        except asyncio.CancelledError:
            batch.note(Outcome.UNKNOWN)
            raise
        self._acked_epoch = max(self._acked_epoch, answer.receipt.leader_epoch)
        if not batch.finished.done():  # It was failed where the sender has been stopped meanwhile.
            latency_us = int((self._now() - batch.created) * 1_000_000)
            batch.succeed(convert.receipt(answer.receipt, latency_us=latency_us, attempts=batch.attempts))

    def _die(self, error: RaftmqError) -> None:
        """Fail everything, now and from now on."""
        if self._fatal is not None:
            return
        self._fatal = error
        batches = self.unfinished()
        self._window, self._sealed, self._open = [], deque(), None
        for batch in batches:
            batch.fail(with_outcome(error, batch.outcome))

    async def _wait(self, seconds: float | None) -> None:
        """Until something happens, or `seconds` are over."""
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._wake.clear()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
