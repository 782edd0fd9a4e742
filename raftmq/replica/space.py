"""Room on the disk: a node refuses records while it can still afford everything else.

A write that finds no room ends the process, and RocksDB needs room even to delete. So there are two marks:

    free space   |#### FULL ####|####### LOW #######|        AMPLE
                 0           floor / 2            floor

LOW     As a leader the node takes no records, and hands over to a replica in sync that has room. Its own replicas go
        on as ever, but do not count as in sync: neither a producer nor ``min_in_sync_replicas`` should rely on them. So
        one low disk costs a partition a spare, and a majority of low disks stops it before any of them is full.
FULL    As a follower it takes no records either, and no snapshots: it falls behind, instead of ending.

Votes, metadata, trims and deletions go on at any level: they are small, and they are what makes room. A level is left
only when there is a fifth more than the mark, so that it does not flap.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from raftmq.ports import DiskLevel, StorageError
from raftmq.raft.messages import AppendEntries
from raftmq.raft.types import EntryKind

_log = structlog.get_logger(__name__)

LOOK_EVERY_MS = 1_000
RECLAIM_EVERY_S = 30.0
"""While there is too little room: deleted rows give theirs back only when RocksDB rewrites its files."""


@dataclass(frozen=True, slots=True)
class Space:
    """Of a file system, in bytes; ``free`` is what a process without privileges may use."""

    free: int
    capacity: int


def measure(path: Path) -> Space:
    """Ask the file system, which may take its time. Raises OSError."""
    system = os.statvfs(path)
    return Space(system.f_bavail * system.f_frsize, system.f_blocks * system.f_frsize)


class Watermark:
    """From measurements to a level, with hysteresis. The floor is the smaller of a share and a number of bytes."""

    def __init__(self, percent: int, max_bytes: int) -> None:
        self._percent = percent
        self._max_bytes = max_bytes
        self.level = DiskLevel.AMPLE

    def floor(self, space: Space) -> int:
        """Below so many free bytes records are refused."""
        return min(space.capacity * self._percent // 100, self._max_bytes)

    def observe(self, space: Space) -> DiskLevel:
        """The level now."""
        floor = self.floor(space)
        if space.free < self._mark(floor // 2, DiskLevel.FULL):
            self.level = DiskLevel.FULL
        elif space.free < self._mark(floor, DiskLevel.LOW):
            self.level = DiskLevel.LOW
        else:
            self.level = DiskLevel.AMPLE
        return self.level

    def _mark(self, mark: int, level: DiskLevel) -> int:
        """Where `level` begins; where it ends, if it holds now."""
        return mark + mark // 5 if self.level >= level else mark


class SpaceWatch:
    """Looks again and again, on a thread of its own, from ``start`` to ``stop``.

    ``changed`` is called on the loop with each new level; ``reclaim`` off the loop, with the bytes that it may take
    before it gives any; ``failed`` if it meets a broken disk.
    """

    def __init__(
        self,
        look: Callable[[], Space],
        watermark: Watermark,
        changed: Callable[[DiskLevel], None],
        reclaim: Callable[[int], None],
        failed: Callable[[StorageError], None],
    ) -> None:
        self._look = look
        self._watermark = watermark
        self._changed = changed
        self._reclaim = reclaim
        self._failed = failed
        self._reclaimed_at: float | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.space: Space | None = None
        """As of the last look."""

    @property
    def level(self) -> DiskLevel:
        return self._watermark.level

    @property
    def floor(self) -> int:
        """Bytes below which records are refused; 0 before the first look."""
        return 0 if self.space is None else self._watermark.floor(self.space)

    async def start(self) -> None:
        """Return when the level is known."""
        await self.look()
        self._task = asyncio.create_task(self._run(), name="disk-space")

    async def stop(self) -> None:
        """Return when nothing of this touches the disk any more. Idempotent."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def look(self) -> None:
        """Measure, tell what changed, and make room where there is too little."""
        try:
            space = self.space = await asyncio.to_thread(self._look)
        except OSError as error:
            _log.warning("the file system does not say how much room it has", error=str(error))
            return
        before = self.level
        level = self._watermark.observe(space)
        if level is not before:
            told = _log.info if level is DiskLevel.AMPLE else _log.warning
            told("room on the disk", level=level.name.lower(), free=space.free, floor=self.floor)
            self._changed(level)
        if level is not DiskLevel.AMPLE and self._is_time():
            await self._make_room(space)

    def _is_time(self) -> bool:
        return self._reclaimed_at is None or time.monotonic() - self._reclaimed_at >= RECLAIM_EVERY_S

    async def _make_room(self, space: Space) -> None:
        try:
            await asyncio.to_thread(self._reclaim, space.free // 2)
        except StorageError as error:
            self._failed(error)
        self._reclaimed_at = time.monotonic()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(LOOK_EVERY_MS / 1000):
                    await self._stopping.wait()
            except TimeoutError:
                await self.look()


def takes(level: DiskLevel, message: object) -> bool:
    """Whether there is room for what a leader sends: a full disk takes no records. What else there is in a log is
    small, and may free some. To the leader it is as if the message were lost: it tries again, seldom and empty."""
    if level is not DiskLevel.FULL or not isinstance(message, AppendEntries):
        return True
    return all(entry.kind is not EntryKind.DATA for entry in message.entries)
