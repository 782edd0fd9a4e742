from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.broker.cluster import Node, running
from tests.clock import LoopClock


@pytest.fixture
async def clock() -> LoopClock:
    return LoopClock()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """Node 1: it leads the controller and all partitions but partition 1 of "orders"."""
    async with running(1) as nodes:
        yield nodes[0]


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Node, Node]]:
    """Nodes 1 and 2, which reach each other."""
    async with running(1, 2) as nodes:
        yield nodes[0], nodes[1]
