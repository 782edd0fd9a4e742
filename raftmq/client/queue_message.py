"""A message of a queue, in the hands of one worker."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from raftmq.client.settling import AckReceipt, Settler, Verdict, VerdictResult
from raftmq.client.types import Acks, BatchReceipt, NewRecord
from raftmq.errors import LeaseExpired, Outcome, RaftmqError
from raftmq.v1 import queue_pb2

ERROR_SHOWN = 500
"""Characters of an exception that go with a retry."""


class Holder(Protocol):
    """Who holds messages: a worker."""

    @property
    def topic(self) -> str: ...
    def settler(self, partition: int) -> Settler: ...
    def freed(self, messages: int) -> None:
        """It holds so many less."""


@dataclass(slots=True)
class Lease:
    """What all messages of one answer are held by."""

    length_ms: int
    since: float
    """By the event loop's clock: not later than the broker began to count."""

    @property
    def left_ms(self) -> int:
        """How long it lasts at least; 0: it may be over."""
        elapsed_ms = (asyncio.get_running_loop().time() - self.since) * 1000
        return max(0, self.length_ms - math.ceil(elapsed_ms))


class QueueMessage:
    """A message that is leased to this worker. Settle it once, by one of the methods, or by ``async with``:

        async with message:       # acknowledged at the end of the block; retried where the block raises
            await handle(message.value)

    Every method raises LeaseExpired where the lease is over: somebody else may have the message by then.
    """

    __slots__ = ("_lease", "_settled", "_worker", "append_time_ms", "attempt", "failures", "headers", "key", "offset",
                 "partition", "timestamp_ms", "token", "topic", "value")  # fmt: skip

    def __init__(self, worker: Holder, wire: queue_pb2.QueueMessage, lease: Lease) -> None:
        record = wire.record
        self.topic = worker.topic
        self.partition = wire.partition
        self.offset = wire.offset
        self.token = wire.token
        """For `QueueClient` calls of other processes; of no use once the lease is over."""
        self.key: bytes | None = record.key if record.HasField("key") else None
        self.value: bytes | None = record.value if record.HasField("value") else None
        self.headers = tuple((header.name, header.value) for header in record.headers)
        self.timestamp_ms = record.timestamp_ms or None
        """The producer's time in milliseconds since the Unix epoch; None: it gave none."""
        self.append_time_ms = wire.append_time_ms
        self.attempt = wire.attempt
        """From 1: how often it was handed out, this time included."""
        self.failures = wire.failures
        """How many of those have failed."""
        self._worker = worker
        self._lease = lease
        self._settled = False

    def __repr__(self) -> str:
        return f"<QueueMessage {self.topic}/{self.partition}@{self.offset} attempt {self.attempt}>"

    @property
    def lease_left_ms(self) -> int:
        """How long the lease lasts at least, by this process's clock; 0: it may be over."""
        return self._lease.left_ms

    async def ack(self, *, processed_key: bytes = b"") -> bool:
        """It is done. `processed_key`: what the work is known by; remembered in the same step. Returns False where that
        key had been remembered before: the work was done already, under another message."""
        result = await self._settle(Verdict.ACK, processed_key=processed_key)
        return not result.already_processed

    async def ack_and_publish(
        self, records: Sequence[NewRecord], *, processed_key: bytes = b"", acks: Acks = Acks.ALL
    ) -> BatchReceipt | None:
        """It is done, and `records` are what came of it: both are one entry of the partition's log, so that either both
        have happened or neither. They are appended to this message's partition of its topic.

        Returns None where `processed_key` had been remembered before: the work was done already, under another message.
        This one is acknowledged then, and nothing is published.

        Raises LeaseExpired: nothing was published. Where the outcome of an error is UNKNOWN, nothing is to be done: if
        it did not happen the message comes again.
        """
        keys = [processed_key] if processed_key else []
        return (await hand_over([self], records, keys, acks)).receipt

    async def release(self) -> None:
        """Back to the queue at once, without a penalty."""
        await self._settle(Verdict.RELEASE)

    async def retry(self, *, delay_ms: int | None = None, error: str = "") -> bool:
        """It failed: back to the queue after `delay_ms`, or the group's back-off (None). Returns False where it has
        failed too often, and was parked or dropped, as the group's settings say."""
        result = await self._settle(Verdict.RETRY, delay_ms=delay_ms, error=error)
        return not result.is_at_end

    async def park(self, reason: str, *, error: str = "") -> None:
        """Out of the way, for somebody to look at."""
        await self._settle(Verdict.PARK, reason=reason, error=error)

    async def extend(self, lease_ms: int | None = None) -> None:
        """Keep it for so much longer, from now; None: as long as the group's settings say. So are all messages of the
        same lease: those that came in one answer."""
        began = asyncio.get_running_loop().time()
        await self._worker.settler(self.partition).extend(self.token, lease_ms)
        if lease_ms is not None:
            self._lease.length_ms, self._lease.since = lease_ms, began

    async def _settle(
        self,
        verdict: Verdict,
        *,
        delay_ms: int | None = None,
        reason: str = "",
        error: str = "",
        processed_key: bytes = b"",
    ) -> VerdictResult:
        settler = self._worker.settler(self.partition)
        try:
            return await settler.settle(self.token, verdict, delay_ms, reason, error, processed_key)
        finally:
            self.settled()

    def settled(self) -> None:
        """It takes none of the worker's room any more."""
        if not self._settled:
            self._settled = True
            self._worker.freed(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._settled:
            return
        if error is None:
            await self.ack()
        elif isinstance(error, Exception):
            with contextlib.suppress(RaftmqError):  # what the block raised says more
                await self.retry(error=f"{type(error).__name__}: {error}"[:ERROR_SHOWN])
        else:
            with contextlib.suppress(RaftmqError):
                await self.release()


async def hand_over(
    messages: Sequence[QueueMessage], records: Sequence[NewRecord], processed_keys: Sequence[bytes], acks: Acks
) -> AckReceipt:
    """See `QueueWorker.ack_and_publish`. Messages that may come again, or are done, are not held any more."""
    settler = messages[0]._worker.settler(messages[0].partition)
    try:
        receipt = await settler.hand_over([message.token for message in messages], processed_keys, records, acks)
    except RaftmqError as error:
        if isinstance(error, LeaseExpired) or error.outcome is not Outcome.NOT_APPLIED:
            _let_go(messages)
        raise
    _let_go([messages[at] for at in receipt.already_processed] if receipt.receipt is None else messages)
    return receipt


def _let_go(messages: Sequence[QueueMessage]) -> None:
    for message in messages:
        message.settled()
