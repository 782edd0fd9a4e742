"""What is done for the queues of every partition led here, again and again, whether anybody calls or not.

Groups that are new, altered or deleted come to the partitions' notice; time that is due passes, although nobody asks
for messages; and what a trim would take from a queue is held beside the log first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from raftmq.errors import RaftmqError
from raftmq.ids import GroupId, Offset
from raftmq.metadata.queue_groups import QueueGroupRecord
from raftmq.partition import commands
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.commands import Hold, Remove
from raftmq.partition.queues.group import Now
from raftmq.raft.errors import RaftRefusal
from raftmq.replica.queues.desk import Desk
from raftmq.replica.queues.host import QueueHost
from raftmq.replica.queues.records import pack_held
from raftmq.replica.sealing import Draft

_log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
HOLD_STEP = 64
"""Records of one entry: each goes into the log once more, whole."""
HOLD_LIMIT_MS = 10_000
HELD_BYTES_MAX = 64 * 1024 * 1024
"""In one partition. They are in memory, on each of its replicas."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The groups of a partition's topic, as the metadata has them."""

    groups: Sequence[QueueGroupRecord]
    known_below: int
    """Group numbers below this that are not among `groups` were deleted, or are another topic's."""


class QueueUpkeep:
    """``rules``: of a partition; None where this node cannot tell. ``ruled``: partitions that have some, led here or
    not. `held_bytes_max`: what may be held beside the log of one partition."""

    def __init__(
        self,
        host: QueueHost,
        rules: Callable[[GroupId], Rules | None],
        ruled: Callable[[], Iterable[GroupId]],
        held_bytes_max: int = HELD_BYTES_MAX,
    ) -> None:
        self.held_bytes_max = held_bytes_max
        self._host = host
        self._rules = rules
        self._ruled = ruled
        self._tasks: dict[GroupId, asyncio.Task[None]] = {}
        self._full: dict[GroupId, tuple[int, Offset | None]] = {}
        """How many bytes were held when another record did not fit, and which."""
        self._unread: dict[GroupId, Offset] = {}
        """Which record could not be read when it was to be held."""
        host.replicas.upkeep.hold = self.hold

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self._host.tidy()
            self.look()

    def look(self) -> None:
        """Once, at partitions that have queues or are to have some: what has none costs nothing."""
        replicas = self._host.replicas
        queued = replicas.upkeep.queued
        for group_id in sorted(replicas.led.keys() & {*queued, *self._ruled()}):
            group = replicas.led[group_id]
            if group.can_serve() and isinstance(group.machine, PartitionMachine):
                self._look(group_id, group.machine)
                if not group.machine.queues:
                    queued.discard(group_id)  # until an entry gives it some

    def _look(self, group_id: GroupId, machine: PartitionMachine) -> None:
        rules = self._rules(group_id)
        if rules is None or not (rules.groups or machine.queues):
            return
        desk = self._host.desk_of(group_id)
        for group in rules.groups:
            desk.line(group).refresh()
            desk.line(group).tell_of_breaker(group_id)
        wanted = {group.id for group in rules.groups}
        for queue_id in sorted(machine.queues.groups.keys() - wanted):
            if queue_id < rules.known_below:
                desk.forget(queue_id)
                desk.submit(Remove(queue_id), lambda _: None)
        if machine.queues.due().is_over(Now(*desk.stamp())):
            self._tick(group_id, desk.stamp())

    def _tick(self, group_id: GroupId, stamp: tuple[int, int]) -> None:
        """Leases are over or records too late, and nobody asks for any: let it be so all the same."""
        group = self._host.replicas.led[group_id]
        draft = Draft(commands.VERSION, 0, commands.encode(commands.TickCommand()), stamp=stamp)
        try:
            group.propose_command(draft, lambda _: None)
        except RaftRefusal:
            return  # the next look will do
        self._host.replicas.touch(group_id)

    # -- holding -----------------------------------------------------------------------------------------------------

    def hold(self, group_id: GroupId, below: Offset) -> bool:
        """Put aside what queues need below an offset, one task for each partition. False: there is no room for it, or
        it cannot be read, and stays in the log with all behind it."""
        machine = self._host.replicas.led[group_id].machine
        assert isinstance(machine, PartitionMachine)
        size, offset = self._full.pop(group_id, (machine.queues.held.bytes + 1, None))
        if machine.queues.held.bytes >= size and offset in machine.queues.pinned(below, HOLD_STEP):
            self._full[group_id] = size, offset
            return False
        if self._unread.pop(group_id, None) in machine.queues.pinned(below, HOLD_STEP):
            return False  # whoever asks next has it tried again
        if group_id not in self._tasks:
            task = asyncio.get_running_loop().create_task(self._hold(group_id, below), name=f"queue-hold-{group_id}")
            self._tasks[group_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(group_id, None))
        return True

    async def _hold(self, group_id: GroupId, below: Offset) -> None:
        try:
            desk = self._host.desk_of(group_id)
            while not desk.is_closed and (pinned := desk.machine.queues.pinned(below, HOLD_STEP)):
                async with asyncio.timeout(HOLD_LIMIT_MS / 1000):
                    ops = await self._held(group_id, desk, pinned)
                    await asyncio.gather(*(desk.ask(op) for op in ops))
                if len(ops) < len(pinned):
                    return
        except (RaftmqError, TimeoutError):
            return  # the trim comes again, and asks again

    async def _held(self, group_id: GroupId, desk: Desk, pinned: Sequence[Offset]) -> list[Hold]:
        """What holds these records, up to the first for which there is no room, or that cannot be read: nothing from
        there on is trimmed."""
        ops: list[Hold] = []
        size = desk.machine.queues.held.bytes
        for offset in pinned:
            batch = await desk.records.attempt(offset)
            if isinstance(batch, RaftmqError):
                self._unread[group_id] = offset
                told = {"offset": offset, "reason": batch.reason, "detail": batch.message}
                _log.warning("a queue needs a record that cannot be read: the log stays", group=group_id, **told)
                break
            record = pack_held(batch, offset)
            if size + len(record) > self.held_bytes_max:
                self._full[group_id] = size, offset
                _log.warning("no more records are held for queues", group=group_id, bytes=size)
                break
            ops.append(Hold(offset, record))
            size += len(record)
        return ops
