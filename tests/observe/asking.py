"""A client for the http port, no cleverer than needed."""

from __future__ import annotations

import asyncio


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode()


async def ask(port: int, request: bytes) -> bytes:
    """All that comes back until the server ends the connection, in order or not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def page(port: int, path: str) -> tuple[int, str]:
    """(status, body)."""
    head, _, body = (await ask(port, get(path))).partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()
