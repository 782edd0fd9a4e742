"""Work: Receive and the verdicts in one stream. Each of its requests is routed by itself, so any node serves it.

    reader ──> credit ──> pull: Receive in a loop ──────────┐
       └─────> one task for each verdict ── its result ─────┴──> client

A verdict that is refused is a result like any other. The stream ends when the client has closed its side and has every
result, or with the error that Receive ends with; what is leased by then stays so until its lease is over. What is to be
published with an acknowledgement may wait for room, so it counts apart: the next request is read all the same, for it
may be the verdict that makes room.
"""

from __future__ import annotations

import asyncio

from raftmq import status
from raftmq.broker.deadlines import CALL_MAX_MS, CallContext
from raftmq.broker.queues import receiving
from raftmq.broker.streaming import Routed, Stream
from raftmq.errors import InvalidArgument, Overloaded, QueuePaused, RaftmqError
from raftmq.rpc.interceptor import tell
from raftmq.v1 import queue_pb2

POLL_MS = 20_000
"""How long one Receive waits; the client notices nothing of the next one."""
MESSAGES_MAX = 1_000
"""Of one answer."""
CREDIT_MAX = 2**63 - 1
VERDICTS_MAX = 64
"""Under way at once; the next request is not read before."""
PUBLISHED_MAX = 64
PUBLISHED_BYTES_MAX = 16 * 1024 * 1024
"""Of what is to be published, at once; one alone may be larger."""
RETRY_MS = 100
_PUBLISHING = "ack_and_publish"
_VERDICTS = {
    _PUBLISHING: "/raftmq.v1.Queue/AckAndPublish",
    "ack": "/raftmq.v1.Queue/Ack",
    "release": "/raftmq.v1.Queue/Release",
    "retry": "/raftmq.v1.Queue/Retry",
    "park": "/raftmq.v1.Queue/Park",
    "extend": "/raftmq.v1.Queue/Extend",
}


async def work(calls: Routed, stream: Stream) -> None:
    """Serve one stream. Raises InvalidArgument, and what Receive raises."""
    requests = stream.requests()
    first = await stream.unless_ended(anext(requests, None))
    if first is None:
        return
    if not first.HasField("subscription"):
        raise InvalidArgument("is required in the first message", field="subscription")
    worker = _Worker(calls, stream, first.subscription)
    await worker.check()
    pulling = asyncio.create_task(worker.pull(), name="queue-work")
    pulling.add_done_callback(lambda task: _pass_on(stream, task))
    try:
        await stream.unless_ended(worker.read(requests))
    except asyncio.CancelledError:
        worker.leave()
        raise
    finally:
        pulling.cancel()
        await asyncio.wait({pulling})
        await worker.settled()


