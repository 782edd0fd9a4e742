"""One budget for the memory of a node: what calls under way may take, so that it refuses early instead of dying.

    limit  |######## fixed ########|#### under way ####|          free          |
           interpreter, RocksDB,    requests, batches that wait, answers that
           caches, logs: measured   are not sent yet: counted as they come and go

What is *fixed* is what the process has beyond what is counted, by the last look at it, every second. The rest of the
limit is for calls. Memory that was freed may stay with the process, and then looks fixed though it is used again: so a
sixteenth of the limit is left to calls whatever the look says.

``Budget`` is pure; ``MemoryWatch`` looks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from raftmq.errors import MemoryPressure

_log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
RETRY_AFTER_MS = 500
LEAST_SHARE = 16


class Budget:
    """``limit`` in bytes; 0: none, and nothing is refused. ``others``: bytes that are counted elsewhere."""

    def __init__(self, limit: int, others: Callable[[], int] = lambda: 0) -> None:
        self.limit = limit
        self.resident = 0
        """By the last look; 0: nobody has looked."""
        self.refused = 0
        self._others = others
        self._calls = 0
        self._fixed = 0
        self._is_tight = False

    @property
    def used(self) -> int:
        """Bytes of what is under way."""
        return self._calls + self._others()

    @property
    def allowed(self) -> int:
        """What may be under way now."""
        return max(self.limit - self._fixed, self.limit // LEAST_SHARE)

    def observe(self, resident: int) -> bool:
        """The process has so many bytes in memory. Whether it has become tight or ceased to be."""
        self.resident = resident
        self._fixed = max(0, resident - self.used)
        was_tight, self._is_tight = self._is_tight, self.limit > 0 and self._fixed > self.limit * 3 // 4
        return was_tight != self._is_tight

    @property
    def is_tight(self) -> bool:
        """Three quarters of the limit are taken by what calls have no part in."""
        return self._is_tight

    def check(self, size: int) -> None:
        """Raises MemoryPressure where there is no room for `size` more bytes. One thing fits always, whatever its size,
        if nothing else is under way."""
        if self.limit and (used := self.used) and used + size > self.allowed:
            self.refused += 1
            raise MemoryPressure(
                f"calls under way take {used} bytes of {self.allowed} that this node has for them",
                retry_after_ms=RETRY_AFTER_MS,
                metadata={"used": str(used), "allowed": str(self.allowed), "limit": str(self.limit)},
            )

    def take(self, size: int) -> None:
        """`size` bytes more are under way; ``give`` must follow."""
        self._calls += size

    def give(self, size: int) -> None:
        self._calls -= size
        assert self._calls >= 0, "more was given back than taken"


def resident_bytes() -> int:
    """What this process has in memory (resident set)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Tells a budget again and again what the process takes, from ``start`` to ``stop``. ``look``: bytes resident."""

    def __init__(self, budget: Budget, look: Callable[[], int]) -> None:
        self._budget = budget
        self._look = look
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.look()
        self._task = asyncio.create_task(self._run(), name="memory")

    def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()

    def look(self) -> None:
        """Once. Reading /proc takes microseconds and never waits for a disk."""
        budget = self._budget
        if budget.observe(self._look()):
            told = _log.warning if budget.is_tight else _log.info
            told("memory", tight=budget.is_tight, resident=budget.resident, limit=budget.limit, used=budget.used)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()
