"""The little HTTP server: what it answers, and to whom it does not listen for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from raftmq.config import Address
from raftmq.observe import http
from raftmq.observe.http import HttpServer, Response
from tests.observe.asking import ask, get


async def page() -> Response:
    return Response(200, b"well\n")


async def ill() -> Response:
    return Response(503, b"ill\n")


async def broken() -> Response:
    raise ValueError("swordfish")


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    server = HttpServer(Address("127.0.0.1", 0), {"/page": page, "/ill": ill, "/broken": broken})
    yield server
    await server.close()


async def test_a_page_comes_whole_and_the_connection_ends(server: HttpServer) -> None:
    port = await server.start()
    head, body = (await ask(port, get("/page"))).split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Length: 5",
        b"Cache-Control: no-store",
        b"Connection: close",
    ]
    assert body == b"well\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/page?x=1"), b"200 OK"),
        (get("/ill"), b"503 Service Unavailable"),
        (get("/"), b"404 Not Found"),
        (get("/page/"), b"404 Not Found"),
        (get("/page", "POST"), b"404 Not Found"),
        (get("/../../etc/passwd"), b"404 Not Found"),
        (b"\r\n\r\n", b"400 Bad Request"),
        (b"GET /page\r\n\r\n", b"400 Bad Request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\xff\xfe\r\n\r\n", b"400 Bad Request"),
        (get("/" + "x" * http.REQUEST_BYTES_MAX), b"431 Request Header Fields Too Large"),
        (b"x" * (4 * http.REQUEST_BYTES_MAX), b"431 Request Header Fields Too Large"),
    ],
)
async def test_status_lines(server: HttpServer, request_: bytes, status: bytes) -> None:
    port = await server.start()
    assert (await ask(port, request_)).startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert (await ask(port, get("/page"))).endswith(b"\r\n\r\nwell\n")


async def test_head_has_no_body(server: HttpServer) -> None:
    port = await server.start()
    answer = await ask(port, get("/page", "HEAD"))
    assert b"Content-Length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_page_that_fails_is_a_line_in_the_log_and_says_nothing_outside(server: HttpServer) -> None:
    port = await server.start()
    with capture_logs() as logs:
        answer = await ask(port, get("/broken"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"swordfish" not in answer
    assert [str(line["exc_info"]) for line in logs] == ["swordfish"]


async def test_whoever_says_nothing_is_cut_off(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 0.01)
    port = await server.start()
    assert await ask(port, b"GET /page HTTP/1.1\r\n") == b""
    monkeypatch.undo()
    assert (await ask(port, get("/page"))).endswith(b"well\n")


async def test_a_connection_too_many_is_cut_off_and_the_next_one_served(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 1)
    port = await server.start()
    _, idle = await asyncio.open_connection("127.0.0.1", port)
    assert await ask(port, get("/page")) == b""
    idle.close()
    await idle.wait_closed()
    while not (answer := await ask(port, get("/page"))):
        continue  # the server has not seen the other one go yet
    assert answer.endswith(b"well\n")


async def test_close_cuts_what_is_open_and_frees_the_port(server: HttpServer) -> None:
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await ask(port, get("/page"))).endswith(b"well\n")
    await server.close()
    await server.close()
    assert await reader.read() == b""
    writer.close()
    again = HttpServer(Address("127.0.0.1", port), {})
    assert await again.start() == port
    await again.close()


async def test_a_taken_port_is_an_error(server: HttpServer) -> None:
    port = await server.start()
    with pytest.raises(OSError, match="address already in use"):
        await HttpServer(Address("127.0.0.1", port), {}).start()
