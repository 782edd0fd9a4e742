"""One small TCP forwarder for each directed link between nodes, so that a test can cut a link and mend it.

A cut link is a black hole: bytes are taken and dropped, connections stay open. Toxiproxy does more, and is what the
chaos experiments use; this needs nothing but the standard library.
"""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import Self

from raftmq.config import Address

NODES = (1, 2, 3)


class Links:
    """All directed links between nodes 1, 2 and 3."""

    def __init__(self) -> None:
        self.targets: dict[int, int] = {}
        """Peer port of each node."""
        self._servers: dict[tuple[int, int], asyncio.Server] = {}
        self._cut: set[tuple[int, int]] = set()
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        return self

    async def listen(self) -> None:
        for source, target in permutations(NODES, 2):
            self._servers[source, target] = await asyncio.start_server(
                lambda reader, writer, link=(source, target): self._serve(link, reader, writer),  # type: ignore[misc]
                "127.0.0.1",
                0,
            )

    def overrides(self, source: int) -> dict[int, Address]:
        """Where `source` must dial each other node."""
        return {
            target: Address("127.0.0.1", server.sockets[0].getsockname()[1])
            for (start, target), server in self._servers.items()
            if start == source
        }

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.close()
        for writer in self._open:
            writer.close()

    def isolate(self, node: int) -> None:
        """Cut every link to and from `node`."""
        self._cut |= {link for link in self._servers if node in link}

    def heal(self) -> None:
        self._cut.clear()
        # A stream must not go on with a hole in it.
        for writer in list(self._open):
            writer.close()

    async def _serve(self, link: tuple[int, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self.targets[link[1]])
        except OSError:
            writer.close()
            self._open.discard(writer)
            return
        self._open.add(onward)
        await asyncio.gather(self._pump(link, reader, onward), self._pump((link[1], link[0]), onward_reader, writer))
        self._open -= {writer, onward}

    async def _pump(self, link: tuple[int, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if link not in self._cut:
                    writer.write(data)
                    await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()
