"""What a producer holds before it is acknowledged: batches that fill up, and the budget of bytes that bounds them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from raftmq.client.types import BatchReceipt, RecordReceipt
from raftmq.errors import InvalidArgument, MessageTooLarge, Outcome, RaftmqError, Unavailable
from raftmq.records.batch import COUNT_MAX, decode_records, seal_batch
from raftmq.v1 import types_pb2

_CERTAINTY = {Outcome.NOT_APPLIED: 0, Outcome.UNKNOWN: 1, Outcome.APPLIED: 2}


class Identity(NamedTuple):
    """Who numbers the batches. Producer id 0: nobody, the producer is not idempotent."""

    producer_id: int
    epoch: int


class Encoded(NamedTuple):
    """A record that has been checked, as it stands in a ``RecordSet``: nobody will look at it again."""

    data: bytes
    timestamp_ms: int
    size: int
    """What it counts for in buffers and batches, in bytes; at least those that it has."""
    priority: int = 0


class ClientBatch:
    """Records of one partition on their way, with everybody who waits for them.

    open (`add`) -> sealed (`seal`) -> numbered (`number`, idempotent producers only) -> `succeed` or `fail`, once.
    """

    __slots__ = (
        "_codec",
        "_first_timestamp_ms",
        "_futures",
        "_last_timestamp_ms",
        "_on_finished",
        "_priority",
        "_records",
        "attempts",
        "count",
        "created",
        "deadline",
        "expected_offset",
        "finished",
        "last_error",
        "message",
        "outcome",
        "sequence",
        "size",
        "whole",
    )

    def __init__(
        self,
        *,
        now: float,
        delivery_timeout_ms: int,
        on_finished: Callable[[ClientBatch], None],
        codec: types_pb2.Codec.ValueType = types_pb2.CODEC_UNSPECIFIED,
        whole: asyncio.Future[BatchReceipt] | None = None,
    ) -> None:
        self.created = now
        self.deadline = now + delivery_timeout_ms / 1000
        self.size = 0
        """Upper bound of the serialised records before compression, in bytes."""
        self.count = 0
        self.message: types_pb2.RecordBatch | None = None
        self.expected_offset: int | None = None
        """Append only if it gets this offset."""
        self.sequence: int | None = None
        self.attempts = 0
        self.outcome = Outcome.NOT_APPLIED
        """The most that any attempt so far may have done."""
        self.last_error: RaftmqError | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.whole = whole
        self._records: list[bytes] = []
        self._first_timestamp_ms = self._last_timestamp_ms = self._priority = 0
        self._futures: list[asyncio.Future[RecordReceipt]] = []
        self._on_finished = on_finished
        self._codec = codec

    def add(self, record: Encoded) -> None:
        assert self.message is None
        self._records.append(record.data)
        if not self.count:
            self._first_timestamp_ms = record.timestamp_ms
        self._last_timestamp_ms = record.timestamp_ms
        if record.priority > self._priority:
            self._priority = record.priority
        self.count += 1
        self.size += record.size

    def add_promised(self, record: Encoded) -> asyncio.Future[RecordReceipt]:
        """As `add`, with a future for this record's receipt. A batch has one for each of its records or for none."""
        assert len(self._futures) == len(self._records)
        self.add(record)
        future: asyncio.Future[RecordReceipt] = self.finished.get_loop().create_future()
        self._futures.append(future)
        return future

    def seal(self) -> None:
        """Join and compress. Raises InvalidArgument where there are too many records, or none."""
        assert self.message is None
        if not 1 <= self.count <= COUNT_MAX:
            raise InvalidArgument(f"a batch has 1 to {COUNT_MAX} records, not {self.count}", field="records")
        header = types_pb2.BatchHeader(
            count=self.count,
            first_timestamp_ms=self._first_timestamp_ms,
            last_timestamp_ms=self._last_timestamp_ms,
            priority=self._priority,
        )
        self.message = seal_batch(header, b"".join(self._records), self._codec)
        self._records = []

    def number(self, identity: Identity, sequence: int) -> None:
        assert self.message is not None
        assert self.sequence is None
        self.sequence = sequence
        header = self.message.header
        header.producer_id, header.producer_epoch = identity
        header.first_sequence = sequence

    def unnumber(self) -> None:
        """Take the number back. Only for a batch that surely was not applied: it would be a duplicate otherwise."""
        assert self.outcome is Outcome.NOT_APPLIED
        self.sequence = None

    @property
    def is_divisible(self) -> bool:
        """It may travel as two: it surely was not applied, and nobody asked for all of it or none."""
        return self.outcome is Outcome.NOT_APPLIED and self.whole is None and self.count > 1

    def halves(self) -> tuple[ClientBatch, ClientBatch]:
        """Two sealed batches in place of this one, which is finished when both of them are."""
        assert self.is_divisible
        assert self.message is not None
        records = decode_records(self.message.header, self.message.records)
        middle = self.count // 2
        second_size = sum(record.ByteSize() for record in records[middle:])
        first = self._part(records[:middle], self._futures[:middle], self.size - second_size)
        second = self._part(records[middle:], self._futures[middle:], second_size)

        def finished(_: asyncio.Future[None]) -> None:
            if first.finished.done() and second.finished.done() and not self.finished.done():
                self.finished.set_result(None)

        first.finished.add_done_callback(finished)
        second.finished.add_done_callback(finished)
        return first, second

    def _part(
        self, records: list[types_pb2.Record], futures: list[asyncio.Future[RecordReceipt]], size: int
    ) -> ClientBatch:
        part = ClientBatch(now=self.created, delivery_timeout_ms=0, on_finished=self._on_finished, codec=self._codec)
        part.deadline, part.attempts, part.last_error = self.deadline, self.attempts, self.last_error
        part._records = [types_pb2.RecordSet(records=records).SerializeToString()]
        part._futures, part.count, part.size = futures, len(records), size
        part._priority = max(record.priority for record in records)
        part._first_timestamp_ms, part._last_timestamp_ms = records[0].timestamp_ms, records[-1].timestamp_ms
        part.seal()
        return part

    def note(self, outcome: Outcome) -> None:
        """An attempt ended with an error of this outcome. What may have happened cannot unhappen."""
        if _CERTAINTY[outcome] > _CERTAINTY[self.outcome]:
            self.outcome = outcome

    def succeed(self, receipt: BatchReceipt) -> None:
        if self.whole is not None and not self.whole.done():
            self.whole.set_result(receipt)
        for position, future in enumerate(self._futures):
            if not future.done():  # A caller may have cancelled its own.
                future.set_result(RecordReceipt(receipt, position))
        self._finish()

    def fail(self, error: RaftmqError) -> None:
        if self.whole is not None and not self.whole.done():
            self.whole.set_exception(error)
        for future in self._futures:
            if not future.done():
                future.set_exception(error)
        self._finish()

    def _finish(self) -> None:
        assert not self.finished.done()
        self.finished.set_result(None)
        self._on_finished(self)


