"""ProduceStream: the requests of Produce, many under way at once, each with a result of its own.

    requests ──> reader ──> begun at once, or one task for each batch ──> results ──> client
                   │  waits for room: batches whose results the client has not taken yet are bounded

The reader finds each batch's partition before it looks at the next request, and tasks start in the order in which they
were made, so that batches reach a partition led here in the order sent. For the same reason none waits for a leader,
and nothing is begun at once while a task has yet to end. Results that are there at the same time make one message, for
clients who have said that they understand it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from raftmq import status
from raftmq.broker.deadlines import CALL_MAX_MS, CallContext
from raftmq.broker.dispatch import Settle, Target
from raftmq.broker.streaming import Routed, Stream
from raftmq.rpc.interceptor import tell
from raftmq.v1 import broker_pb2

METHOD = "/raftmq.v1.Broker/Produce"
IN_FLIGHT_MAX = 128
"""Batches of one stream whose results the client has not taken yet; the next request is not read before."""
IN_FLIGHT_BYTES_MAX = 16 * 1024 * 1024

Outcome = Callable[[], broker_pb2.ProduceResponse]
"""Makes the response, or raises what Produce would have ended with."""


async def produce_stream(calls: Routed, stream: Stream) -> None:
    """Serve one stream until the client has closed its side and has every result.

    Where it ends otherwise (a message that is none, the node's own end), reading stops; whatever was under way by then
    still gets its result before the status is told.
    """
    pipeline = _Pipeline(calls, stream)
    reader = asyncio.create_task(stream.unless_ended(pipeline.read()), name="produce-stream-reader")
    try:
        await pipeline.send_results(reader)
        reader.result()
    finally:
        reader.cancel()
        await asyncio.wait({reader})
        await pipeline.cancel()


class _Pipeline:
    """The batches of one stream that are under way, and the results that wait to be sent."""

    def __init__(self, calls: Routed, stream: Stream) -> None:
        self._calls = calls
        self._stream = stream
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: deque[tuple[int, Outcome, int]] = deque()
        """Correlation id, result, bytes of the request."""
        self._joins = False
        self._count = 0
        self._bytes = 0
        # Invariant: both cover what is in _tasks and in _results.
        self._changed = asyncio.Event()
        """Set for the reader (room) and for the sender (results): each looks again at what it waits for."""

    async def read(self) -> None:
        """Take requests until there are no more. Raises InvalidArgument on bytes that are none."""
        async for request in self._stream.requests():
            size = request.ByteSize()
            while not self._fits(size):
                self._changed.clear()
                await self._changed.wait()
            self._count += 1
            self._bytes += size
            self._joins = self._joins or request.join_results
            await self._start(request, size)

    def _fits(self, size: int) -> bool:
        """A request that is larger than the bound fits when it is alone."""
        return not self._count or (self._count < IN_FLIGHT_MAX and self._bytes + size <= IN_FLIGHT_BYTES_MAX)

    async def _start(self, request: broker_pb2.ProduceStreamRequest, size: int) -> None:
        context = CallContext.starting(CALL_MAX_MS, patient=False)

        def settle(outcome: Outcome) -> None:
            self._results.append((request.correlation_id, outcome, size))
            self._changed.set()

        try:
            target = await self._calls.target(METHOD, request.produce, context)
            if not self._tasks and self._calls.begin(METHOD, request.produce, target, context, settle):
                return
        except Exception as error:  # noqa: BLE001  one bad request must not end the stream
            settle(partial(_raise, error))
            return
        task = asyncio.create_task(self._append(request, target, context, settle), name="produce-stream-batch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _append(
        self, request: broker_pb2.ProduceStreamRequest, target: Target, context: CallContext, settle: Settle
    ) -> None:
        try:
            response = await self._calls.answer(METHOD, request.produce, target, context)
        except Exception as error:  # noqa: BLE001
            settle(partial(_raise, error))
        else:
            settle(lambda: response)

    async def send_results(self, reader: asyncio.Task[None]) -> None:
        """Send results as they come, until `reader` is done and nothing is under way."""
        reader.add_done_callback(lambda _: self._changed.set())
        while self._count or not reader.done():
            if not self._results:
                self._changed.clear()
                await self._changed.wait()
                continue
            count = len(self._results) if self._joins else 1
            taken = [self._results.popleft() for _ in range(count)]
            first, *others = (self._told(correlation_id, outcome) for correlation_id, outcome, _ in taken)
            first.more.extend(others)
            await self._stream.send(first)
            self._count -= count
            self._bytes -= sum(size for _, _, size in taken)
            self._changed.set()

    def _told(self, correlation_id: int, outcome: Outcome) -> broker_pb2.ProduceStreamResponse:
        try:
            return broker_pb2.ProduceStreamResponse(correlation_id=correlation_id, response=outcome())
        except Exception as error:  # noqa: BLE001  a result like any other
            told = status.to_message(tell(self._stream.name, error))
            return broker_pb2.ProduceStreamResponse(correlation_id=correlation_id, error=told)

    async def cancel(self) -> None:
        """The client has gone: stop waiting. What was appended stays appended."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))


def _raise(error: Exception) -> NoReturn:
    raise error
