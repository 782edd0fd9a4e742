"""A fake cluster of two nodes, and a client of it that backs off for a millisecond."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import raftmq
from raftmq.client import Client, RetryPolicy
from tests.client.fake_broker import FakeCluster, fake_cluster
from tests.clock import LoopClock

QUICK = RetryPolicy(initial_ms=1, max_ms=2)


@pytest.fixture
async def clock() -> LoopClock:
    return LoopClock()


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    async with fake_cluster() as cluster:
        yield cluster


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[Client]:
    async with raftmq.connect(cluster.addresses, retry=QUICK) as client:
        yield client
