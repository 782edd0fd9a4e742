"""CPU time, memory and bytes written of processes, from /proc, read once a second while something runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from raftmq.cli.bench.figures import slope

INTERVAL_SECONDS = 1.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one process at one moment."""

    at: float
    cpu_seconds: float
    """Since its start, in user and system mode, of all threads."""
    memory_bytes: int
    """Resident."""
    written_bytes: int
    """Handed to the block layer since its start; 0 where the system does not say."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process over the time that it was watched."""

    name: str
    cpu_share: float
    """Of one core: 1.0 is a core all the time."""
    memory_first: int
    memory_max: int
    memory_last: int
    """Bytes, resident."""
    memory_slope: float
    """Bytes per minute, least squares, after the warm-up."""
    written_bytes: int


def read(pid: int) -> Reading:
    """Raises OSError if there is no such process."""
    process = Path("/proc") / str(pid)
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    # Fields 14 and 15 of proc(5); the first two, with the name in parentheses, are cut off.
    ticks = int(fields[11]) + int(fields[12])
    pages = int((process / "statm").read_text().split()[1])
    return Reading(time.monotonic(), ticks / _TICKS_PER_SECOND, pages * _PAGE_BYTES, _written(process))


def _written(process: Path) -> int:
    with suppress(OSError):  # a kernel without accounting, or somebody else's process
        for line in (process / "io").read_text().splitlines():
            name, _, value = line.partition(": ")
            if name == "write_bytes":
                return int(value)
    return 0


def summarise(name: str, readings: Sequence[Reading], warm_up: float = 0.0) -> Usage:
    """`readings` must not be empty, and in order of time; the growth of memory is that after `warm_up` seconds."""
    first, last = readings[0], readings[-1]
    settled = [reading for reading in readings if reading.at >= first.at + warm_up]
    elapsed = last.at - first.at
    return Usage(
        name=name,
        cpu_share=(last.cpu_seconds - first.cpu_seconds) / elapsed if elapsed > 0 else 0.0,
        memory_first=first.memory_bytes,
        memory_max=max(reading.memory_bytes for reading in readings),
        memory_last=last.memory_bytes,
        memory_slope=slope([(reading.at, float(reading.memory_bytes)) for reading in settled]) * 60,
        written_bytes=last.written_bytes - first.written_bytes,
    )


class Watch:
    """Readings of some processes. One that ends keeps those it has."""

    def __init__(self, processes: Mapping[str, int], warm_up: float = 0.0) -> None:
        self._processes = dict(processes)
        self._warm_up = warm_up
        self._readings: dict[str, list[Reading]] = {name: [] for name in processes}

    def look(self) -> None:
        for name, pid in self._processes.items():
            with suppress(OSError):
                self._readings[name].append(read(pid))

    def usage(self) -> tuple[Usage, ...]:
        seen = ((name, readings) for name, readings in self._readings.items() if readings)
        return tuple(summarise(name, readings, self._warm_up) for name, readings in seen)


@asynccontextmanager
async def watching(processes: Mapping[str, int], warm_up: float = 0.0) -> AsyncIterator[Watch]:
    """Look at processes (name and pid) at the start, every second, and at the end of the block. `warm_up`: seconds that
    the growth of memory leaves out."""
    watch = Watch(processes, warm_up)

    async def every_second() -> None:
        while True:
            watch.look()
            await asyncio.sleep(INTERVAL_SECONDS)

    task = asyncio.create_task(every_second())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])
        watch.look()
