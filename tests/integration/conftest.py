"""Clusters of real processes on free ports, each test with its own."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from raftmq.cli.supervisor import LocalCluster
from raftmq.config import ClusterConfig
from raftmq.config.models import NodeEntry
from tests.integration.links import Links

StartCluster = Callable[..., Awaitable[LocalCluster]]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, from below the range that the kernel takes for outgoing connections.

    A node takes seconds to listen on its own: test processes that run side by side choose from ranges of their own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    begin = 20_000 + worker % 8 * 1_500
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(begin, begin + 1_500)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def configuration(directory: Path, links: Links | None = None) -> ClusterConfig:
    """Three nodes; with `links`, each dials the others through them."""
    ports = free_ports(9)
    nodes = []
    for number in (1, 2, 3):
        client, peer, http = ports[3 * number - 3 : 3 * number]
        overrides = {} if links is None else links.overrides(number)
        nodes.append(
            NodeEntry(
                id=number,
                client_port=client,
                peer_port=peer,
                http_port=http,
                data=directory / f"n{number}",
                rack=f"r{number}",
                peer_overrides=overrides,
            )
        )
    return ClusterConfig(cluster="integration", nodes=tuple(nodes))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """Three nodes that are up and know each other."""
    running = LocalCluster(configuration(tmp_path))
    try:
        await running.start_all()
        await running.wait_ready()
        yield running
    finally:
        await end(running)


@pytest.fixture
async def linked(tmp_path: Path) -> AsyncIterator[tuple[LocalCluster, Links]]:
    """Three nodes that are up, and every directed link between them in the test's hand."""
    async with Links() as links:
        await links.listen()
        config = configuration(tmp_path, links)
        links.targets = {node.id: node.peer_port for node in config.nodes}
        running = LocalCluster(config)
        try:
            await running.start_all()
            await running.wait_ready()
            yield running, links
        finally:
            await end(running)


async def end(running: LocalCluster) -> None:
    """Kill what runs. The logs are shown where the test failed."""
    for node in running.nodes:
        await running.kill(node)
        print(f"--- node {node}", running.log_tail(node, 40), sep="\n")
