"""Acknowledging messages and appending what became of them, as one entry: in a turn of its own at the desk."""

from __future__ import annotations

import asyncio
from functools import partial

from raftmq.errors import DeadlineExceeded, Outcome, RaftmqError
from raftmq.ids import GroupId, LeaseId, QueueId, Tick
from raftmq.partition.queues.commands import Settle, Verdict
from raftmq.ports import Clock
from raftmq.replica.futures import settle
from raftmq.replica.intake import Intake
from raftmq.replica.queues.calls import Handover, by_lease
from raftmq.replica.queues.desk import Desk
from raftmq.replica.together import AlreadyProcessed
from raftmq.replica.waits import Ack


class Handing:
    """One `handover` to the partition of `group_id`, which `desk` looks after."""

    def __init__(self, desk: Desk, intake: Intake, clock: Clock, group_id: GroupId, handover: Handover) -> None:
        self._desk = desk
        self._intake = intake
        self._clock = clock
        self._group_id = group_id
        self._handover = handover
        self._answer: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        self._told = partial(settle, self._answer)

    async def append(self, queue: QueueId, timeout_ms: int) -> Ack:
        """Raises AlreadyProcessed and LeaseExpired (nothing has happened), DeadlineExceeded, and whatever refuses
        records."""
        deadline = Tick(self._clock.tick() + timeout_ms)
        settles = self._settles(queue)
        unmoved = DeadlineExceeded("what was asked before took all the time", outcome=Outcome.NOT_APPLIED)
        late = asyncio.get_running_loop().call_later(timeout_ms / 1000, self._told, unmoved)

        def turn(error: RaftmqError | None) -> None:
            late.cancel()
            if error is not None:
                self._told(error)
            elif not self._answer.done():
                self._begin(settles, deadline)

        self._desk.alone(turn)
        try:
            return await self._answer
        finally:
            late.cancel()
            self._desk.withdraw(turn)

    def _begin(self, settles: list[Settle], deadline: Tick) -> None:
        asked = self._handover
        try:
            self._intake.begin_with(
                self._group_id, asked.batch, settles, asked.acks, asked.min_in_sync, deadline, asked.limit, self._told
            )
        except RaftmqError as refusal:
            self._told(refusal)
        except AlreadyProcessed as known:
            self._answer.set_exception(known)

    def _settles(self, queue: QueueId) -> list[Settle]:
        claims, keys = self._handover.claims, self._handover.processed_keys
        return [
            Settle(
                queue, LeaseId(lease), secret, Verdict.ACK, [claims[position].offset for position in positions],
                processed_keys=[keys[position] for position in positions] if keys else (),
            )
            for (lease, secret), positions in by_lease(claims).items()
        ]  # fmt: skip
