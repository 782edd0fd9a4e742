"""The pages of the http port: /metrics, /healthz and /readyz."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, GCCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector, CollectorRegistry

from raftmq.observe import health, metrics
from raftmq.observe.collecting import collect
from raftmq.observe.health import Verdict
from raftmq.observe.http import HttpServer, Response
from raftmq.observe.metrics import Readings
from raftmq.observe.observed import Observed


class Pages:
    """Listens on the node's http port from before its disk is open until after it is closed."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._own = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._own)
        GCCollector(registry=self._own)
        # One thread: scrapes that come faster than they are answered wait for each other, and not for the node's work.
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="raftmq-metrics")
        self._server = HttpServer(
            observed.config.http_bind,
            {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz},
        )

    async def start(self) -> int:
        """Listen; the port. Raises OSError."""
        return await self._server.start()

    async def close(self) -> None:
        await self._server.close()
        self._renderer.shutdown(wait=False, cancel_futures=True)

    async def _healthz(self) -> Response:
        return _response(health.live(self._observed.state()))

    async def _readyz(self) -> Response:
        return _response(health.ready(self._observed.state()))

    async def _metrics(self) -> Response:
        readings = collect(self._observed)
        body = await asyncio.get_running_loop().run_in_executor(self._renderer, self._render, readings)
        return Response(200, body, CONTENT_TYPE_PLAIN_0_0_4)

    def _render(self, readings: Readings) -> bytes:
        _disk(readings, self._observed.config.data_directory)
        return generate_latest(_Scrape(readings, self._own))


class _Scrape(CollectorRegistry):
    """One scrape: the node's readings, and what Prometheus's library tells of any process."""

    def __init__(self, readings: Readings, own: Collector) -> None:
        super().__init__()
        self._readings = readings
        self._process = own

    def collect(self) -> Iterator[Family]:
        yield from self._readings.families()
        yield from self._process.collect()


def _response(verdict: Verdict) -> Response:
    return Response(200 if verdict.is_well else 503, str(verdict).encode())


def _disk(readings: Readings, directory: Path) -> None:
    """Asks the file system, which may take its time: not on the event loop."""
    try:
        system = os.statvfs(directory)
    except FileNotFoundError:
        return  # the node has not made it yet
    readings.put(metrics.STORAGE_FREE, system.f_bavail * system.f_frsize)
    readings.put(metrics.STORAGE_CAPACITY, system.f_blocks * system.f_frsize)
    readings.put(metrics.STORAGE_SIZE, _size(directory))


def _size(directory: Path) -> int:
    """Bytes of all files below a directory. Files come and go meanwhile."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:
            continue
    return total
