"""Is the process at an address gone? Asked right after a live stream to it ended.

The question has to have a *proof* as its answer, because followers start an election on it. A gRPC server greets
every connection with its HTTP/2 SETTINGS, so:

    connection refused, or reset while connecting   nobody listens there           -> GONE
    accepted, then closed before the greeting       a proxy without its upstream   -> GONE
    the greeting arrives                            alive                          -> ALIVE
    silence, or no route                            the network may be at fault    -> UNKNOWN
"""

from __future__ import annotations

import asyncio
import socket
from enum import Enum

_CLIENT_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""Connection preface and an empty SETTINGS frame (RFC 9113, section 3.4)."""


class Verdict(Enum):
    """What a probe found out."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


async def probe(host: str, port: int, timeout_s: float) -> Verdict:
    """Connect to a gRPC server without TLS and wait for its greeting, at most `timeout_s` in all.

    A name with several addresses is gone when all of them are.
    """
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = {str(info[4][0]) for info in found}
            verdicts = set(await asyncio.gather(*(_greet(address, port) for address in addresses)))
    except OSError:  # TimeoutError, no such name: says nothing about the process
        return Verdict.UNKNOWN
    for verdict in (Verdict.ALIVE, Verdict.UNKNOWN):
        if verdict in verdicts:
            return verdict
    return Verdict.GONE


async def _greet(address: str, port: int) -> Verdict:
    try:
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(_CLIENT_GREETING)
            greeting = await reader.read(1)
        finally:
            writer.transport.abort()
    except ConnectionError:
        return Verdict.GONE
    except OSError:  # no route
        return Verdict.UNKNOWN
    return Verdict.ALIVE if greeting else Verdict.GONE