class _Worker:
    """One stream: what it may take, and the verdicts under way."""

    def __init__(self, calls: Routed, stream: Stream, subscription: queue_pb2.ReceiveRequest) -> None:
        self._calls = calls
        self._stream = stream
        self._subscription = subscription
        self._messages = self._bytes = 0
        # Invariant: bytes may fall below zero, by one answer.
        self._granted = asyncio.Event()
        self._verdicts: set[asyncio.Task[None]] = set()
        self._published: dict[asyncio.Task[None], int] = {}
        """With the bytes of each."""
        self._sending = asyncio.Lock()

    async def check(self) -> None:
        """Raises what is wrong with the subscription."""
        try:
            await self._calls.target(receiving.METHOD, self._request(0), CallContext.starting(receiving.LIMIT_MS))
        except RaftmqError as error:
            if error.field:
                error.field = f"subscription.{error.field}"
            raise

    async def read(self, requests: object) -> None:
        """Take what the client says until it closes its side."""
        async for request in requests:  # type: ignore[attr-defined]
            which = request.WhichOneof("request")
            if which == "credit":
                self._messages = min(self._messages + request.credit.messages, CREDIT_MAX)
                self._bytes = min(self._bytes + request.credit.bytes, CREDIT_MAX)
                self._granted.set()
            elif which == _PUBLISHING:
                await self._publish(request)
            elif which in _VERDICTS:
                while len(self._verdicts) >= VERDICTS_MAX:
                    await asyncio.wait(self._verdicts, return_when=asyncio.FIRST_COMPLETED)
                task = asyncio.create_task(self._settle(which, request), name="queue-work-verdict")
                self._verdicts.add(task)
                task.add_done_callback(self._verdicts.discard)
            else:
                raise InvalidArgument("only the first message subscribes", field="subscription")
        await self.settled()

    async def _publish(self, request: queue_pb2.WorkRequest) -> None:
        size, taken = request.ByteSize(), sum(self._published.values())
        if self._published and (len(self._published) >= PUBLISHED_MAX or taken + size > PUBLISHED_BYTES_MAX):
            told = f"{len(self._published)} of this stream are under way, with {taken} bytes"
            result = queue_pb2.VerdictResult(correlation_id=request.correlation_id)
            result.error.CopyFrom(status.to_message(Overloaded(told, field=_PUBLISHING, retry_after_ms=RETRY_MS)))
            await self._send(queue_pb2.WorkResponse(verdict=result))
            return
        task = asyncio.create_task(self._settle(_PUBLISHING, request), name="queue-work-publish")
        self._published[task] = size
        task.add_done_callback(self._published.pop)

    async def settled(self) -> None:
        """Every verdict under way has its result."""
        under_way = {*self._verdicts, *self._published}
        try:
            if under_way:
                await asyncio.wait(under_way)
        except asyncio.CancelledError:
            self.leave()
            raise

    def leave(self) -> None:
        """The client has gone: what waits for room is not published."""
        for task in self._published:
            task.cancel()

    async def pull(self) -> None:
        """Receive as far as there is credit."""
        while True:
            while self._messages <= 0 or self._bytes <= 0:
                self._granted.clear()
                await self._granted.wait()
            request, context = self._request(POLL_MS), CallContext.starting(CALL_MAX_MS)
            try:
                target = await self._calls.target(receiving.METHOD, request, context)
                answer: queue_pb2.ReceiveResponse = await self._calls.answer(receiving.METHOD, request, target, context)
            except QueuePaused as paused:
                await asyncio.sleep(max(100, paused.retry_after_ms) / 1000)
                continue
            if answer.messages:
                self._messages -= len(answer.messages)
                self._bytes -= sum(message.record.ByteSize() for message in answer.messages)
                await self._send(queue_pb2.WorkResponse(messages=answer))

    def _request(self, wait_ms: int) -> queue_pb2.ReceiveRequest:
        request = queue_pb2.ReceiveRequest()
        request.CopyFrom(self._subscription)
        request.max_messages = max(1, min(self._messages, MESSAGES_MAX))
        request.max_bytes = max(1, min(self._bytes, receiving.BYTES_DEFAULT))
        request.max_wait.FromMilliseconds(wait_ms)
        return request

    async def _settle(self, which: str, request: queue_pb2.WorkRequest) -> None:
        result = queue_pb2.VerdictResult(correlation_id=request.correlation_id)
        verdict, context = getattr(request, which), CallContext.starting(CALL_MAX_MS)
        try:
            target = await self._calls.target(_VERDICTS[which], verdict, context)
            answer = await self._calls.answer(_VERDICTS[which], verdict, target, context)
        except Exception as error:  # noqa: BLE001  one bad verdict must not end the stream
            result.error.CopyFrom(status.to_message(tell(self._stream.name, error)))
        else:
            result.failures.extend(getattr(answer, "failures", ()))
            result.already_processed.extend(getattr(answer, "already_processed", ()))
            result.at_end.extend(getattr(answer, "at_end", ()))
            if which == _PUBLISHING and answer.HasField("receipt"):
                result.receipt.CopyFrom(answer.receipt)
        await self._send(queue_pb2.WorkResponse(verdict=result))

    async def _send(self, response: queue_pb2.WorkResponse) -> None:
        async with self._sending:
            await self._stream.send(response)


def _pass_on(stream: Stream, task: asyncio.Task[None]) -> None:
    """What ends the pulling ends the stream."""
    if not task.cancelled() and (error := task.exception()) is not None:
        stream.end(error if isinstance(error, Exception) else RuntimeError(repr(error)))
