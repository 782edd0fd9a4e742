"""A look through a proxy from outside: what a new connection meets there is the proof of a network fault.

The probe speaks just enough HTTP/2 to be answered by any gRPC server: preface, an empty SETTINGS frame and pings. A
server says its own SETTINGS unasked; only the answer to a ping shows that both directions work.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from raftmq.chaos.proxies import HOST

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)
PONG = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + bytes(8)


@dataclass(slots=True)
class Seen:
    """Times in milliseconds from the attempt to connect."""

    connected: bool = False
    pongs: int = 0
    answered_ms: int | None = None
    """When the first ping was answered."""
    done_ms: int | None = None
    """When all were, or the connection ended."""
    reads: int = 0
    bytes: int = 0
    ended: str = ""
    """``refused``, ``closed`` or ``reset``; empty where it was open to the last."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def look(port: int, seconds: float, *, pings: int = 1) -> Seen:
    """Connect to a port of loopback, send pings, and watch until all are answered, it ends, or the time is over."""
    loop = asyncio.get_running_loop()
    began, seen = loop.time(), Seen()

    def elapsed_ms() -> int:
        return max(1, round((loop.time() - began) * 1000))

    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(HOST, port)
            seen.connected = True
            try:
                writer.write(HELLO + PING * pings)
                received = b""
                while seen.pongs < pings and (data := await reader.read(65536)):
                    received += data
                    seen.reads += 1
                    seen.bytes = len(received)
                    seen.pongs = received.count(PONG)
                    if seen.pongs and seen.answered_ms is None:
                        seen.answered_ms = elapsed_ms()
                if seen.pongs < pings:
                    seen.ended = "closed"
                seen.done_ms = elapsed_ms()
            finally:
                writer.close()
    except TimeoutError:
        return seen
    except ConnectionRefusedError:
        seen.ended = "refused"
    except OSError:
        seen.ended, seen.done_ms = "reset", elapsed_ms()
    return seen


async def closing_ms(port: int, seconds: float) -> int | None:
    """How long after we have ended a connection the other side ends it too. None where it had not after `seconds`.

    Raises OSError where nobody answers on it before.
    """
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        async with asyncio.timeout(seconds):
            writer.write(HELLO + PING)
            try:
                await reader.readuntil(PONG)
            except asyncio.IncompleteReadError as error:
                raise OSError(f"port {port} of {HOST} ends the connection") from error
        began = loop.time()
        writer.write_eof()
        try:
            async with asyncio.timeout(seconds):
                while await reader.read(65536):
                    pass
        except TimeoutError:
            return None
        return round((loop.time() - began) * 1000)
    finally:
        writer.close()
