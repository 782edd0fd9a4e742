"""Clusters of real processes on free ports, each test with its own."""

from __future__ import annotations

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
    """Ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


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
        for node in running.nodes:
            await running.kill(node)


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
            for node in running.nodes:
                await running.kill(node)
