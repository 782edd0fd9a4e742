"""Request and reply over topics, by two headers.

    requester ── raftmq-reply-to: replies, raftmq-correlation-id: 7f.. ──> topic or exchange ──> responder
              <───────────────────── topic "replies", raftmq-correlation-id: 7f.. ──────────────────┘

A convention between clients; the broker knows nothing of it. Requests and replies are records like others: kept,
ordered, replicated. Several requesters may share a topic for replies; each leaves alone what it did not ask for.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from uuid import uuid4

from raftmq.client.consumer import Consumer
from raftmq.client.exchange_types import Published
from raftmq.client.exchanges import Exchanges
from raftmq.client.fetcher import FetchSettings
from raftmq.client.once import send_once
from raftmq.client.publishing import publish, raise_failure
from raftmq.client.router import Router
from raftmq.client.types import Acks, ConsumedRecord, Headers, Isolation, NewRecord
from raftmq.errors import DeadlineExceeded, InvalidArgument, Outcome, RaftmqError, Unavailable

REPLY_TO = "raftmq-reply-to"
"""Header of a request: the topic that the reply is expected in."""
CORRELATION_ID = "raftmq-correlation-id"
"""Header of a request, and of its reply: tells which belong together."""

_READING = FetchSettings(
    max_bytes=1024 * 1024,
    max_wait_ms=1_000,
    isolation=Isolation.COMMITTED,
    prefetch_bytes=1024 * 1024,
    unavailable_timeout_ms=120_000,
    skip_trimmed=True,
    rack="",
)
"""What is trimmed before it is read answers nobody who still waits."""


def header(record: ConsumedRecord, name: str) -> bytes | None:
    """The first header of this name; None: the record has none."""
    return next((value for found, value in record.headers if found == name), None)


def reply_record(request: ConsumedRecord, value: bytes | None, headers: Headers) -> tuple[str, NewRecord]:
    """The topic that a reply to `request` goes to, and the reply. Raises InvalidArgument where nobody asked for one."""
    reply_to = header(request, REPLY_TO)
    if not reply_to:
        raise InvalidArgument(f"the record has no header {REPLY_TO}: nobody waits for a reply", field="record")
    correlation_id = header(request, CORRELATION_ID)
    told = [] if correlation_id is None else [(CORRELATION_ID, correlation_id)]
    # As its key the id spreads replies over the partitions.
    return reply_to.decode(), NewRecord(value, correlation_id, [*headers, *told])


class Requester:
    """Sends requests, and reads the replies to them from one topic. Made by `Client.requester`, for an ``async with``
    block; several requests may wait at once."""

    def __init__(self, reply_to: str, router: Router, exchanges: Exchanges) -> None:
        self.reply_to = reply_to
        # From the present end on, which is known before the first request is sent.
        self._consumer = Consumer(reply_to, router, _READING, partitions=None, start="latest", until=None)
        self._router = router
        self._exchanges = exchanges
        self._waiting: dict[bytes, asyncio.Future[ConsumedRecord]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._failure: RaftmqError | None = None

    async def request(
        self,
        value: bytes | None,
        *,
        topic: str = "",
        exchange: str = "",
        routing_key: str = "",
        key: bytes | None = None,
        headers: Headers = (),
        timeout_ms: int = 30_000,
    ) -> ConsumedRecord:
        """Send a request to a topic, or to an exchange, and return the first reply to it.

        The request is a record as any other, and stays one: it may be answered after this has given up. Whoever sends
        it again asks a second time.

        Raises Unroutable where an exchange leads nowhere, DeadlineExceeded (UNKNOWN) without a reply, and what sending
        and reading raise.
        """
        if bool(topic) == bool(exchange):
            raise InvalidArgument("name either a topic or an exchange that the request goes to", field="topic")
        if self._reading is None:
            raise RuntimeError("the requester is not open: use it inside `async with`")
        if self._reading.done():
            raise self._ended()
        correlation_id = uuid4().hex
        told = [(REPLY_TO, self.reply_to.encode()), (CORRELATION_ID, correlation_id.encode())]
        record = NewRecord(value, key, [*headers, *told])
        reply: asyncio.Future[ConsumedRecord] = asyncio.get_running_loop().create_future()
        self._waiting[correlation_id.encode()] = reply
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                if topic:
                    await send_once(
                        self._router, topic, [record], correlation_id, partition=None, acks=Acks.ALL,
                        timeout_ms=timeout_ms,
                    )  # fmt: skip
                else:
                    raise_failure(await self._publish(exchange, record, routing_key, correlation_id, timeout_ms))
                return await reply
        except TimeoutError:
            raise DeadlineExceeded(
                f"no reply in topic {self.reply_to} within {timeout_ms} ms", outcome=Outcome.UNKNOWN
            ) from None
        finally:
            del self._waiting[correlation_id.encode()]
            reply.cancel()

    async def _publish(
        self, exchange: str, record: NewRecord, routing_key: str, message_id: str, timeout_ms: int
    ) -> Published:
        return await publish(
            self._router,
            exchange,
            [record],
            routing_key=routing_key,
            headers=record.headers,
            mandatory=True,
            acks=Acks.ALL,
            message_id=message_id,
            min_version=self._exchanges.version,
            timeout_ms=timeout_ms,
        )

    async def __aenter__(self) -> Self:
        await self._consumer.__aenter__()
        self._reading = asyncio.create_task(self._read(), name="raftmq-replies")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self._consumer.__aexit__(kind, error, trace)

    async def _read(self) -> None:
        try:
            async for record in self._consumer:
                waiting = self._waiting.get(header(record, CORRELATION_ID) or b"")
                if waiting is not None and not waiting.done():
                    waiting.set_result(record)
        except RaftmqError as error:
            self._failure = error
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(self._ended())

    def _ended(self) -> RaftmqError:
        reason = "the requester is closed" if self._failure is None else self._failure.message
        return Unavailable(f"no more replies are read from topic {self.reply_to}: {reason}", outcome=Outcome.UNKNOWN)
