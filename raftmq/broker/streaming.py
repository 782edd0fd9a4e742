"""What streams have in common: messages in, messages out, and an end from either side.

A stream's handler is one task that sends; a second one reads, because a client may say something at any moment. What
the reader finds wrong, and the node's own end, reach the handler through ``Stream.end``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Settle, StreamMethod, Target
from raftmq.broker.parsing import parse
from raftmq.broker.patience import Patience

T = TypeVar("T")
Send = Callable[[bytes], Awaitable[None]]
"""Writes one serialised response. Returns when gRPC has taken it, which it does not while the client reads nothing."""


class Routed(Protocol):
    """This node's calls, for the requests that a stream carries."""

    async def target(self, name: str, request: Message, context: CallContext) -> Target: ...
    async def answer(self, name: str, request: Message, target: Target, context: CallContext) -> Any: ...
    def begin(self, name: str, request: Message, target: Target, context: CallContext, settle: Settle) -> bool: ...
    def patience(self, context: CallContext) -> Patience: ...


class Stream:
    """One stream of a client."""

    def __init__(self, method: StreamMethod, requests: AsyncIterator[bytes], send: Send) -> None:
        self.name = method.name
        self._request_class = method.request_class
        self._requests = requests
        self._send = send
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def requests(self) -> AsyncIterator[Any]:
        """What the client says, until it closes its side. For one reader. Raises as ``parse`` does."""
        async for data in self._requests:
            yield parse(self._request_class, data)

    async def send(self, response: Message) -> None:
        await self._send(response.SerializeToString())

    def end(self, error: Exception) -> None:
        """Let the handler end the stream with `error`, unless it ends with another one already."""
        if not self._ended.done():
            self._ended.set_exception(error)

    async def unless_ended(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, or what the stream was ended with meanwhile; `work` is cancelled then."""
        task = asyncio.ensure_future(work)
        try:
            either: set[asyncio.Future[Any]] = {task, self._ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._ended.result()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def close(self) -> None:
        """The handler is done."""
        if self._ended.done():
            self._ended.exception()  # seen, whether it was told or came too late
        else:
            self._ended.cancel()
