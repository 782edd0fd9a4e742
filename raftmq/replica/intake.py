"""Records on their way into the groups that this node leads: room for them first, and then the wait for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from raftmq.errors import NoLeader, NotLeader, Overloaded, QueueFull, RaftmqError, StorageFull
from raftmq.ids import GroupId, Offset, Tick
from raftmq.metadata.depth import NO_LIMIT, DepthLimit, Overflow
from raftmq.partition.queues.commands import Settle
from raftmq.ports import Clock, DiskLevel
from raftmq.records.batch import CheckedBatch
from raftmq.records.loose import LooseRecords, Sized
from raftmq.replica.budget import Budget
from raftmq.replica.depth import Overflows, Room
from raftmq.replica.futures import settle
from raftmq.replica.gathering import Request
from raftmq.replica.manager import Replicas
from raftmq.replica.produce import OVERLOAD_RETRY_MS, Leadership
from raftmq.replica.serving import until_serving
from raftmq.replica.space import LOOK_EVERY_MS
from raftmq.replica.traffic import Traffic
from raftmq.replica.waits import Ack, Acks

_log = structlog.get_logger(__name__)

ROOM_LOOK_MS = 20
"""How often the first of those who wait for room in a partition looks. Room is made by trims and by consumer groups;
looking is cheaper to understand than being told by either."""
TELL_EVERY_MS = 10_000
"""A partition that is full says so in the log so often at most."""

Done = Callable[[Ack | RaftmqError], None]
Attempt = Callable[[Callable[[], None]], Awaitable[None]]
"""Calls what it is given, once, in its own good time; raises what that raises, or why it has not called it."""


class Intake:
    """Every method runs on the event loop. Errors are ``RaftmqError`` with their outcome.

    NotLeader is raised where another node (or nobody) leads the group: the caller routes.
    """

    def __init__(self, replicas: Replicas, clock: Clock, memory_bytes: int, limit_bytes: int = 0) -> None:
        self.traffic = Traffic()
        self.backlog = replicas.upkeep.backlog
        self.overflows = Overflows(self._told)
        self.held_bytes = 0
        """Of records that wait for room in their partition, or for their acknowledgement."""
        self.budget = Budget(limit_bytes, lambda: self.held_bytes)
        """Of the whole node."""
        self._replicas = replicas
        self._clock = clock
        self.memory_bytes = memory_bytes
        """What they may take, over all partitions."""
        self._turns: dict[GroupId, asyncio.Lock] = {}
        """Of partitions where producers wait for room: one tries, the others stand behind."""
        self._told_at: dict[GroupId, Tick] = {}

    async def produce(
        self,
        group_id: GroupId,
        batch: CheckedBatch,
        acks: Acks,
        min_in_sync: int,
        timeout_ms: int,
        expected: Offset | None = None,
        limit: DepthLimit = NO_LIMIT,
    ) -> Ack:
        """Append and wait for ``acks``, at most ``timeout_ms`` (then DeadlineExceeded with what is known).

        `expected`: only if the batch gets this offset; else UnexpectedOffset. `limit`: how deep the partition may be.
        """
        arrived = self._clock.tick()
        deadline = Tick(arrived + timeout_ms)
        await until_serving(self._replicas, self._clock, group_id, deadline)
        self._room(group_id, batch.size)

        def append(done: Done) -> None:
            now, wall_ms = self._clock.tick(), self._clock.wall_ms()
            room = self._room_within(group_id, limit, now) if limit else None
            self._leadership(group_id).produce(
                batch, acks, min_in_sync, now, wall_ms, deadline, done, expected, now - arrived, room
            )

        return await self._answer(group_id, batch, acks, append, _waits_until(limit, deadline, timeout_ms))

    async def produce_with(
        self,
        group_id: GroupId,
        batch: CheckedBatch,
        settles: Sequence[Settle],
        acks: Acks,
        min_in_sync: int,
        timeout_ms: int,
        limit: DepthLimit,
        alone: Attempt,
    ) -> Ack:
        """As ``produce``, with `settles` in the same entry. ``alone`` calls what appends once nothing is under way that
        could change them, and raises what that raises: besides what refuses records, see ``Together.draft``."""
        deadline = Tick(self._clock.tick() + timeout_ms)
        self._room(group_id, batch.size)

        def append(done: Done) -> None:
            now, wall_ms = self._clock.tick(), self._clock.wall_ms()
            room = self._room_within(group_id, limit, now) if limit else None
            self._leadership(group_id).produce(
                batch, acks, min_in_sync, now, wall_ms, deadline, done, room=room, settles=settles
            )

        return await self._answer(group_id, batch, acks, append, _waits_until(limit, deadline, timeout_ms), alone)

    async def gather(
        self, group_id: GroupId, records: LooseRecords, acks: Acks, min_in_sync: int, timeout_ms: int, max_bytes: int
    ) -> Ack:
        """As ``produce``, in an entry of at most `max_bytes` that others' records may share."""
        arrived = self._clock.tick()
        deadline = Tick(arrived + timeout_ms)
        await until_serving(self._replicas, self._clock, group_id, deadline)
        answer: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        done = self._held(group_id, records, acks, partial(settle, answer))
        self._gather(group_id, Request(records, acks, min_in_sync, arrived, deadline, done), max_bytes)
        return await answer

    def begin_gather(
        self,
        group_id: GroupId,
        records: LooseRecords,
        acks: Acks,
        min_in_sync: int,
        timeout_ms: int,
        max_bytes: int,
        done: Done,
    ) -> bool:
        """As ``gather``, for those who do not wait: ``done`` is told the answer. It is called in the middle of a round,
        so it may do no more than take note of it. False where there is something to be waited for first."""
        group = self._replicas.group(group_id)
        if group is None or not group.can_serve():
            return False
        arrived = self._clock.tick()
        done = self._held(group_id, records, acks, done)
        request = Request(records, acks, min_in_sync, arrived, Tick(arrived + timeout_ms), done)
        self._gather(group_id, request, max_bytes)
        return True

    def _gather(self, group_id: GroupId, request: Request, max_bytes: int) -> None:
        size = request.records.size
        leadership = self._room(group_id, size)
        self.held_bytes += size
        try:
            calls_for_round = leadership.gather(request, max_bytes, self._clock.tick(), self._clock.wall_ms())
        except BaseException:
            self.held_bytes -= size
            raise
        if calls_for_round:
            self._replicas.touch(group_id)

    def _room(self, group_id: GroupId, size: int) -> Leadership:
        """The leadership that may be given `size` bytes. Raises what speaks against it."""
        if self._replicas.heartbeats.disk is not DiskLevel.AMPLE:
            node = self._replicas.me.node
            raise StorageFull(
                f"the disk of node {node} is almost full: it takes no records until there is room",
                retry_after_ms=LOOK_EVERY_MS,
                metadata={"node": str(node)},
            )
        leadership = self._leadership(group_id)
        self.budget.check(size)
        if self.held_bytes and self.held_bytes + size > self.memory_bytes:
            raise Overloaded(
                f"batches of {self.held_bytes} bytes wait for their acknowledgement on this node",
                retry_after_ms=OVERLOAD_RETRY_MS,
            )
        return leadership

    def _room_within(self, group_id: GroupId, limit: DepthLimit, now: Tick) -> Room:
        backlog = self.backlog
        low, kept_from = backlog.lowest_unconsumed(group_id), backlog.kept_from(group_id, now)
        return Room(limit, low, self.overflows, kept_from, backlog.is_known(group_id, now))

    def _leadership(self, group_id: GroupId) -> Leadership:
        group, leadership = self._replicas.group(group_id), self._replicas.leadership(group_id)
        if group is None or not group.is_leader:
            raise NotLeader("this node does not lead the partition")
        if leadership is None:
            raise NoLeader("this node has only just been elected: try again")
        return leadership

    async def _in_turn(self, group_id: GroupId, append: Callable[[], None], until: Tick, attempt: Attempt) -> None:
        """Append when there is room, in the order of arrival. Raises QueueFull where there is none by `until`."""
        turn = self._turns.setdefault(group_id, asyncio.Lock())
        try:
            async with asyncio.timeout(max(0, until - self._clock.tick()) / 1000):
                await turn.acquire()
        except TimeoutError:
            raise QueueFull("others wait for room in the partition, and there was none in time") from None
        try:
            while True:
                try:
                    return await attempt(append)
                except QueueFull:
                    remaining = until - self._clock.tick()
                    if remaining <= 0:
                        raise
                    await asyncio.sleep(min(ROOM_LOOK_MS, remaining) / 1000)
        finally:
            turn.release()

    def _told(self, group: GroupId, overflow: Overflow, what: str, records: int) -> None:
        now = self._clock.tick()
        if group not in self._told_at or now - self._told_at[group] >= TELL_EVERY_MS:
            self._told_at[group] = now
            _log.warning("partition is full", group=group, policy=overflow.name.lower(), what=what, records=records)

    async def _answer(
        self,
        group_id: GroupId,
        records: Sized,
        acks: Acks,
        append: Callable[[Done], None],
        until: Tick | None = None,
        attempt: Attempt | None = None,
    ) -> Ack:
        """What becomes of `records` once ``append`` has taken them; it raises where it does not. `until`: where their
        partition has no room, they wait so long for some. ``attempt``: what calls ``append``, if not just anybody."""
        answer: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        done = self._held(group_id, records, acks, partial(settle, answer))
        is_appended = False

        def begin() -> None:
            nonlocal is_appended
            append(done)
            is_appended = True

        self.held_bytes += records.size
        try:
            if until is not None:
                await self._in_turn(group_id, begin, until, attempt or _at_once)
            elif attempt is not None:
                await attempt(begin)
            else:
                begin()
        except BaseException:
            if not is_appended:  # else ``done`` gives it back, also where the caller went in that very moment
                self.held_bytes -= records.size
            self._replicas.touch(group_id)  # what had been gathered before these records was appended all the same
            raise
        self._replicas.touch(group_id)
        return await answer

    def _held(self, group_id: GroupId, records: Sized, acks: Acks, done: Done) -> Done:
        """``done``, which gives the memory back first: not when the caller goes, but when the records are acknowledged,
        or known not to be."""

        def ended(answer: Ack | RaftmqError) -> None:
            self.held_bytes -= records.size
            if isinstance(answer, Ack):
                self.traffic.acknowledged(group_id, records, acks, answer)
            done(answer)

        return ended


async def _at_once(append: Callable[[], None]) -> None:
    append()


def _waits_until(limit: DepthLimit, deadline: Tick, timeout_ms: int) -> Tick | None:
    """Until when records wait for room; None: not at all. Some of the time is kept for the acknowledgement."""
    return Tick(deadline - timeout_ms // 10) if limit and limit.overflow is Overflow.BLOCK else None
