"""The listener for clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection as grpc_reflection

from raftmq.broker import health
from raftmq.broker.calls import Calls
from raftmq.broker.dispatch import Method, StreamMethod, services
from raftmq.broker.quotas import FETCHING, FREE, client_of
from raftmq.replica.budget import Budget
from raftmq.rpc.interceptor import Behaviour, CallCounts, CallInterceptor, CallLimits, Context

ANSWER_BYTES = 1024 * 1024
"""What an answer with records is expected to take when it is asked for."""
BARE_FACTOR = 2
"""gRPC's own limits are so many times raftmq's: between the two a refusal carries trailers, above it cannot."""


def server_options(max_message_bytes: int) -> tuple[tuple[str, int], ...]:
    """gRPC's settings for clients, who may be anywhere and may mean harm."""
    return (
        ("grpc.max_receive_message_length", BARE_FACTOR * max_message_bytes),
        # Answers are bounded by what they answer. A limit below that would make an error without trailers of them.
        ("grpc.max_send_message_length", -1),
        # Two processes would share the port, and each lose half of the connections to the other.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", 1_024),
        ("grpc.server_handshake_timeout_ms", 10_000),
        # A client that waits in a long poll may ask every few seconds whether the node is still there. Faster ones
        # are a flood, and are sent away.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        # Clients that vanished without a word must not hold their calls for ever.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
    )


class ClientServer:
    """Listens for clients on one event loop: every method of the table, ``grpc.health.v1``, and nothing else.

    `reflection`: also tell anybody who asks which services and messages there are, for tools like grpcurl.
    """

    def __init__(
        self,
        address: str,
        calls: Calls,
        *,
        max_message_bytes: int,
        max_concurrent_calls: int = CallLimits.calls,
        counts: CallCounts | None = None,
        budget: Budget | None = None,
        reflection: bool = False,
    ) -> None:
        self.counts = CallCounts() if counts is None else counts
        self._address = address
        self._calls = calls
        self._limits = CallLimits(max_message_bytes, max_concurrent_calls)
        self._budget = Budget(0) if budget is None else budget
        self._reflection = reflection
        self._services = tuple(service.full_name for service in services())
        self._health = health.Health(self._services)
        self._server: aio.Server | None = None

    async def start(self) -> int:
        """Listen; the port. Raises OSError where the address is taken or is no address of this machine."""
        server = aio.server(
            interceptors=(CallInterceptor(self.counts, self._limits),),
            options=server_options(self._limits.message_bytes),
            maximum_concurrent_rpcs=BARE_FACTOR * self._limits.calls,
        )
        server.add_generic_rpc_handlers(tuple(_handlers(self._calls, self._budget)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._reflection:
            names = (*self._services, health.SERVICE, grpc_reflection.SERVICE_NAME)
            grpc_reflection.enable_server_reflection(names, server)
        try:
            port = int(server.add_insecure_port(self._address))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address}: {error}") from None
        await server.start()
        self._server = server
        return port

    def leave(self) -> None:
        """Serve on, but let whoever asks after this node's health know that it will stop. Idempotent."""
        self._health.leave()

    async def stop(self, grace_s: float | None) -> None:
        """Take no more calls, let those under way end within `grace_s` seconds, then cut them. Idempotent.

        Streams would not end by themselves: they are told.
        """
        server, self._server = self._server, None
        self._health.end()
        if server is not None:
            self._calls.end_streams()
            await server.stop(grace_s)


def _handlers(calls: Calls, budget: Budget) -> list[grpc.GenericRpcHandler[Any, Any]]:
    """Without serializers: a request stays bytes until ``Calls`` reads it, and can be handed on as it came."""
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method in calls.methods.values():
        _, service, name = method.name.split("/")
        by_service.setdefault(service, {})[name] = grpc.unary_unary_rpc_method_handler(
            _behaviour(calls, method, budget)
        )
    for stream in calls.streams.values():
        _, service, name = stream.name.split("/")
        by_service.setdefault(service, {})[name] = grpc.stream_stream_rpc_method_handler(_streaming(calls, stream))
    return [grpc.method_handlers_generic_handler(service, handlers) for service, handlers in by_service.items()]


def _behaviour(calls: Calls, method: Method, budget: Budget) -> Behaviour:
    serve = _within_quotas(calls, method)
    if not budget.limit or method.name.startswith(FREE):
        return serve
    expected = ANSWER_BYTES if method.name in FETCHING else 0

    async def call(request: bytes, context: Context) -> bytes:
        size = len(request)
        budget.check(size + expected)
        budget.take(size)
        try:
            response = await serve(request, context)
        finally:
            budget.give(size)
        answer = len(response)
        budget.take(answer)
        # gRPC holds the answer until the client has taken it, however long that takes.
        context.add_done_callback(cast(Any, lambda _: budget.give(answer)))
        return response

    return call


def _within_quotas(calls: Calls, method: Method) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def call(request: bytes, context: Context) -> bytes:
        remaining_s = context.time_remaining()
        remaining_ms = None if remaining_s is None else remaining_s * 1000
        quotas = calls.quotas
        if not quotas.active:
            return await calls.serve(method.name, request, remaining_ms)
        client = client_of(context.invocation_metadata(), context.peer())
        quotas.admit(client, method.name, len(request))
        response = await calls.serve(method.name, request, remaining_ms)
        quotas.answered(client, method.name, len(response))
        return response

    return call


def _streaming(calls: Calls, method: StreamMethod) -> Behaviour:
    async def call(requests: AsyncIterator[bytes], context: Context) -> None:
        # Quotas may be set while the stream is open.
        quotas, client = calls.quotas, client_of(context.invocation_metadata(), context.peer())

        async def send(response: bytes) -> None:
            await context.write(response)
            if quotas.active:
                quotas.answered(client, method.name, len(response))
                await quotas.until_paid(client, method.name)

        await calls.serve_stream(method.name, quotas.paced(requests, client, method.name), send)

    return call
