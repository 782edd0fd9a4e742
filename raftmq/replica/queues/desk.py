"""The queues of one partition under one leadership: what callers ask meanwhile becomes one entry of the log.

    callers ──ops──> gathered ──one entry──> log ──applied──> an answer for each op

At most ``IN_FLIGHT_MAX`` entries are under way at once; while they are, the next one gathers. So a busy partition
writes few large entries, and an idle one answers at once. A batch that carries verdicts has its turn in between, when
none is under way (``alone``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from raftmq.config.models import MESSAGE_BYTES_MAX
from raftmq.errors import MessageTooLarge, NotLeader, Overloaded, RaftmqError, UnknownQueueGroup
from raftmq.ids import Offset, QueueId
from raftmq.metadata.queue_groups import QueueGroupRecord
from raftmq.partition import commands
from raftmq.partition.machine import Applied, PartitionMachine
from raftmq.partition.queues.commands import QueueAnswer, QueueCommand, QueueOp, bytes_at_most
from raftmq.ports import Clock
from raftmq.raft import errors as raft
from raftmq.replica.barriers import Barriers
from raftmq.replica.futures import settle
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.produce import OVERLOAD_RETRY_MS
from raftmq.replica.queues.line import Line, Sharing
from raftmq.replica.queues.records import Records
from raftmq.replica.sealing import Draft

_log = structlog.get_logger(__name__)

IN_FLIGHT_MAX = 2
OPS_MAX = 4_096
"""Of one entry."""
ENTRY_BYTES = 1024 * 1024
"""Where the next op would make an entry larger, that op begins another. One alone may be larger by far ..."""
OP_BYTES_MAX = MESSAGE_BYTES_MAX // 2
"""... but not so large that no other node would take the message that brings the entry."""

Tell = Callable[[QueueAnswer | RaftmqError], None]
Turn = Callable[[RaftmqError | None], None]
"""Proposes by itself what is decided before it is proposed; or is told why there will be no turn."""


class Desk:
    """See the module docstring. ``touch``: the group has something for the next round."""

    def __init__(
        self,
        group: ReplicaGroup,
        barriers: Barriers,
        clock: Clock,
        records: Records,
        touch: Callable[[], None],
        entropy: Callable[[int], bytes],
        sharing: Callable[[], Sharing],
    ) -> None:
        assert isinstance(group.machine, PartitionMachine)
        self.machine = group.machine
        self.term = group.node.term
        self.records = records
        self.entropy = entropy
        self.sharing = sharing
        self.is_closed = False
        self._group = group
        self._barriers = barriers
        self._clock = clock
        self._touch = touch
        self._loop = asyncio.get_running_loop()
        self._gathered: list[tuple[QueueOp, Tell]] = []
        self._turns: list[Turn] = []
        self._in_flight = 0
        self._is_due = False
        self._lines: dict[QueueId, Line] = {}
        self._watch: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}

    # -- what callers do ---------------------------------------------------------------------------------------------

    def submit(self, op: QueueOp, tell: Tell) -> None:
        """Put `op` into the next entry; ``tell`` is called once."""
        if self.is_closed:
            tell(_lost())
            return
        self._gathered.append((op, tell))
        self.look()

    async def ask(self, op: QueueOp) -> QueueAnswer:
        """The answer to `op`. Raises NotLeader (nothing was done), LeadershipLost, Overloaded."""
        answer: asyncio.Future[QueueAnswer] = self._loop.create_future()
        self.submit(op, partial(settle, answer))
        return await answer

    def alone(self, turn: Turn) -> None:
        """Call `turn` once, with no op under way: what is applied then is what it decides on. Ops that come meanwhile
        wait for it, and it for those before."""
        if self.is_closed:
            turn(_lost())
            return
        self._turns.append(turn)
        self.look()

    def withdraw(self, turn: Turn) -> None:
        """Nobody waits for `turn` any more; nothing happens where it has been called."""
        if turn in self._turns:
            self._turns.remove(turn)

    def line(self, group: QueueGroupRecord) -> Line:
        """Those who wait for messages of `group`; with the newest rules that anybody has told."""
        queue = QueueId(group.id)
        line = self._lines.get(queue)
        if line is None:
            line = self._lines[queue] = Line(self, group)
        line.told(group)
        return line

    def forget(self, queue: QueueId) -> None:
        """The group was deleted."""
        line = self._lines.pop(queue, None)
        if line is not None:
            line.close(UnknownQueueGroup("the group was deleted", field="group"))

    def look(self) -> None:
        """Something has changed: see what can be done, in this pass of the event loop."""
        if not self._is_due and not self.is_closed:
            self._is_due = True
            self._loop.call_soon(self._pass)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """In the background, for as long as this leadership lasts."""
        task = self._loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    # -- passes ------------------------------------------------------------------------------------------------------

    def stamp(self) -> tuple[int, int]:
        """(log tick, wall stamp) of now."""
        return self._group.stamp(self._clock.tick(), self._clock.wall_ms())

    def _pass(self) -> None:
        self._is_due = False
        if self.is_closed:
            return
        if not self._group.is_leader or self._group.node.term != self.term:
            self.close()
            return
        if self._turns and not self._in_flight:
            turns, self._turns = self._turns, []
            for turn in turns:
                turn(None)
        if self._in_flight < IN_FLIGHT_MAX and not self._turns:
            for line in self._lines.values():
                line.serve()
            while self._gathered and self._in_flight < IN_FLIGHT_MAX and not self.is_closed:
                self._propose(self._take())
        if not self.is_closed:
            self._wait()

    def _take(self) -> list[tuple[QueueOp, Tell]]:
        """The first of what was gathered, as much as belongs into one entry."""
        count = size = 0
        for op, _ in self._gathered[:OPS_MAX]:
            size += bytes_at_most(op)
            if count and size > ENTRY_BYTES:
                break
            count += 1
        taken, self._gathered = self._gathered[:count], self._gathered[count:]
        return taken

    def _propose(self, taken: list[tuple[QueueOp, Tell]]) -> None:
        command = QueueCommand(tuple([op for op, _ in taken]))
        tells = [tell for _, tell in taken]
        draft = Draft(commands.version_of(command), 0, commands.encode(command), stamp=self.stamp())
        if draft.size > OP_BYTES_MAX:
            _log.warning("an entry would be too large for the other nodes", group=self._group.id, bytes=draft.size)
            _tell_all(tells, MessageTooLarge(f"this would take {draft.size} bytes of the log, at most {OP_BYTES_MAX}"))
            return
        try:
            self._group.propose_command(draft, partial(self._applied, tells))
        except raft.NotLeader:
            _tell_all(tells, NotLeader("leadership is being handed over"))
            return
        except raft.TooMuchUncommitted:
            _tell_all(tells, Overloaded("too much is waiting for a quorum", retry_after_ms=OVERLOAD_RETRY_MS))
            return
        self._in_flight += 1
        self._touch()

    def _applied(self, tells: list[Tell], result: object) -> None:
        self._in_flight -= 1
        if isinstance(result, RaftmqError):
            _tell_all(tells, result)
        else:
            assert isinstance(result, Applied)
            for tell, answer in zip(tells, result.queue, strict=True):
                tell(answer)
        self.look()

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Look again when there are new records, or when time alone makes some ready. Also how the end is noticed."""
        if self._watch is None:
            self._watch = self._barriers.watch(self._group, self.machine.next_offset, self._woken)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waits = [line.due_in_ms() for line in self._lines.values()]
        due = min((wait for wait in waits if wait is not None), default=None)
        if due is not None:
            self._timer = self._loop.call_later(max(1, due) / 1000, self.look)

    def _woken(self, holds: bool) -> None:
        self._watch = None
        if holds:
            self.look()
        else:
            self.close()

    def close(self) -> None:
        """This node does not lead the partition any more, or in another term."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._barriers.unwatch(self._group.id, self._watch)
        for task in self._tasks:
            task.cancel()
        gathered, self._gathered = self._gathered, []
        _tell_all([tell for _, tell in gathered], _lost())
        turns, self._turns = self._turns, []
        for turn in turns:
            turn(_lost())
        for line in self._lines.values():
            line.close(_lost())

    @property
    def next_offset(self) -> Offset:
        return self.machine.next_offset


def _lost() -> NotLeader:
    return NotLeader("this node does not lead the partition any more")


def _tell_all(tells: list[Tell], error: RaftmqError) -> None:
    """Each of them one of its own, to amend and to hand on."""
    for tell in tells:
        tell(error.copy())
