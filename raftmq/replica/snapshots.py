"""Snapshots between nodes, for those who await: one side reads and paces, the other one writes and asks for more.

The receiver pulls: it takes the next part when the one before is written. So neither side holds more than a few parts
in memory, and a transfer is as slow as the slower of the two disks. It has a connection of its own; heartbeats and
appends do not wait behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from raftmq.errors import DataLoss, Overloaded, RaftmqError, Unavailable
from raftmq.ids import Generation, GroupId, LogIndex, NodeId
from raftmq.measure import Distribution
from raftmq.ports import SnapshotEntries, SnapshotPart, SnapshotState, StorageError
from raftmq.records.entry import LogEntry
from raftmq.replica.cut import PART_BYTES, Cut, take_cut
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.installing import SnapshotOrder
from raftmq.replica.manager import Replicas

_log = structlog.get_logger(__name__)

AT_ONCE = 2
"""Snapshots that one node sends, and that it receives, at the same time. The others wait, or come again."""
CUT_TRIES = 200
CUT_PAUSE_S = 0.01

WRITTEN_TIMEOUT_S = 30.0
"""A receiver whose disk hangs lets its source go, which serves others meanwhile."""

TRANSFER_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)

Fetch = Callable[[NodeId, GroupId, LogIndex], AsyncGenerator[SnapshotPart, None]]
"""(node, group, first entry wanted) -> parts. Raises RaftmqError, or ValueError for what is no part."""


@dataclass(slots=True)
class Transfers:
    """What was sent, or fetched, since the start of the process."""

    begun: int = 0
    done: int = 0
    failed: int = 0
    """Broken off, for whatever reason: another one goes on from there."""
    bytes: int = 0
    """Of entries and state."""
    seconds: Distribution = field(default_factory=partial(Distribution, TRANSFER_SECONDS))
    """How long those took that came to their end."""

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around a transfer."""
        self.begun += 1
        began = asyncio.get_running_loop().time()
        try:
            yield
        except BaseException:
            self.failed += 1
            raise
        self.done += 1
        self.seconds.add(asyncio.get_running_loop().time() - began)

    def carried(self, part: SnapshotPart) -> None:
        match part:
            case SnapshotEntries(entries):
                self.bytes += sum(entry.size for entry in entries)
            case SnapshotState(rows):
                self.bytes += sum(len(key) + len(value) for _, key, value in rows)


class LogReader(Protocol):
    """Reads a log off the loop."""

    async def read_entries(
        self, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int
    ) -> list[LogEntry]: ...


class SnapshotSender:
    """Answers those who fetch, each at `bytes_per_s` at most."""

    def __init__(self, replicas: Replicas, reader: LogReader, bytes_per_s: int) -> None:
        self._replicas = replicas
        self._reader = reader
        self.part_bytes = PART_BYTES
        """About how much goes into one part."""
        self._bytes_per_s = bytes_per_s
        self._sending = 0
        self.stats = Transfers()

    async def send(self, group_id: GroupId, from_index: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        """The parts of a snapshot of this node's replica, as of now. Raises Overloaded, Unavailable, DataLoss."""
        if self._sending >= AT_ONCE:
            raise Overloaded(f"this node is sending {self._sending} snapshots already", retry_after_ms=1000)
        self._sending += 1
        try:
            with self.stats.one():
                cut = await self._cut(group_id, from_index)
                async with aclosing(self._parts(group_id, cut)) as parts:
                    async for part in parts:
                        self.stats.carried(part)
                        yield part
        finally:
            self._sending -= 1

    async def _parts(self, group_id: GroupId, cut: Cut) -> AsyncGenerator[SnapshotPart, None]:
        head = cut.head
        _log.info("sending snapshot", group=group_id, first=head.first_index, last=head.meta.index)
        yield head
        index = head.first_index
        while index <= head.meta.index:
            entries = await self._read(group_id, cut, index)
            index = LogIndex(entries[-1].index + 1)
            yield SnapshotEntries(tuple(entries))
            await asyncio.sleep(sum(entry.size for entry in entries) / self._bytes_per_s)
        for part in cut.ending(self.part_bytes):
            yield part

    async def _cut(self, group_id: GroupId, from_index: LogIndex) -> Cut:
        """Under load something is often applied that is not durable here yet: wait for a moment without."""
        failed: ReplicaGroup | None = None
        for _ in range(CUT_TRIES):
            group = self._replicas.group(group_id)
            if group is None:
                break
            try:
                cut = take_cut(group, from_index)
            except StorageError as error:
                if failed is group:  # the second time, as with any read
                    self._replicas.damage.found(group, str(error))
                    raise DataLoss(f"the log of group {group_id} cannot be read on this node") from error
                failed, cut = group, None
            if cut is not None:
                return cut
            await asyncio.sleep(CUT_PAUSE_S)
        raise Unavailable(f"this node has no replica of group {group_id} that could be copied now")

    async def _read(self, group_id: GroupId, cut: Cut, index: LogIndex) -> list[LogEntry]:
        for is_last in (False, True):  # what is damaged stays damaged; a bit that was flipped on its way does not
            try:
                return await self._reader.read_entries(cut.generation, index, cut.head.meta.index, self.part_bytes)
            except DataLoss as loss:
                group = self._replicas.group(group_id)
                if group is None or group.generation != cut.generation or group.row.raft_start > index:
                    raise Unavailable(f"entry {index} of group {group_id} was trimmed meanwhile") from None
                if is_last:
                    self._replicas.damage.found(group, loss.message)
                    raise
        raise AssertionError("the last try answers or raises")


class SnapshotReceiver:
    """Fetches what ``Installs`` orders. A fetch that fails is not tried again here: the leader's next order is."""

    def __init__(self, replicas: Replicas, fetch: Fetch) -> None:
        self._replicas = replicas
        self._fetch = fetch
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.stats = Transfers()

    def ordered(self, order: SnapshotOrder) -> None:
        """Begin, soon."""
        task = asyncio.get_running_loop().create_task(self._receive(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _receive(self, order: SnapshotOrder) -> None:
        log = _log.bind(group=order.group, source=order.node, first=order.from_index)
        try:
            async with self._turn:
                log.info("fetching snapshot")
                with self.stats.one():
                    await self._take_all(order)
                log.info("snapshot fetched")
        except (RaftmqError, ValueError) as error:
            log.warning("snapshot not fetched", error=str(error))
        except Exception:
            # Nobody awaits this task: a bug would be silent, and the replica behind for ever.
            log.exception("snapshot not fetched")
            raise
        finally:
            self._replicas.installs.ended(order.group)

    async def _take_all(self, order: SnapshotOrder) -> None:
        loop = asyncio.get_running_loop()
        async with aclosing(self._fetch(order.node, order.group, order.from_index)) as parts:
            async for part in parts:
                self.stats.carried(part)
                written: asyncio.Future[None] = loop.create_future()
                if self._replicas.installs.take(order.group, part, partial(_tell, written)):
                    return
                try:
                    async with asyncio.timeout(WRITTEN_TIMEOUT_S):
                        await written
                except TimeoutError:
                    raise Unavailable("the disk of this node takes too long") from None
        raise Unavailable("the stream ended before the snapshot did")


def _tell(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
