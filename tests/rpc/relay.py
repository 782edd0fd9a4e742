"""A TCP proxy for one directed link, with the faults that the tests need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from .nodes import PATIENCE_S


class Relay:
    """Forwards connections, until told otherwise. ``forward`` and ``backward`` hold bytes back when cleared."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.forward = asyncio.Event()
        self.backward = asyncio.Event()
        self.forward.set()
        self.backward.set()
        self.port = 0
        self.connections = 0
        self.chunks = 0
        self._changed = asyncio.Event()

    async def start(self) -> Relay:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def refuse(self) -> None:
        """Stop listening and cut every connection, as when a process dies."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Close every connection. New ones are served."""
        for writer in self._writers:
            writer.transport.abort()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that a new connection or passing bytes make true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._changed.set()
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except ConnectionError:
            writer.close()
            return
        self._writers |= {writer, up_writer}
        for source, target, gate in ((reader, up_writer, self.forward), (up_reader, writer, self.backward)):
            task = asyncio.create_task(self._copy(source, target, gate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                await gate.wait()
                target.write(data)
                await target.drain()
                self.chunks += 1
                self._changed.set()
        target.close()
