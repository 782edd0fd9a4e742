"""One ProduceStream to one node: the requests of Produce, many under way at once, each with a result of its own.

    produce ──> queues ──> writer ──> node ──> reader ──> whoever waits
                by partition           a stream is opened for the first request, and after its end for the next one

A message of a stream costs both sides less than a call. For that the client looks after what gRPC does for calls:
everybody who waits has a time of their own, and what is under way when the stream ends is told so. What had left by
then may have been applied; what had not, surely was not.

A node reads no further while a stream has so and so much under way, and then everything that has left stands in one
line: a partition that does not answer would soon keep all others. So nothing leaves that would have to wait there, and
a partition has no more under way than there is room left: one that is stuck leaves half of the window, two leave a
third, and n of them the (n + 1)th part (A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds for
shared-memory packet switches", 1998).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

import grpc.aio

from raftmq import status
from raftmq.client.retry import with_outcome
from raftmq.errors import DeadlineExceeded, Outcome, RaftmqError, Unavailable
from raftmq.v1 import broker_pb2

if TYPE_CHECKING:
    Call = grpc.aio.StreamStreamCall[broker_pb2.ProduceStreamRequest, broker_pb2.ProduceStreamResponse]

LATE = "DEADLINE_EXCEEDED"
WINDOW = 128
WINDOW_BYTES = 16 * 1024 * 1024
"""What a node takes of one stream before it reads no further: requests, and their bytes."""

Partition = tuple[str, int]


class ProduceStream:
    """Sends requests to one node, on one stream after the other. `translate` makes a raftmq error of one of gRPC."""

    def __init__(self, open_call: Callable[[], Call], translate: Callable[[grpc.aio.AioRpcError], RaftmqError]) -> None:
        self._open_call = open_call
        self._translate = translate
        self._session: _Session | None = None

    @property
    def under_way(self) -> int:
        """Requests that wait for their result."""
        return 0 if self._session is None else len(self._session.waiting)

    async def produce(self, request: broker_pb2.ProduceRequest, *, timeout_ms: int) -> broker_pb2.ProduceResponse:
        """The result of `request`, in `timeout_ms` (of which the node gets nine tenths). Those for a partition leave in
        the order of these calls. Raises RaftmqError; "bare" (`status.is_bare`) where the node has not said it."""
        if self._session is None or self._session.is_over:
            self._session = _Session(self._open_call, self._translate)
        return await self._session.produce(request, timeout_ms)

    async def close(self) -> None:
        """Cut the stream. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class _Waiting:
    """One request that has no result yet."""

    __slots__ = ("answer", "has_left", "message", "partition", "size")

    def __init__(self, message: broker_pb2.ProduceStreamRequest) -> None:
        self.message = message
        self.partition = (message.produce.topic, message.produce.partition)
        self.size = message.ByteSize()
        self.answer: asyncio.Future[broker_pb2.ProduceResponse] = asyncio.get_running_loop().create_future()
        self.has_left = False

    def fail(self, error: RaftmqError) -> None:
        """With what is known of the outcome when nobody has told it."""
        if not self.answer.done():
            outcome = Outcome.UNKNOWN if self.has_left else Outcome.NOT_APPLIED
            self.answer.set_exception(with_outcome(error, outcome))

    def expire(self) -> None:
        # What never left says nothing against the node: no other one need be tried first.
        metadata = {"grpc_code": LATE} if self.has_left else {}
        self.fail(DeadlineExceeded("no result came in time", metadata=metadata))


class _Window:
    """What is under way on one stream: requests and their bytes, in all and by partition."""

    def __init__(self) -> None:
        self._count = self._bytes = 0
        self._parts: dict[Partition, tuple[int, int]] = {}

    def fits(self, waiting: _Waiting) -> bool:
        """A node takes any request of a stream with nothing under way; each partition may have one where there is room
        at all."""
        if not self._count:
            return True
        room, room_bytes = WINDOW - self._count - 1, WINDOW_BYTES - self._bytes - waiting.size
        if room < 0 or room_bytes < 0:
            return False
        count, size = self._parts.get(waiting.partition, (0, 0))
        return not count or (count + 1 <= room and size + waiting.size <= room_bytes)

    def take(self, waiting: _Waiting) -> None:
        self._note(waiting, 1)

    def give(self, waiting: _Waiting) -> None:
        self._note(waiting, -1)

    def _note(self, waiting: _Waiting, change: int) -> None:
        count, size = self._parts.get(waiting.partition, (0, 0))
        count, size = count + change, size + change * waiting.size
        if count:
            self._parts[waiting.partition] = count, size
        else:
            del self._parts[waiting.partition]
        self._count += change
        self._bytes += change * waiting.size


