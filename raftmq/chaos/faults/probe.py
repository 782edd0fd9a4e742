"""A look through a proxy from outside: what a new connection meets there is the proof of a network fault.

The probe speaks just enough HTTP/2 to be answered by any gRPC server: preface and an empty SETTINGS frame, which the
server answers with its own; then, if asked to, pings.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from raftmq.chaos.proxies import HOST

HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)


@dataclass(slots=True)
class Seen:
    """Times in milliseconds from the attempt to connect."""

    connected: bool = False
    answered_ms: int | None = None
    reads: int = 0
    bytes: int = 0
    ended: str = ""
    """``refused``, ``closed``, ``reset`` or, if it was still open at the end of the wait, empty."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def look(port: int, seconds: float, *, pings: int = 0) -> Seen:
    """Connect to a port of loopback, say hello, and watch for so long; without pings, until the first answer."""
    loop = asyncio.get_running_loop()
    began, seen = loop.time(), Seen()
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(HOST, port)
            seen.connected = True
            try:
                writer.write(HELLO + PING * pings)
                while data := await reader.read(65536):
                    seen.answered_ms = seen.answered_ms or max(1, round((loop.time() - began) * 1000))
                    seen.reads += 1
                    seen.bytes += len(data)
                    if not pings:
                        return seen
                seen.ended = "closed"
            finally:
                writer.close()
    except TimeoutError:
        return seen
    except ConnectionRefusedError:
        seen.ended = "refused"
    except OSError:
        seen.ended = "reset"
    return seen
