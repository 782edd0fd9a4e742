"""Changes of consumer groups on their way into the log: one entry for all that comes in one pass of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from raftmq.errors import DeadlineExceeded, NoLeader, NotLeader, Outcome, RaftmqError
from raftmq.groups.commands import Change, Changes, encode, version_of
from raftmq.groups.machine import GroupsMachine, Result
from raftmq.ids import GroupId
from raftmq.ports import Clock
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.sealing import Draft

COMMAND_TIMEOUT_MS = 10_000
ENTRY_BYTES_MAX = 1024 * 1024
"""A change may be so large by itself; more of them share an entry up to this."""


class Replicas(Protocol):
    @property
    def led(self) -> Mapping[GroupId, ReplicaGroup]: ...
    def group(self, group_id: GroupId) -> ReplicaGroup | None: ...


class Host(Protocol):
    """What the coordinator needs of ``raftmq.replica.host.ReplicaHost``."""

    @property
    def replicas(self) -> Replicas: ...
    async def barrier(self, group_id: GroupId, timeout_ms: int) -> None: ...
    async def command(self, group_id: GroupId, draft: Draft, timeout_ms: int) -> object: ...


@dataclass(slots=True)
class _Waiting:
    name: str
    change: Change
    size: int
    answer: asyncio.Future[Result]


class Proposals:
    """``change`` for those who wait for its result."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._waiting: dict[GroupId, list[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.entries = 0
        """Proposed so far, and the changes in them."""
        self.changes = 0

    def led(self, at: GroupId) -> ReplicaGroup:
        """Raises NotLeader, or NoLeader while the new leader has not applied its first entry."""
        group = self._host.replicas.group(at)
        if group is None or not group.is_leader:
            raise NotLeader("this node does not coordinate the group")
        if not group.can_serve():
            raise NoLeader("the new coordinator has not committed its first entry yet: try again")
        return group

    async def change(self, at: GroupId, name: str, change: Change, timeout_ms: int) -> list[RaftmqError | None]:
        """Replicate a change of the consumer group `name`. Returns what became of its parts, where it has some.

        Raises what the change is refused with, NotLeader, NoLeader, and DeadlineExceeded or LeadershipLost whose
        outcome is not known.
        """
        self.led(at)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(name, change, len(encode(Changes(((name, change),)))), loop.create_future())
        queue = self._waiting.setdefault(at, [])
        if not queue:
            loop.call_soon(self._propose, at)
        queue.append(waiting)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                result = await waiting.answer
        except TimeoutError:
            raise DeadlineExceeded("the change was not committed in time", outcome=Outcome.UNKNOWN) from None
        if isinstance(result, RaftmqError):
            raise result
        return result or []

    def _propose(self, at: GroupId) -> None:
        """In the order in which they came: tasks begin in the order in which they are made, and propose at once."""
        part: list[_Waiting] = []
        size = 0
        for waiting in self._waiting.pop(at):
            if part and size + waiting.size > ENTRY_BYTES_MAX:
                self._start(at, part)
                part, size = [], 0
            part.append(waiting)
            size += waiting.size
        self._start(at, part)

    def _start(self, at: GroupId, part: list[_Waiting]) -> None:
        task = asyncio.create_task(self._commit(at, part), name=f"groups-{at}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit(self, at: GroupId, part: list[_Waiting]) -> None:
        try:
            group = self.led(at)
            assert isinstance(group.machine, GroupsMachine)
            stamp = group.stamp(self._clock.tick(), self._clock.wall_ms())
            changes = Changes(tuple((one.name, one.change) for one in part))
            self.entries += 1
            self.changes += len(part)
            answer = await self._host.command(
                at, Draft(version_of(changes), 0, encode(changes), stamp=stamp), COMMAND_TIMEOUT_MS
            )
        except RaftmqError as error:
            for one in part:
                if not one.answer.done():
                    one.answer.set_exception(error.copy())
            return
        for one, result in zip(part, cast("list[Result]", answer), strict=True):
            if not one.answer.done():
                one.answer.set_result(result)
