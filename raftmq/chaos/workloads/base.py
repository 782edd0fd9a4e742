"""What workloads share: one run's clock, history and stop signal, and how an error is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from raftmq.chaos.recorder import Recorder
from raftmq.client import Client, RetryPolicy, connect
from raftmq.errors import Outcome, RaftmqError
from raftmq.records.slots import partition_for_key

BACK_OFF_S = 0.2


@dataclass
class Load:
    """What a workload needs of its run. ``stopping`` is set once, at the end of the load."""

    bootstrap: str
    topic: str
    partitions: int
    recorder: Recorder
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    endless: list[asyncio.Task[None]] = field(default_factory=list)
    positions: dict[str, dict[int, int]] = field(default_factory=dict)
    """By consumer: the offset of each partition that it goes on with."""
    is_drained: list[Callable[[Client], Awaitable[bool]]] = field(default_factory=list)
    """Whether endless work has done all that there is to do. May raise RaftmqError."""
    last_readings: list[Callable[[Client], Awaitable[None]]] = field(default_factory=list)
    """Write into the history what is left when all is quiet. May raise RaftmqError."""

    def client(self) -> Client:
        """A client of its own, with connections of its own, as every process of a user has."""
        return connect(self.bootstrap, connect_timeout_ms=120_000, retry=RetryPolicy())

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Work that ends by itself once ``stopping`` is set and all of its operations have an outcome."""
        self.tasks.append(asyncio.create_task(work, name=name))

    def start_endless(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Work that is cancelled when all other work has ended."""
        self.endless.append(asyncio.create_task(work, name=name))

    def partition_of(self, key: bytes) -> int:
        return partition_for_key(key, self.partitions)

    def partition_name(self, partition: int) -> str:
        return f"{self.topic}/{partition}"

    async def pause(self, seconds: float) -> bool:
        """Wait; False where the load ends meanwhile."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return True
        return False


def outcome_of(error: BaseException) -> str:
    """``fail`` where it is sure that nothing was done, ``info`` otherwise, also where it was done nobody says where."""
    return "fail" if isinstance(error, RaftmqError) and error.outcome is Outcome.NOT_APPLIED else "info"


def reason_of(error: BaseException) -> str:
    return error.reason if isinstance(error, RaftmqError) else type(error).__name__


def encode(value: int, size: int) -> bytes:
    """The bytes of a value: its digits, filled up with dots to `size`."""
    return b"%d" % value + b"." * max(0, size - len(str(value)))


def decode(data: bytes | None) -> int:
    """The value of some bytes; -1 where no workload wrote them."""
    digits = (data or b"").rstrip(b".")
    return int(digits) if digits.isdigit() else -1