class _Session:
    """One stream, from its opening to its end."""

    def __init__(self, open_call: Callable[[], Call], translate: Callable[[grpc.aio.AioRpcError], RaftmqError]) -> None:
        self.is_over = False
        self.waiting: dict[int, _Waiting] = {}
        """By correlation id."""
        self._translate = translate
        self._numbers = count(1)
        self._queues: dict[Partition, deque[_Waiting]] = {}
        """What has not left, by partition: none is empty, and the first is the one whose turn it is."""
        self._window = _Window()
        self._wake = asyncio.Event()
        self._why: RaftmqError = Unavailable("the stream was closed")
        self._task = asyncio.create_task(self._run(open_call), name="raftmq-produce-stream")
        self._task.add_done_callback(self._ended)

    async def produce(self, request: broker_pb2.ProduceRequest, timeout_ms: int) -> broker_pb2.ProduceResponse:
        number = next(self._numbers)
        request.timeout.FromMilliseconds(max(timeout_ms * 9 // 10, 1))
        message = broker_pb2.ProduceStreamRequest(correlation_id=number, produce=request, join_results=True)
        waiting = self.waiting[number] = _Waiting(message)
        self._queues.setdefault(waiting.partition, deque()).append(waiting)
        self._wake.set()
        timer = asyncio.get_running_loop().call_later(timeout_ms / 1000, waiting.expire)
        try:
            return await waiting.answer
        finally:
            timer.cancel()
            del self.waiting[number]
            if waiting.has_left:
                self._window.give(waiting)
                self._wake.set()
            else:
                self._forget(waiting)

    def _forget(self, waiting: _Waiting) -> None:
        queue = self._queues.get(waiting.partition)
        if queue is not None and waiting in queue:
            queue.remove(waiting)
            if not queue:
                del self._queues[waiting.partition]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self, open_call: Callable[[], Call]) -> None:
        call = open_call()
        writer = asyncio.create_task(self._write(call), name="raftmq-produce-stream-writer")
        writer.add_done_callback(lambda _: call.cancel())  # however it ended: nothing more can be said on this stream
        try:
            self._why = await self._read(call)
        finally:
            writer.cancel()
            await asyncio.wait({writer})
            if not writer.cancelled():
                writer.exception()  # seen: the reader has told what there is to tell

    def _ended(self, _: asyncio.Task[None]) -> None:
        self.is_over = True
        for waiting in self.waiting.values():
            waiting.fail(self._why)

    async def _read(self, call: Call) -> RaftmqError:
        """Hand out results until there are no more; why."""
        try:
            async for message in call:
                self._settle(message)
                for result in message.more:
                    self._settle(result)
        except grpc.aio.AioRpcError as rpc_error:
            return self._translate(rpc_error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Unavailable("the stream broke off", metadata={"grpc_code": "CANCELLED"})
        return Unavailable("the node has ended the stream", metadata={"grpc_code": "OK"})

    def _settle(self, result: broker_pb2.ProduceStreamResponse) -> None:
        waiting = self.waiting.get(result.correlation_id)
        if waiting is None or waiting.answer.done():
            return  # it came too late
        if result.HasField("error"):
            waiting.answer.set_exception(status.from_message(result.error))
        else:
            waiting.answer.set_result(result.response)

    async def _write(self, call: Call) -> None:
        while True:
            while (waiting := self._next()) is not None:
                if not waiting.answer.done():  # else it was told that it has not left
                    waiting.has_left = True
                    self._window.take(waiting)
                    await call.write(waiting.message)
            self._wake.clear()
            await self._wake.wait()

    def _next(self) -> _Waiting | None:
        """What may leave now; partitions take turns."""
        fits = self._window.fits
        turn = next((partition for partition, queue in self._queues.items() if fits(queue[0])), None)
        if turn is None:
            return None
        queue = self._queues.pop(turn)
        waiting = queue.popleft()
        if queue:
            self._queues[turn] = queue
        return waiting
