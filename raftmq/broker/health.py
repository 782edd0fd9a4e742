"""``grpc.health.v1``: for each service of a listener, whether it is served. For load balancers and orchestrators.

All services of a node come and go together: SERVING while it listens, NOT_SERVING from the moment it begins to stop, so
that whoever watches goes elsewhere before calls fail.

The library's own servicer holds a lock while it writes to a watcher: one that does not read would keep the node from
stopping. Here a watcher waits for an event, and nobody waits for a watcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = "grpc.health.v1.Health"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]
else:  # the stubs' generics cannot be subscripted when they run
    Context = aio.ServicerContext


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it has no types
    """The services named, and "" for all of them together."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset({"", *services})
        self._leaving = asyncio.Event()
        self._ended = asyncio.Event()

    def leave(self) -> None:
        """NOT_SERVING from now on. Idempotent."""
        self._leaving.set()

    def end(self) -> None:
        """End the streams of all watchers, which would never end by themselves. Idempotent."""
        self._leaving.set()
        self._ended.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        return health_pb2.HealthCheckResponse(status=_NOT_SERVING if self._leaving.is_set() else _SERVING)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, _context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        if request.service not in self._services:
            yield health_pb2.HealthCheckResponse(status=_UNKNOWN)
        else:
            if not self._leaving.is_set():
                yield health_pb2.HealthCheckResponse(status=_SERVING)
                await self._leaving.wait()
            yield health_pb2.HealthCheckResponse(status=_NOT_SERVING)
        await self._ended.wait()
