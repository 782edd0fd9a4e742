"""``raftmq bench floor``: what bare gRPC calls and the bare disk do on this machine, now."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from raftmq.cli.bench import echo
from raftmq.cli.bench.figures import Spread, spread_of
from raftmq.cli.bench.result import MEGABYTE, Figure, Floor, Latency, Result
from raftmq.cli.bench.stage import free_ports
from raftmq.cli.bench.workers import working

MESSAGE = 100
BATCH = 100_000
"""Bytes: of a small record, and of a batch of a thousand of them."""
WRITES = (4_096, 100_000)
MANY = 64
STREAM_WINDOW = 8
"""Messages of a stream under way: as many as a producer has batches."""


@dataclass(frozen=True, slots=True)
class Floors:
    """Latencies in seconds, rates per second."""

    unary_one: Spread
    unary_many: float
    stream_small: float
    stream_large: float
    sync_small: Spread
    sync_large: Spread

    @property
    def calls(self) -> Floor:
        return Floor(f"bare unary echo, {MANY} in flight", self.unary_many)

    @property
    def stream(self) -> Floor:
        return Floor(f"bare stream echo of {MESSAGE} B, {STREAM_WINDOW} in flight", self.stream_small)

    @property
    def stream_megabytes(self) -> Floor:
        return Floor("bare stream echo of 100 KB", self.stream_large * BATCH / MEGABYTE)

    @property
    def durable_call(self) -> Floor:
        """Of a record that travels alone: there and back, and one sync."""
        return Floor("bare unary echo + fdatasync of 4 KB", self.unary_one.p50 + self.sync_small.p50)

    def result(self, directory: Path) -> Result:
        return Result(
            benchmark="floor",
            setting=f"two processes over loopback, grpc.aio with uvloop; files in {directory}",
            figures=(
                Figure(f"unary echo of {MESSAGE} B, {MANY} in flight", self.unary_many, "calls/s"),
                Figure(f"stream echo of {MESSAGE} B, {STREAM_WINDOW} in flight", self.stream_small, "messages/s"),
                Figure("stream echo of 100 KB", self.stream_large, "messages/s"),
                Figure("stream echo of 100 KB", self.stream_large * BATCH / MEGABYTE, "MB/s"),
            ),
            latencies=(
                Latency(f"unary echo of {MESSAGE} B, one in flight", self.unary_one),
                Latency("fdatasync after 4 KB", self.sync_small),
                Latency("fdatasync after 100 KB", self.sync_large),
            ),
        )


async def measure(directory: Path, seconds: float) -> Floors:
    """Each of the six measurements for `seconds`, one after the other; files are made in `directory`."""
    (port,) = free_ports(1)
    async with working([echo.Echo(port)]) as (server,):
        server.begin()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=echo.OPTIONS) as channel:
            unary = channel.unary_unary(echo.UNARY, None, None)
            await unary(b"", wait_for_ready=True)
            one = await _unary(unary, 1, seconds)
            many = await _unary(unary, MANY, seconds)
            small = await _stream(channel, MESSAGE, seconds)
            large = await _stream(channel, BATCH, seconds)
    sync_small, sync_large = [await asyncio.to_thread(_sync, directory, size, seconds) for size in WRITES]
    return Floors(spread_of(one), len(many) / seconds, small, large, sync_small, sync_large)


async def _unary(call: Callable[[bytes], Awaitable[bytes]], in_flight: int, seconds: float) -> list[float]:
    """Latencies of all calls."""
    latencies: list[float] = []
    end = time.monotonic() + seconds
    message = os.urandom(MESSAGE)

    async def caller() -> None:
        while (began := time.monotonic()) < end or not latencies:
            await call(message)
            latencies.append(time.monotonic() - began)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return latencies


async def _stream(channel: grpc.aio.Channel, size: int, seconds: float) -> float:
    """Messages that came back, per second."""
    message = os.urandom(size)
    stream = channel.stream_stream(echo.STREAM, None, None)(None)
    window = asyncio.Semaphore(STREAM_WINDOW)
    began = time.monotonic()

    async def send() -> None:
        while time.monotonic() - began < seconds:
            await window.acquire()
            await stream.write(message)
        await stream.done_writing()

    sending = asyncio.ensure_future(send())
    received = 0
    async for _ in stream:
        received += 1
        window.release()
    await sending
    return received / (time.monotonic() - began)


def _sync(directory: Path, size: int, seconds: float) -> Spread:
    """Of appending `size` bytes to a file and making them durable."""
    content = os.urandom(size)
    latencies: list[float] = []
    with tempfile.TemporaryFile(dir=directory) as file:
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end or not latencies:
            os.write(file.fileno(), content)
            os.fdatasync(file.fileno())
            latencies.append(time.monotonic() - began)
    return spread_of(latencies)
