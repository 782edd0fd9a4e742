"""Acknowledging messages and appending what became of them, as one entry: in a turn of its own at the desk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from raftmq.errors import DeadlineExceeded, Outcome, RaftmqError
from raftmq.ids import GroupId, LeaseId, QueueId, Tick
from raftmq.partition.queues.commands import Settle, Verdict
from raftmq.ports import Clock
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

    async def append(self, queue: QueueId, timeout_ms: int) -> Ack:
        """Raises AlreadyProcessed and LeaseExpired (nothing has happened), DeadlineExceeded, and whatever refuses
        records. One that waits for room in the partition keeps nobody from the desk, and has no lease extended."""
        asked = self._handover
        deadline = Tick(self._clock.tick() + timeout_ms)

        async def alone(append: Callable[[], None]) -> None:
            await self._alone(append, deadline)

        settles = self._settles(queue)
        return await self._intake.produce_with(
            self._group_id, asked.batch, settles, asked.acks, asked.min_in_sync, timeout_ms, asked.limit, alone
        )

    async def _alone(self, append: Callable[[], None], deadline: Tick) -> None:
        """Call ``append`` with no op of the desk under way, unless the time is over first, or the caller has gone."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[None] = loop.create_future()

        def turn(error: RaftmqError | None) -> None:
            if begun.done():  # the time is over, or the caller has gone
                return
            if error is not None:
                begun.set_exception(error)
                return
            try:
                append()
            except (RaftmqError, AlreadyProcessed) as refusal:
                begun.set_exception(refusal)
            else:
                begun.set_result(None)

        def late() -> None:
            if not begun.done():
                begun.set_exception(
                    DeadlineExceeded("what was asked before took all the time", outcome=Outcome.NOT_APPLIED)
                )

        timer = loop.call_later(max(0, deadline - self._clock.tick()) / 1000, late)
        self._desk.alone(turn)
        try:
            await begun
        finally:
            timer.cancel()
            self._desk.withdraw(turn)

    def _settles(self, queue: QueueId) -> list[Settle]:
        claims, keys = self._handover.claims, self._handover.processed_keys
        return [
            Settle(
                queue, LeaseId(lease), secret, Verdict.ACK, [claims[position].offset for position in positions],
                processed_keys=[keys[position] for position in positions] if keys else (),
            )
            for (lease, secret), positions in by_lease(claims).items()
        ]  # fmt: skip
