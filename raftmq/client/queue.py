"""Workers of queue groups: messages that are leased to one worker at a time, and come back until somebody has
acknowledged them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from raftmq.client.queue_message import Lease, hand_over
from raftmq.client.queue_message import QueueMessage as QueueMessage
from raftmq.client.router import Router
from raftmq.client.settling import AckReceipt as AckReceipt
from raftmq.client.settling import Settler
from raftmq.client.types import Acks, NewRecord
from raftmq.errors import InternalError, InvalidArgument, RaftmqError, UnknownPartition
from raftmq.v1 import queue_pb2

_log = logging.getLogger("raftmq.queue")

POLL_MS = 20_000
"""How long a poll waits for messages at the partition's leader."""
ANSWER_MARGIN_MS = 8_000


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """See `Client.queue`."""

    worker: str
    lease_ms: int | None
    prefetch: int
    max_bytes: int
    partitions: tuple[int, ...] | None
    unavailable_timeout_ms: int


class QueueWorker:
    """Takes messages of one topic for one group. Made by `Client.queue`; an ``async with`` block starts and stops it.

        async with client.queue("orders", "billing") as worker:
            async for message in worker:
                async with message:
                    await charge(message.value)

    It holds at most ``prefetch`` messages: the leases of those that wait for their turn run as well, and one whose
    lease may be over by then is not given out, but comes again. At the end of the block what was not given out goes
    back to the queue at once. It survives changes of leader and deaths of nodes; what it cannot bridge is raised from
    the iteration.
    """

    def __init__(self, router: Router, topic: str, group: str, settings: WorkerSettings) -> None:
        self.topic = topic
        self.group = group
        self._router = router
        self._settings = settings
        self._ready: deque[QueueMessage] = deque()
        self._room = settings.prefetch
        # Invariant: room + messages held = prefetch.
        self._changed = asyncio.Event()
        self._freed = asyncio.Event()
        self._polls: list[asyncio.Task[None]] = []
        self._returns: set[asyncio.Task[None]] = set()
        self._settlers: dict[int, Settler] = {}
        self._error: RaftmqError | None = None
        self._is_closing = False

    # -- messages ----------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> QueueMessage:
        """The next message; waits for one for as long as it takes."""
        while (message := self._next()) is None:
            if self._error is not None:
                raise self._error
            if self._is_closing:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return message

    def _next(self) -> QueueMessage | None:
        """Where the lease may be over, so may somebody else's work on the message be under way. It goes back, for one
        whose lease does last: another message of it was extended, or the broker's clock is slower."""
        while self._ready:
            message = self._ready.popleft()
            if message.lease_left_ms > 0:
                return message
            going = asyncio.create_task(_give_back([message]))
            self._returns.add(going)
            going.add_done_callback(self._returns.discard)
        return None

    async def get(self, timeout_ms: int) -> QueueMessage | None:
        """The next message, or None if none has come by then."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await anext(self, None)
        except TimeoutError:
            return None

    async def run(
        self,
        handle: Callable[[QueueMessage], Awaitable[object]],
        *,
        concurrency: int = 1,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Give every message to `handle`, `concurrency` of them at a time, until `stop` is set or this is cancelled.

        A message is acknowledged when `handle` returns, unless it has settled the message itself. Where `handle`
        raises, the message is retried with the text of the error, which is logged, and the others go on.
        """
        stopping = asyncio.create_task(_wait_for(stop))
        hands = [asyncio.create_task(self._hand(handle, stopping)) for _ in range(concurrency)]
        try:
            await asyncio.gather(*hands)
        finally:
            for task in (*hands, stopping):
                task.cancel()
            await asyncio.wait([*hands, stopping])

    async def _hand(self, handle: Callable[[QueueMessage], Awaitable[object]], stopping: asyncio.Task[None]) -> None:
        while not stopping.done():
            taking = asyncio.ensure_future(anext(self, None))
            try:
                either: set[asyncio.Future[object]] = {taking, stopping}  # type: ignore[arg-type]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not taking.done():
                    taking.cancel()
                    await asyncio.wait({taking})
            if taking.cancelled() or (message := taking.result()) is None:
                return
            try:
                async with message:
                    await handle(message)
            except Exception as error:  # noqa: BLE001  it is told to the queue, and the other messages go on
                _log.warning("%r was not handled: %r", message, error)

    async def ack_and_publish(
        self,
        messages: Sequence[QueueMessage],
        records: Sequence[NewRecord],
        *,
        processed_keys: Sequence[bytes] = (),
        acks: Acks = Acks.ALL,
    ) -> AckReceipt:
        """Acknowledge `messages` (1 to 1,000, of one partition) and publish `records` (1 to 10,000) to that partition
        of the topic, as one entry of its log: both have happened, or neither.

        `processed_keys`: one for each message (empty: none), or empty. Where some had been remembered before, nothing
        is published: the receipt says which messages were acknowledged for that, and the others are held as before.

        Raises LeaseExpired where the lease of any message is over: nothing was published, nor acknowledged. Raises
        InvalidArgument, QueueFull, MessageTooLarge and the like with the messages held as before. Where the outcome of
        an error is UNKNOWN, nothing is to be done: if it did not happen, the messages come again.
        """
        if len({message.partition for message in messages}) != 1:
            raise InvalidArgument("are not of one partition, or none at all", field="messages")
        return await hand_over(messages, records, processed_keys, acks)

    # -- start and stop ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        topic = await self._router.metadata.topic(self.topic)
        known = [partition.partition for partition in topic.partitions]
        wanted = known if self._settings.partitions is None else list(self._settings.partitions)
        for partition in wanted:
            if partition not in known:
                raise UnknownPartition(f"{self.topic} has no partition {partition}", field="partitions")
        for partition in wanted:
            name = f"raftmq-queue-{self.topic}-{partition}"
            self._polls.append(asyncio.create_task(self._poll(partition, len(wanted)), name=name))
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop polling; give back what nobody has taken, and wait for the verdicts that are under way."""
        self._is_closing = True
        self._changed.set()
        for poll in self._polls:
            poll.cancel()
        if self._polls:
            await asyncio.wait(self._polls)
        back, self._ready = list(self._ready), deque()
        await asyncio.gather(_give_back(back), *self._returns)
        await asyncio.gather(*(settler.drained() for settler in self._settlers.values()))

    # -- what messages ask -------------------------------------------------------------------------------------------

    def settler(self, partition: int) -> Settler:
        """Where verdicts on the messages of a partition go."""
        settler = self._settlers.get(partition)
        if settler is None:
            settler = self._settlers[partition] = Settler(
                self._router, self.topic, self.group, partition, self._settings.unavailable_timeout_ms
            )
        return settler

    def freed(self, messages: int) -> None:
        """So many messages are settled."""
        self._room += messages
        self._freed.set()

    # -- polling -----------------------------------------------------------------------------------------------------

    async def _poll(self, partition: int, partitions: int) -> None:
        """A poll that waits reserves no room: it would keep the others from what they could have. What comes too much
        is given back."""
        try:
            while True:
                while self._room <= 0:
                    self._freed.clear()
                    await self._freed.wait()
                await self._receive(partition, max(1, self._room // partitions))
        except RaftmqError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - a bug here must reach the worker, who would wait forever
            self._error = InternalError(f"the worker failed: {error!r}")
            self._error.__cause__ = error
        self._changed.set()

    async def _receive(self, partition: int, asked: int) -> None:
        """Poll once."""
        settings = self._settings
        request = queue_pb2.ReceiveRequest(
            topic=self.topic,
            group=self.group,
            partition=partition,
            max_messages=asked,
            max_bytes=settings.max_bytes,
            worker=settings.worker,
        )
        request.max_wait.FromMilliseconds(POLL_MS)
        if settings.lease_ms is not None:
            request.lease.FromMilliseconds(settings.lease_ms)
        loop = asyncio.get_running_loop()

        async def attempt() -> tuple[queue_pb2.ReceiveResponse, float]:
            sent = loop.time()
            answer = await self._router.to_partition(
                self.topic,
                partition,
                lambda node: node.queue.Receive,
                request,
                timeout_ms=POLL_MS + ANSWER_MARGIN_MS,
            )
            return answer, sent + answer.waited.ToMilliseconds() / 1000

        answer, leased = await self._router.policy.call(
            attempt, lambda error: error.retriable, timeout_ms=settings.unavailable_timeout_ms
        )
        lease = Lease(answer.lease.ToMilliseconds(), leased)
        messages = [QueueMessage(self, wire, lease) for wire in answer.messages]
        kept = messages[: max(0, self._room)]
        self._room -= len(messages)
        self._ready.extend(kept)
        if kept:
            self._changed.set()
        await _give_back(messages[len(kept) :])


async def _give_back(messages: Sequence[QueueMessage]) -> None:
    """To the queue, or to whoever has them by now."""
    await asyncio.gather(*(message.release() for message in messages), return_exceptions=True)


async def _wait_for(event: asyncio.Event | None) -> None:
    await (asyncio.Event() if event is None else event).wait()
