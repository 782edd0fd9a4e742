"""As much of HTTP/1.1 (RFC 9112) as a scraper and a health check need: GET and HEAD of a few paths, one request a
connection. Whoever is on the other side may be slow, rude or many: sizes, times and connections are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from raftmq.config import Address

_log = structlog.get_logger(__name__)

REQUEST_BYTES_MAX = 8 * 1024
"""Request line and headers."""
REQUEST_TIMEOUT_S = 5.0
RESPONSE_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 32
TEXT = "text/plain; charset=utf-8"

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 431: "Request Header Fields Too Large",
            500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: str = TEXT


Route = Callable[[], Awaitable[Response]]


class HttpServer:
    """Answers `routes` by their path, whatever stands behind a question mark; everything else is 404."""

    def __init__(self, address: Address, routes: Mapping[str, Route]) -> None:
        self._address = address
        self._routes = dict(routes)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; the port. Raises OSError where the address is taken or is no address of this machine."""
        server = await asyncio.start_server(
            self._connected, self._address.host, self._address.port, limit=REQUEST_BYTES_MAX
        )
        self._server = server
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop listening and cut what is open. Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for connection in self._connections:
                connection.cancel()
            if self._connections:
                await asyncio.wait(self._connections)
            await server.wait_closed()

    # -- a connection ------------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            # It went, or was too slow, or the node stops: in each case there is nobody left to tell.
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            method, response = "GET", Response(431, b"the request is too large\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        else:
            method, response = await self._answer(head)
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            writer.write(_head(response))
            if method != "HEAD":
                writer.write(response.body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def _answer(self, head: bytes) -> tuple[str, Response]:
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        method, _, rest = line.partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            return "GET", Response(400, b"not a request of HTTP/1\n")
        route = self._routes.get(target.partition("?")[0]) if method in ("GET", "HEAD") else None
        if route is None:
            return method, Response(404, f"there are: {' '.join(sorted(self._routes))}\n".encode())
        try:
            return method, await route()
        except Exception as error:  # noqa: BLE001  one page that fails must cost neither the others nor the node
            _log.error("a page failed with a bug", path=target, exc_info=error)
            return method, Response(500, b"this page failed; the node's log says why\n")


def _head(response: Response) -> bytes:
    return (
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\n"
        f"Content-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n"
        "\r\n"
    ).encode("ascii")
