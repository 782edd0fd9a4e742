"""The one way out for errors: whatever a method raises becomes a status with raftmq's trailers, and is counted.

Installed once per listener, around every method, streams too, so that no service can forget it. A text from inside
never reaches a client: an exception that is no ``RaftmqError`` is logged under an id, and the client is told the id.
"""

from __future__ import annotations

import inspect
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import grpc
import structlog
from grpc import aio

from raftmq import status
from raftmq.errors import InternalError, RaftmqError

_log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # the stubs' generics cannot be subscripted when they run
    Context, Handler = aio.ServicerContext, grpc.RpcMethodHandler

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

Behaviour = Callable[[Any, Context], Awaitable[Any]]


class CallCounts:
    """How calls ended, per method and reason ("OK" for an answer)."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, method: str, reason: str) -> None:
        self._counts[method, reason] += 1

    def snapshot(self) -> dict[tuple[str, str], int]:
        """(method, reason) -> calls, sorted."""
        return dict(sorted(self._counts.items()))


class ErrorInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # cannot be subscripted when it runs
    """See the module docstring."""

    def __init__(self, counts: CallCounts) -> None:
        self._counts = counts
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        if not handler:  # None, whatever the stubs say: no such method, which gRPC answers with UNIMPLEMENTED
            return handler
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(method, handler))
        return known[1]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
        behaviour = cast(Behaviour, getattr(handler, kind))
        if inspect.isasyncgenfunction(behaviour):
            behaviour = _written(behaviour)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        wrapped: Handler = make(
            guarded(method, behaviour, self._counts), handler.request_deserializer, handler.response_serializer
        )
        return wrapped


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
