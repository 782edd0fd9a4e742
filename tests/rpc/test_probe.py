"""What proves that a process is gone, and what does not. Real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest_asyncio

from raftmq.rpc.probe import Verdict, probe

from .nodes import PATIENCE_S, Node

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest_asyncio.fixture
async def node() -> AsyncIterator[Node]:
    node = await Node(1).start()
    yield node
    await node.stop()


async def listen(handler: Handler) -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_a_grpc_server_is_alive(node: Node) -> None:
    assert await probe("127.0.0.1", node.port, PATIENCE_S) is Verdict.ALIVE


async def test_a_name_is_alive_when_one_of_its_addresses_is(node: Node) -> None:
    """``localhost`` may be two addresses, of which the node listens on one."""
    assert await probe("localhost", node.port, PATIENCE_S) is Verdict.ALIVE


async def test_a_refused_connection_is_proof(node: Node) -> None:
    await node.stop()
    assert await probe("127.0.0.1", node.port, PATIENCE_S) is Verdict.GONE
    assert await probe("localhost", node.port, PATIENCE_S) is Verdict.GONE


async def test_a_connection_closed_before_the_greeting_is_proof() -> None:
    """So does a proxy whose upstream refuses."""

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server, port = await listen(close)
    assert await probe("127.0.0.1", port, PATIENCE_S) is Verdict.GONE
    server.close()


async def test_a_connection_reset_before_the_greeting_is_proof() -> None:
    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server, port = await listen(reset)
    assert await probe("127.0.0.1", port, PATIENCE_S) is Verdict.GONE
    server.close()


async def test_silence_is_no_proof() -> None:
    ended = asyncio.Event()

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    server, port = await listen(stay_silent)
    assert await probe("127.0.0.1", port, timeout_s=0.05) is Verdict.UNKNOWN
    await asyncio.wait_for(ended.wait(), PATIENCE_S)  # the probe has left nothing open
    server.close()


async def test_an_unknown_name_is_no_proof() -> None:
    assert await probe("no-such-host.invalid", 1, PATIENCE_S) is Verdict.UNKNOWN
