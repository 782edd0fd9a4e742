"""The one way in for requests and the one way out for errors, of every method of every listener.

A request is waited for and measured here, before anybody parses it; what a method raises becomes a status with raftmq's
trailers, and is counted. Installed once per listener, around every method, those of libraries too, so that no service
can forget it; a method that does not exist gets an answer of the same kind.

A text from inside never reaches a client: an exception that is no ``RaftmqError`` is logged under an id, and the client
is told the id.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from raftmq import status
from raftmq.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    MessageTooLarge,
    Outcome,
    Overloaded,
    RaftmqError,
    Unimplemented,
)

_log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # the stubs' generics cannot be subscripted when they run
    Context, Handler = aio.ServicerContext, grpc.RpcMethodHandler

_EOF = cast(Any, aio).EOF
"""What reading gives where the client has closed its side; the stubs do not know it."""
_GONE = cast(Any, aio).InternalError
"""What writing raises where the client is no longer there."""
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
UNKNOWN_METHOD = "unknown"
"""Under this name calls of methods that do not exist are counted: their own would be a label for every bad guess."""
NAME_SHOWN = 100
"""Characters of a method's name that an error repeats."""
RETRY_AFTER_MS = 1_000
"""What a call too many is told to wait."""

Behaviour = Callable[[Any, Context], Awaitable[Any]]
Parse = Callable[[bytes], Any]


@dataclass(frozen=True)
class CallLimits:
    """What a listener allows. gRPC's own limits lie above these: its refusals carry no trailers."""

    message_bytes: int
    """Largest request, or message of a stream, uncompressed."""
    calls: int = 4_096
    """Calls under way at once, streams and long polls among them."""
    arrival_s: float = 30.0
    """How long the one request of a unary call may take to arrive, once its headers have."""


class CallCounts:
    """How calls ended, per method and reason ("OK" for an answer)."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, method: str, reason: str) -> None:
        self._counts[method, reason] += 1

    def snapshot(self) -> dict[tuple[str, str], int]:
        """(method, reason) -> calls, sorted."""
        return dict(sorted(self._counts.items()))


class CallInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # cannot be subscripted when it runs
    """See the module docstring."""

    def __init__(self, counts: CallCounts, limits: CallLimits) -> None:
        self._counts = counts
        self._limits = limits
        self._under_way = 0
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    @property
    def under_way(self) -> int:
        """Calls that have begun and not ended."""
        return self._under_way

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if not handler:  # None, whatever the stubs say: no such method
            return self._unknown(method)
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        """`handler` as one that is given a stream of bytes: gRPC would wait for a unary request without a limit, and
        end a call whose request cannot be parsed with a bare INTERNAL."""
        kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
        behaviour = cast(Behaviour, getattr(handler, kind))
        if inspect.isasyncgenfunction(behaviour):
            behaviour = _written(behaviour)
        parse = handler.request_deserializer or bytes
        asks, answers = kind.split("_")
        behaviour = self._one_request(behaviour, parse) if asks == "unary" else self._requests(behaviour, parse)
        make = getattr(grpc, f"stream_{answers}_rpc_method_handler")
        wrapped: Handler = make(self._guarded(method, behaviour), response_serializer=handler.response_serializer)
        return wrapped

    def _unknown(self, method: str) -> Handler:
        async def refused(_requests: AsyncIterator[bytes], _context: Context) -> NoReturn:
            raise Unimplemented(f"this node has no method {method[:NAME_SHOWN]}")

        made: Handler = grpc.stream_stream_rpc_method_handler(self._guarded(UNKNOWN_METHOD, refused))
        return made

    def _guarded(self, method: str, behaviour: Behaviour) -> Behaviour:
        """`behaviour` while there are not too many calls already, whose errors end the call with a status."""

        async def admitted(request: Any, context: Context) -> Any:
            if self._under_way >= self._limits.calls:
                raise Overloaded(
                    f"{self._limits.calls} calls are under way on this node already", retry_after_ms=RETRY_AFTER_MS
                )
            self._under_way += 1
            try:
                return await behaviour(request, context)
            finally:
                self._under_way -= 1

        return guarded(method, admitted, self._counts)

    def _one_request(self, behaviour: Behaviour, parse: Parse) -> Behaviour:
        async def call(_requests: AsyncIterator[bytes], context: Context) -> Any:
            try:
                async with asyncio.timeout(self._limits.arrival_s) as arrival:
                    data = await context.read()
            except TimeoutError:
                if not arrival.expired():
                    raise
                raise DeadlineExceeded(
                    f"the request has not arrived within {self._limits.arrival_s:g} s", outcome=Outcome.NOT_APPLIED
                ) from None
            if data is _EOF:
                raise InvalidArgument("the call ended without a request")
            return await behaviour(self._parsed(cast(bytes, data), parse), context)

        return call

    def _requests(self, behaviour: Behaviour, parse: Parse) -> Behaviour:
        async def parsed(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
            async for data in requests:
                yield self._parsed(data, parse)

        async def call(requests: AsyncIterator[bytes], context: Context) -> Any:
            return await behaviour(parsed(requests), context)

        return call

    def _parsed(self, data: bytes, parse: Parse) -> Any:
        if len(data) > self._limits.message_bytes:
            raise MessageTooLarge(f"the request has {len(data)} bytes, at most {self._limits.message_bytes}")
        try:
            return parse(data)
        except DecodeError:
            raise InvalidArgument("the request cannot be parsed") from None


def _written(behaviour: Callable[[Any, Context], AsyncGenerator[Any, None]]) -> Behaviour:
    """A behaviour that yields its responses, as one that writes them."""

    async def call(request: Any, context: Context) -> None:
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    return call


def guarded(method: str, behaviour: Behaviour, counts: CallCounts) -> Behaviour:
    """`behaviour`, whose errors end the call with a status. Cancellation passes: there is nobody left to tell.

    A stream's behaviour writes its responses itself and returns None.
    """

    async def call(request: Any, context: Context) -> Any:
        try:
            response = await behaviour(request, context)
        except aio.AbortError:
            counts.add(method, "ABORTED")
            raise
        except _GONE:
            # It has left in the middle of an answer: a cancellation that gRPC has yet to tell of.
            raise asyncio.CancelledError from None
        except Exception as error:  # noqa: BLE001  the edge of the process
            told = tell(method, error)
            counts.add(method, told.reason)
            await refuse(context, told)
        counts.add(method, "OK")
        return response

    return call


async def refuse(context: Context, error: RaftmqError) -> None:
    """End the call with the status that tells `error`. Does not return."""
    wire = status.encode(error)
    await context.abort(grpc.StatusCode[wire.code], wire.message, trailing_metadata=wire.trailers)


def tell(method: str, error: Exception) -> RaftmqError:
    """What a client may know of `error`: all of a RaftmqError, of a bug an id that stands in the log."""
    if isinstance(error, RaftmqError):
        return error
    error_id = secrets.token_hex(8)
    _log.error("a call failed with a bug", method=method, error_id=error_id, exc_info=error)
    return InternalError(f"internal error {error_id}: the node's log has the details under this id")
