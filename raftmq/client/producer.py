"""The producer: chooses partitions, bounds memory, and hands out a receipt for every record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from raftmq.client.accumulator import BufferBudget, ClientBatch, Encoded
from raftmq.client.identity import IdentityKeeper
from raftmq.client.router import Router
from raftmq.client.sender import PartitionSender
from raftmq.client.settings import BATCH_HEADER_BYTES, ProducerSettings
from raftmq.client.types import BatchReceipt, Headers, NewRecord, RecordReceipt, TopicDescription
from raftmq.errors import InvalidArgument, MessageTooLarge, Overloaded, UnknownPartition
from raftmq.records.batch import PRIORITY_MAX, TIMESTAMP_MAX_MS
from raftmq.records.encoding import encode_record
from raftmq.records.loose import loosen
from raftmq.records.slots import partition_for_key
from raftmq.v1 import types_pb2

RECORD_OVERHEAD_BYTES = 32
"""Upper bound of what a record needs beside its key, value and headers: tags, lengths and the timestamp."""
HEADER_OVERHEAD_BYTES = 16


Schedule = tuple[int, int, int]
"""``deliver_at_ms``, ``expires_at_ms`` and ``priority`` of a record."""
UNSCHEDULED: Schedule = (0, 0, 0)


class Producer:
    """Appends records to one topic. Made by `Client.producer`; an ``async with`` block starts and drains it.

    Records of one partition are stored in the order in which they were handed in. A record with a key goes to its
    key's partition; one without goes, with a whole batch of others, to a partition of the producer's choice.

    Errors of a record are raised where its receipt is awaited, and carry its ``outcome``: NOT_APPLIED, it surely was
    not stored; UNKNOWN, it may have been. Nothing is retried once an error has been raised.
    """

    def __init__(
        self,
        topic: str,
        router: Router,
        settings: ProducerSettings,
        *,
        buffer_bytes: int,
    ) -> None:
        self.topic = topic
        self._router = router
        self._settings = settings
        self._identities = IdentityKeeper(router)
        self._budget = BufferBudget(buffer_bytes)
        self._senders: dict[int, PartitionSender] = {}
        self._partitions = 0
        self._topic: TopicDescription | None = None
        self._max_record_bytes = 0
        self._max_batch_bytes = 0
        self._sticky: int | None = None
        self._handed_in = 0
        """Bytes since `enqueue` last let the others run."""
        self._open = False

    # -- one record

    async def send(
        self,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        *,
        deliver_at_ms: int = 0,
        expires_at_ms: int = 0,
        priority: int = 0,
    ) -> RecordReceipt:
        """Append a record and wait until it is acknowledged. Times are Unix milliseconds.

        For queues (`Client.queue`): not before `deliver_at_ms`, not at or after `expires_at_ms` (0: without limit), and
        before records of lower `priority`, 0 to 9, among the 4,096 ready ones that are looked at ahead. Consumers see
        the record at once whatever these say.

        Raises what `enqueue` raises, and any RaftmqError with the record's outcome.
        """
        receipt = await self.enqueue(
            value, key, partition, headers, timestamp_ms,
            deliver_at_ms=deliver_at_ms, expires_at_ms=expires_at_ms, priority=priority,
        )  # fmt: skip
        return await receipt

    async def enqueue(
        self,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        *,
        deliver_at_ms: int = 0,
        expires_at_ms: int = 0,
        priority: int = 0,
    ) -> asyncio.Future[RecordReceipt]:
        """Hand in a record, waiting only for room in the buffer; the future is its receipt.

        Raises MessageTooLarge, InvalidArgument, UnknownPartition, all NOT_APPLIED; and what ended the producer.
        """
        record = self._record(value, key, headers, timestamp_ms, (deliver_at_ms, expires_at_ms, priority))
        if not self._budget.try_take(record.size):
            await self._budget.take(record.size)
        receipt = self._append(record, key, partition)
        self._handed_in += record.size
        if self._handed_in >= self._max_batch_bytes:
            # With room in the buffer nothing here suspends: a loop that only hands in would keep everybody waiting,
            # its own records too.
            self._handed_in = 0
            await asyncio.sleep(0)
        return receipt

    def send_nowait(
        self,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        *,
        deliver_at_ms: int = 0,
        expires_at_ms: int = 0,
        priority: int = 0,
    ) -> asyncio.Future[RecordReceipt]:
        """As `enqueue`, but raises Overloaded where there is no room."""
        record = self._record(value, key, headers, timestamp_ms, (deliver_at_ms, expires_at_ms, priority))
        if not self._budget.try_take(record.size):
            raise Overloaded(f"the buffer of {self._budget.limit} bytes is full", field="buffer_bytes")
        return self._append(record, key, partition)

    # -- many records

    async def send_batch(
        self, records: Sequence[NewRecord], partition: int | None = None, *, expected_offset: int | None = None
    ) -> BatchReceipt:
        """Append records to one partition, all or none, and wait until they are acknowledged; see `enqueue_batch`."""
        return await (await self.enqueue_batch(records, partition, expected_offset=expected_offset))

    async def enqueue_batch(
        self, records: Sequence[NewRecord], partition: int | None = None, *, expected_offset: int | None = None
    ) -> asyncio.Future[BatchReceipt]:
        """Hand in records that travel as one batch: one future for all, which is several times cheaper per record.

        Records with keys need a `partition`, because their keys may belong to several; so does `expected_offset`, which
        appends only if the batch gets that offset and otherwise ends the future with UnexpectedOffset. Raises as
        `enqueue` does.
        """
        self._check_open()
        self._look_again()
        if partition is None and expected_offset is not None:
            raise InvalidArgument("an expected offset is one of a partition", field="partition")
        if partition is None and any(record.key is not None for record in records):
            raise InvalidArgument("a batch of records with keys needs a partition", field="partition")
        sender = self._sender(self._keyless() if partition is None else partition)
        whole: asyncio.Future[BatchReceipt] = asyncio.get_running_loop().create_future()
        batch = sender.new_batch(whole)
        batch.expected_offset = expected_offset
        for record in records:
            batch.add(self._record(record.value, record.key, record.headers, record.timestamp_ms))
        if batch.size > self._max_record_bytes:
            raise MessageTooLarge(f"a batch of {batch.size} bytes, at most {self._max_record_bytes}", field="records")
        batch.seal()
        await self._budget.take(batch.size)
        try:
            self._check_open()
            sender.raise_if_dead()
        except BaseException:
            self._budget.give(batch.size)
            raise
        sender.append_batch(batch)
        return whole

    # -- life

    @property
    def buffered_bytes(self) -> int:
        """Bytes handed in and not settled yet, at most ``buffer_bytes``."""
        return self._budget.used

    async def flush(self) -> None:
        """Send what lingers, and return when everything handed in so far is acknowledged or has failed.

        Raises nothing of its own: the receipts tell.
        """
        waiting: list[asyncio.Future[None]] = []
        for _, sender in sorted(self._senders.items()):
            sender.seal()
            waiting += [batch.finished for batch in sender.unfinished()]
        if waiting:
            await asyncio.wait(waiting)

    async def close(self) -> None:
        """Drain, then stop. Takes at most the delivery timeout; cancelling it fails what is not acknowledged yet."""
        self._open = False
        self._budget.close()
        try:
            await self.flush()
        finally:
            for _, sender in sorted(self._senders.items()):
                await sender.stop()

    async def __aenter__(self) -> Self:
        topic = await self._router.metadata.topic(self.topic)
        self._partitions = len(topic.partitions)
        # A batch that does not fit an empty partition is never taken.
        records = min(self._settings.max_batch_records, topic.max_depth_records or 2**31)
        self._settings = replace(self._settings, max_batch_records=records)
        self._limit_to(topic)
        self._open = True
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.close()

    # -- inside

    def _append(self, record: Encoded, key: bytes | None, partition: int | None) -> asyncio.Future[RecordReceipt]:
        """The budget has been taken; whatever goes wrong gives it back."""
        try:
            self._check_open()
            return self._sender(self._partition_of(key) if partition is None else partition).append(record)
        except BaseException:
            self._budget.give(record.size)
            raise

    def _record(
        self,
        value: bytes | None,
        key: bytes | None,
        headers: Headers,
        timestamp_ms: int | None,
        schedule: Schedule = UNSCHEDULED,
    ) -> Encoded:
        """The record, checked: a bad one must fail alone, not with its batch. Its size is an upper bound."""
        self._check_open()
        size = len(value or b"") + len(key or b"") + RECORD_OVERHEAD_BYTES
        stamp = timestamp_ms or 0
        if not 0 <= stamp <= TIMESTAMP_MAX_MS:
            raise InvalidArgument(f"{timestamp_ms} is not in 0 to {TIMESTAMP_MAX_MS}", field="timestamp_ms")
        if headers or schedule != UNSCHEDULED:
            message = types_pb2.Record(key=key, value=value, timestamp_ms=stamp)
            _schedule(message, *schedule)
            for name, content in headers:
                message.headers.add(name=name, value=content)
                size += len(name.encode()) + len(content) + HEADER_OVERHEAD_BYTES
            data = loosen([message]).payload
        else:
            data = encode_record(key, value, stamp)
        if size > self._max_record_bytes:
            self._look_again()
        if size > self._max_record_bytes:
            raise MessageTooLarge(f"a record of {size} bytes, at most {self._max_record_bytes}", field="value")
        return Encoded(data, stamp, size, schedule[2])

    def _partition_of(self, key: bytes | None) -> int:
        return self._keyless() if key is None else partition_for_key(key, self._partitions)

    def _keyless(self) -> int:
        if self._sticky is None:
            self._sticky = self._next_sticky(-1)
        return self._sticky

    def _next_sticky(self, present: int) -> int:
        """The next partition in turn, passing by those without a leader as long as others have one."""
        turn = [(present + step) % self._partitions for step in range(1, self._partitions + 1)]
        image = self._router.metadata.image
        return next((p for p in turn if image.leader(self.topic, p).node_id is not None), turn[0])

    def _sender(self, partition: int) -> PartitionSender:
        sender = self._senders.get(partition)
        if sender is None:
            if not 0 <= partition < self._partitions:
                raise UnknownPartition(f"{self.topic} has partitions 0 to {self._partitions - 1}", field="partition")
            sender = self._senders[partition] = PartitionSender(
                self.topic,
                partition,
                self._router,
                self._settings,
                self._identities,
                on_sealed=self._sealed,
                on_finished=self._finished,
            )
            sender.max_batch_bytes = self._max_batch_bytes
            sender.start()
        return sender

    def _limit_to(self, topic: TopicDescription) -> None:
        """Batches and records made from now on keep to what `topic` takes."""
        most = self._settings.max_batch_bytes
        self._topic = topic
        self._max_record_bytes = topic.max_batch_bytes - BATCH_HEADER_BYTES if topic.max_batch_bytes else most
        self._max_batch_bytes = min(most, self._max_record_bytes)
        for _, sender in sorted(self._senders.items()):
            sender.max_batch_bytes = self._max_batch_bytes

    def _look_again(self) -> None:
        """The topic may have been altered since."""
        topic = self._router.metadata.image.topics.get(self.topic)
        if topic is not None and topic is not self._topic:
            self._limit_to(topic)

    def _sealed(self, partition: int) -> None:
        self._look_again()
        if partition == self._sticky:
            self._sticky = self._next_sticky(partition)

    def _finished(self, batch: ClientBatch) -> None:
        self._budget.give(batch.size)

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("the producer is not open: use it inside `async with`")


def _schedule(record: types_pb2.Record, deliver_at_ms: int, expires_at_ms: int, priority: int) -> None:
    """What only queues look at. A bad record must fail alone, not with its batch: raises InvalidArgument."""
    for name, value, most in (
        ("deliver_at_ms", deliver_at_ms, TIMESTAMP_MAX_MS),
        ("expires_at_ms", expires_at_ms, TIMESTAMP_MAX_MS),
        ("priority", priority, PRIORITY_MAX),
    ):
        if not 0 <= value <= most:
            raise InvalidArgument(f"{value} is not in 0 to {most}", field=name)
        setattr(record, name, value)
