"""Records on their way into the groups that this node leads: room for them first, and then the wait for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raftmq.errors import NoLeader, Overloaded, RaftmqError, StorageFull
from raftmq.ids import GroupId, Offset, Tick
from raftmq.ports import Clock, DiskLevel
from raftmq.records.batch import CheckedBatch
from raftmq.records.loose import LooseRecords, Sized
from raftmq.replica.gathering import Request
from raftmq.replica.manager import Replicas
from raftmq.replica.produce import OVERLOAD_RETRY_MS, Leadership
from raftmq.replica.serving import until_serving
from raftmq.replica.space import LOOK_EVERY_MS
from raftmq.replica.traffic import Traffic
from raftmq.replica.waits import Ack, Acks

Done = Callable[[Ack | RaftmqError], None]


class Intake:
    """Every method runs on the event loop. Errors are ``RaftmqError`` with their outcome.

    NotLeader is raised where another node (or nobody) leads the group: the caller routes.
    """

    def __init__(self, replicas: Replicas, clock: Clock, memory_bytes: int) -> None:
        self.traffic = Traffic()
        self.held_bytes = 0
        """Of records that wait for their acknowledgement."""
        self._replicas = replicas
        self._clock = clock
        self._memory_bytes = memory_bytes
        """What they may take, over all partitions."""

    async def produce(
        self,
        group_id: GroupId,
        batch: CheckedBatch,
        acks: Acks,
        min_in_sync: int,
        timeout_ms: int,
        expected: Offset | None = None,
    ) -> Ack:
        """Append and wait for ``acks``, at most ``timeout_ms`` (then DeadlineExceeded with what is known).

        `expected`: only if the batch gets this offset; else UnexpectedOffset.
        """
        arrived = self._clock.tick()
        deadline = Tick(arrived + timeout_ms)
        leadership = await self._room(group_id, batch.size, deadline)

        def append(done: Done) -> None:
            now, wall_ms = self._clock.tick(), self._clock.wall_ms()
            leadership.produce(batch, acks, min_in_sync, now, wall_ms, deadline, done, expected, now - arrived)

        return await self._answer(group_id, batch, acks, append)

    async def gather(
        self, group_id: GroupId, records: LooseRecords, acks: Acks, min_in_sync: int, timeout_ms: int, max_bytes: int
    ) -> Ack:
        """As ``produce``, in an entry of at most `max_bytes` that others' records may share."""
        arrived = self._clock.tick()
        deadline = Tick(arrived + timeout_ms)
        leadership = await self._room(group_id, records.size, deadline)

        def append(done: Done) -> None:
            request = Request(records, acks, min_in_sync, arrived, deadline, done)
            leadership.gather(request, max_bytes, self._clock.tick(), self._clock.wall_ms())

        return await self._answer(group_id, records, acks, append)

    async def _room(self, group_id: GroupId, size: int, deadline: Tick) -> Leadership:
        """The leadership that may be given `size` bytes. Raises what speaks against it."""
        group = self._replicas.group(group_id)
        if group is None or not group.can_serve():
            await until_serving(self._replicas, self._clock, group_id, deadline)
        if self._replicas.heartbeats.disk is not DiskLevel.AMPLE:
            node = self._replicas.me.node
            raise StorageFull(
                f"the disk of node {node} is almost full: it takes no records until there is room",
                retry_after_ms=LOOK_EVERY_MS,
                metadata={"node": str(node)},
            )
        leadership = self._replicas.leadership(group_id)
        if leadership is None:
            raise NoLeader("this node has only just been elected: try again")
        if self.held_bytes and self.held_bytes + size > self._memory_bytes:
            raise Overloaded(
                f"batches of {self.held_bytes} bytes wait for their acknowledgement on this node",
                retry_after_ms=OVERLOAD_RETRY_MS,
            )
        return leadership

    async def _answer(self, group_id: GroupId, records: Sized, acks: Acks, append: Callable[[Done], None]) -> Ack:
        """What becomes of `records` once ``append`` has taken them; it raises where it does not."""
        answer: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()

        def done(ack: Ack | RaftmqError) -> None:
            # Not when the caller goes: the records stay until they are acknowledged, or known not to be.
            self.held_bytes -= records.size
            if answer.done():
                return
            if isinstance(ack, RaftmqError):
                answer.set_exception(ack)
            else:
                answer.set_result(ack)

        self.held_bytes += records.size
        try:
            append(done)
        except BaseException:
            self.held_bytes -= records.size
            raise
        self._replicas.touch(group_id)
        ack = await answer
        self.traffic.acknowledged(group_id, records, acks, ack)
        return ack