class BufferBudget:
    """Bytes that may wait in a producer. Who finds it used up waits in line."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()
        # Invariant: used <= limit; the first in line does not fit.

    def try_take(self, size: int) -> bool:
        """Take `size` bytes if they are free and nobody waits. Raises MessageTooLarge where they never will be."""
        if size > self.limit:
            raise MessageTooLarge(f"{size} bytes do not fit a buffer of {self.limit}", field="buffer_bytes")
        if self._line or self.used + size > self.limit:
            return False
        self.used += size
        return True

    async def take(self, size: int) -> None:
        """Take `size` bytes, in turn. Raises MessageTooLarge, and Unavailable when the producer closes meanwhile."""
        if self.try_take(size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give(size)  # Granted in the very moment of the cancellation.
            else:
                self._line = deque(waiter for waiter in self._line if waiter[1] is not turn)
                self._admit()
            raise

    def give(self, size: int) -> None:
        self.used -= size
        assert self.used >= 0
        self._admit()

    def close(self) -> None:
        """Send everybody in line away."""
        line, self._line = self._line, deque()
        for _, turn in line:
            if not turn.done():
                turn.set_exception(Unavailable("the producer is closed", outcome=Outcome.NOT_APPLIED))

    def _admit(self) -> None:
        while self._line:
            size, turn = self._line[0]
            if not turn.done():
                if self.used + size > self.limit:
                    return
                self.used += size
                turn.set_result(None)
            self._line.popleft()
