"""Queues of the partitions that this node leads, for callers that await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from raftmq.errors import (
    DeadlineExceeded,
    LeadershipLost,
    LeaseExpired,
    NotLeader,
    OffsetOutOfRange,
    Outcome,
    QueuePaused,
    RaftmqError,
)
from raftmq.ids import GroupId, LeaseId, Offset, QueueId
from raftmq.metadata.queue_groups import QueueGroupRecord
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues import commands
from raftmq.partition.queues.commands import (
    Extended,
    Granted,
    QueueAnswer,
    QueueOp,
    Redriven,
    Refused,
    Settled,
    Status,
)
from raftmq.partition.queues.processed import Processed
from raftmq.ports import BatchRow, Clock
from raftmq.replica.answers import Fetched
from raftmq.replica.intake import Intake
from raftmq.replica.manager import Replicas
from raftmq.replica.queues import looking
from raftmq.replica.queues.calls import Claim, Delivery, Depth, Handover, Received, Ruling, Wish, by_lease
from raftmq.replica.queues.desk import Desk
from raftmq.replica.queues.handing import Handing
from raftmq.replica.queues.line import PAUSED_RETRY_MS, Line, Sharing, Waiter
from raftmq.replica.queues.looking import Pace, ParkedFilter, Peeked, Place, RedriveCount
from raftmq.replica.queues.outcomes import error_of_all, recall
from raftmq.replica.queues.records import Records
from raftmq.replica.together import AlreadyProcessed
from raftmq.replica.waits import Ack

REDRIVE_STEP = 1_000
"""Records of one entry."""
GRANT_MS = 5_000
"""How long a call waits, besides its wait for messages, for the log to grant what is ready."""
SERVING_MS = 5_000


class Log(Protocol):
    """What is asked of ``raftmq.replica.host.ReplicaHost``."""

    @property
    def replicas(self) -> Replicas: ...
    @property
    def intake(self) -> Intake: ...
    async def barrier(self, group_id: GroupId, timeout_ms: int) -> None: ...
    async def reached(self, group_id: GroupId, offset: Offset, wait_ms: int) -> None: ...
    async def fetch(
        self, group_id: GroupId, offset: Offset, max_bytes: int, min_bytes: int, max_wait_ms: int
    ) -> Fetched: ...


class QueueHost:
    """Every method runs on the event loop. NotLeader is raised where another node (or nobody) leads the partition.

    ``entropy``: so many random bytes that nobody can guess. ``sharing``: of a topic, by one of its partitions.
    """

    def __init__(
        self, log: Log, clock: Clock, entropy: Callable[[int], bytes], sharing: Callable[[GroupId], Sharing]
    ) -> None:
        self._log = log
        self._clock = clock
        self._entropy = entropy
        self._sharing = sharing
        self._desks: dict[GroupId, Desk] = {}

    @property
    def replicas(self) -> Replicas:
        return self._log.replicas

    @property
    def desks(self) -> Mapping[GroupId, Desk]:
        """Of partitions that are led here, or were a moment ago."""
        return self._desks

    # -- messages out ------------------------------------------------------------------------------------------------

    async def receive(self, group_id: GroupId, group: QueueGroupRecord, wish: Wish, wait_ms: int) -> Received:
        """Lease messages, as soon as there are some; none after `wait_ms`.

        A caller that is cancelled gives back what it was about to get. Raises QueuePaused.
        """
        if group.settings.paused:
            raise QueuePaused(f"group {group.name} is paused", field="group", retry_after_ms=PAUSED_RETRY_MS)
        desk = await self._desk(group_id)
        line = desk.line(group)
        waiter = line.wait(wish)
        late = asyncio.get_running_loop().call_later(wait_ms / 1000, line.late, waiter) if wait_ms else None
        if late is None:
            line.late(waiter)
        try:
            granted, secret = await _granted(waiter, wait_ms + GRANT_MS)
            deliveries = await self._deliver(desk, line, granted, secret, wish.bytes)
        except BaseException:
            line.leave(waiter)
            raise
        finally:
            if late is not None:
                late.cancel()
        return Received(secret, wish.lease_ms, waiter.waited_ms, deliveries)

    async def _deliver(self, desk: Desk, line: Line, granted: Granted, secret: bytes, max_bytes: int) -> list[Delivery]:
        """The messages of a lease, in order, as far as `max_bytes` allow; others are given back. Those of a batch that
        cannot be read are parked: another delivery would change nothing."""
        deliveries: list[Delivery] = []
        unreadable: list[int] = []
        again, lease, records = granted.again, granted.lease, desk.records
        batch, mean_bytes = None, 0
        for number in granted.offsets:
            offset = Offset(number)
            if batch is None or not batch.base_offset <= offset < batch.next_offset:
                batch = await records.at(offset)
                if batch is None:
                    raise NotLeader("a record that was granted is not here: leadership has moved on")
                mean_bytes = batch.size // len(batch.records)
            if not batch.is_readable:
                unreadable.append(number)
                continue
            attempt, failures = again.get(offset, (1, 0))
            record = batch.records[offset - batch.base_offset]
            deliveries.append(Delivery(lease, offset, record, attempt, failures, batch.wall_ms))
            max_bytes -= mean_bytes
            if max_bytes <= 0:
                break
        line.set_aside(granted, secret, unreadable)
        line.give_back(granted, secret, list(granted.offsets[len(deliveries) + len(unreadable) :]))
        return deliveries

    # -- verdicts in -------------------------------------------------------------------------------------------------

    async def settle(
        self, group_id: GroupId, group: QueueGroupRecord, claims: Sequence[Claim], ruling: Ruling, timeout_ms: int
    ) -> list[Status]:
        """What became of each of `claims`."""
        desk = await self._desk(group_id)
        queue = QueueId(group.id)
        leases = by_lease(claims)
        asked: list[QueueOp] = [
            commands.Settle(
                queue, LeaseId(lease), secret, ruling.verdict, [claims[position].offset for position in positions],
                ruling.delay_ms, ruling.reason, ruling.error,
                [ruling.processed_keys[position] for position in positions] if ruling.processed_keys else (),
            )
            for (lease, secret), positions in leases.items()
        ]  # fmt: skip
        answers = await self._within(desk, asked, timeout_ms)
        statuses = [Status.LEASE_EXPIRED] * len(claims)
        for answer, positions in zip(answers, leases.values(), strict=True):
            if isinstance(answer, Settled):
                for position, status in zip(positions, answer.statuses, strict=True):
                    statuses[position] = status
        if ruling.processed_keys and Status.DUPLICATE in statuses:
            recall(desk.machine.queues.groups.get(queue), claims, ruling.processed_keys, statuses)
        return statuses

    async def hand_over(
        self, group_id: GroupId, group: QueueGroupRecord, handover: Handover, timeout_ms: int
    ) -> Ack | list[int]:
        """Acknowledge messages and append a batch, as one entry. Returns instead which of the claims have keys that
        were remembered before, if any have: those are acknowledged then, and nothing else has happened.

        Raises LeaseExpired (nothing has happened), DeadlineExceeded, and whatever refuses records.
        """
        desk = await self._desk(group_id)
        deadline = self._clock.tick() + timeout_ms
        queue, claims, keys = QueueId(group.id), handover.claims, handover.processed_keys
        try:
            handing = Handing(desk, self._log.intake, self._clock, group_id, handover)
            return await handing.append(queue, timeout_ms)
        except AlreadyProcessed as known:
            found = [position for position, key in enumerate(keys) if key in known.keys]
        processed = desk.machine.queues.groups[queue].processed
        others = [at for at in found if (one := processed.get(keys[at])) is None or one.offset != claims[at].offset]
        ruling = Ruling(commands.Verdict.ACK, processed_keys=tuple([keys[at] for at in others]))
        left_ms = max(1, deadline - self._clock.tick())
        statuses = await self.settle(group_id, group, [claims[at] for at in others], ruling, left_ms)
        if Status.LEASE_EXPIRED in statuses:
            # Others of the messages were acknowledged.
            told = "the lease is over of a message whose work was done before"
            raise LeaseExpired(told, outcome=Outcome.UNKNOWN)
        return found

    async def processed(
        self, group_id: GroupId, group: QueueGroupRecord, keys: Sequence[bytes], timeout_ms: int
    ) -> list[tuple[int, Processed]]:
        """Which of `keys` are remembered, by position. Linearizable: covers all that was acknowledged before."""
        await self._log.barrier(group_id, timeout_ms)
        state = self.desk_of(group_id).machine.queues.groups.get(QueueId(group.id))
        if state is None:
            return []
        found = ((position, state.processed.get(key)) for position, key in enumerate(keys))
        return [(position, one) for position, one in found if one is not None]

    async def extend(
        self, group_id: GroupId, group: QueueGroupRecord, claims: Sequence[Claim], lease_ms: int, timeout_ms: int
    ) -> list[Status]:
        """Leases are extended whole: whoever holds several messages under one extends it for all of them."""
        desk = await self._desk(group_id)
        leases = by_lease(claims)
        asked = [commands.Extend(QueueId(group.id), LeaseId(lease), secret, lease_ms) for lease, secret in leases]
        answers = await self._within(desk, asked, timeout_ms)
        statuses = [Status.LEASE_EXPIRED] * len(claims)
        for answer, positions in zip(answers, leases.values(), strict=True):
            if isinstance(answer, Extended):
                for position in positions:
                    statuses[position] = Status.OK
        return statuses

    async def depth(self, group_id: GroupId, group: QueueGroupRecord) -> Depth:
        """Where the group's records are, as applied here."""
        desk = await self._desk(group_id)
        machine = desk.machine
        state = machine.queues.groups.get(QueueId(group.id))
        if state is None:
            return Depth(None, machine.next_offset - machine.log_start_offset)
        depth = Depth(machine.queues.depth(QueueId(group.id)), machine.next_offset - state.frontier)
        until = state.breaker_until
        if not until:
            return depth
        log_tick, wall_ms = desk.stamp()
        return depth._replace(breaker_until_ms=wall_ms + until - log_tick, is_trying=until <= log_tick)

    async def ask(self, group_id: GroupId, group: QueueGroupRecord, op: QueueOp, timeout_ms: int) -> QueueAnswer:
        """The answer to one op about a group; the partition is told of the group first where it must be."""
        desk = await self._desk(group_id)
        desk.line(group).refresh()
        (answer,) = await self._within(desk, [op], timeout_ms)
        return answer

    async def cancel(self, group_id: GroupId, group: QueueGroupRecord, offset: Offset, timeout_ms: int) -> bool:
        """Do not deliver a record that is not due yet. False: it was too late. Raises OffsetOutOfRange.

        Asked again, the answer is the same for as long as it is not due: what is done with by then was cancelled.
        """
        desk = await self._desk(group_id)
        if not desk.machine.log_start_offset <= offset < desk.next_offset:
            raise OffsetOutOfRange(f"there is no record at offset {offset}", field="offset")
        line = desk.line(group)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await line.known(offset)
        except TimeoutError:
            raise DeadlineExceeded(
                "the group did not come to know the record in time", outcome=Outcome.NOT_APPLIED
            ) from None
        (answer,) = await self._within(desk, [commands.Cancel(QueueId(group.id), offset)], timeout_ms)
        return not isinstance(answer, Refused) or await self._comes_never(desk, QueueId(group.id), offset)

    async def _comes_never(self, desk: Desk, queue: QueueId, offset: Offset) -> bool:
        state, batch = desk.machine.queues.groups.get(queue), await desk.records.attempt(offset)
        if state is None or offset in state.open or isinstance(batch, RaftmqError):
            return False
        return batch.records[offset - batch.base_offset].deliver_at_ms > desk.stamp()[1]

    async def peek(
        self, group_id: GroupId, group: QueueGroupRecord, place: Place, offset: int, most: int
    ) -> tuple[list[Peeked], Offset | None]:
        """Records in one place, from an offset on, and where to go on; None: there are no more."""
        desk = await self._desk(group_id)
        state = desk.machine.queues.groups.get(QueueId(group.id))
        if state is None:
            return [], None
        found = looking.offsets_in(state, place, offset, most + 1)
        peeked = await self._peeked(desk, looking.told(state, place, found[:most], desk.stamp()))
        return peeked, Offset(found[most]) if len(found) > most else None

    async def unrouted(self, group_id: GroupId, group: QueueGroupRecord, offset: int, most: int) -> list[Peeked]:
        """Parked records that are not in the group's topic of dead letters yet, from an offset on. Those that cannot be
        read are among them, without a record: whoever goes on behind the last has looked at them as well."""
        desk = await self._desk(group_id)
        state = desk.machine.queues.groups.get(QueueId(group.id))
        if state is None:
            return []
        found = state.parked.unrouted(offset, most)
        return await self._peeked(desk, looking.told(state, Place.PARKED, found, desk.stamp()))

    async def _peeked(self, desk: Desk, told: list[Peeked]) -> list[Peeked]:
        """`told`, with the records themselves, as far as they can be read."""
        for one in told:
            batch = await desk.records.attempt(Offset(one.offset))
            if not isinstance(batch, RaftmqError) and batch.is_readable:
                one.record = batch.records[one.offset - batch.base_offset]
                one.append_time_ms = batch.wall_ms
        return told

    async def redrive(
        self, group_id: GroupId, group: QueueGroupRecord, wanted: ParkedFilter, pace: Pace, timeout_ms: int
    ) -> RedriveCount:
        """Parked records are delivered again, as far as the time allows."""
        desk = await self._desk(group_id)
        state = desk.machine.queues.groups.get(QueueId(group.id))
        if state is None:
            return RedriveCount(0, 0, 0)
        matching = looking.parked(state, wanted)
        if pace.dry_run:
            return RedriveCount(len(matching), 0, 0)
        loop = asyncio.get_running_loop()
        deadline, redriven, looping = loop.time() + timeout_ms / 1000, 0, 0
        step = min(REDRIVE_STEP, max(1, pace.per_s // 10)) if pace.per_s else REDRIVE_STEP
        chosen = matching[: pace.most]
        for first in range(0, len(chosen), step):
            asked = chosen[first : first + step]
            left_ms = int((deadline - loop.time()) * 1000)
            if left_ms <= 0:
                break
            try:
                (answer,) = await self._within(desk, [commands.Redrive(QueueId(group.id), asked)], left_ms)
            except RaftmqError as error:
                if first == 0 or error.outcome is not Outcome.NOT_APPLIED:
                    raise
                break  # told that nothing happened, whoever asks again would have as many redriven once more
            if isinstance(answer, Redriven):
                redriven += len(answer.offsets)
                looping += len(answer.looping)
            if pace.per_s and first + step < len(chosen):
                await asyncio.sleep(min(len(asked) / pace.per_s, max(0.0, deadline - loop.time())))
        return RedriveCount(len(matching), redriven, looping)

    async def _within(self, desk: Desk, ops: Sequence[QueueOp], timeout_ms: int) -> list[QueueAnswer]:
        """The answers to all of `ops`; or one error for them, which says what is known of the outcome of all."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                answers = await asyncio.gather(*(desk.ask(op) for op in ops), return_exceptions=True)
        except TimeoutError:
            raise DeadlineExceeded("it was appended, but not committed in time") from None
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            raise error_of_all(errors, is_partial=len(errors) < len(answers))
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    # -- desks -------------------------------------------------------------------------------------------------------

    async def _desk(self, group_id: GroupId) -> Desk:
        await self._log.reached(group_id, Offset(0), SERVING_MS)
        return self.desk_of(group_id)

    def desk_of(self, group_id: GroupId) -> Desk:
        """Of a partition that is led here, and serves. Raises NotLeader."""
        group = self._log.replicas.group(group_id)
        if group is None or not group.is_leader:
            raise NotLeader("this node does not lead the partition")
        desk = self._desks.get(group_id)
        if desk is None or desk.is_closed or desk.term != group.node.term or desk.machine is not group.machine:
            if desk is not None:
                desk.close()
            machine = group.machine
            assert isinstance(machine, PartitionMachine)
            held = machine.queues.held
            desk = self._desks[group_id] = Desk(
                group,
                self._log.replicas.barriers,
                self._clock,
                Records(partial(self._read, group_id), lambda: held.records),
                partial(self._log.replicas.touch, group_id),
                self._entropy,
                partial(self._sharing, group_id),
            )
        return desk

    def tidy(self) -> None:
        """Let go of partitions that are led here no more: a desk keeps the state and the records of its partition."""
        for group_id, desk in list(self._desks.items()):
            group = self._log.replicas.group(group_id)
            if desk.is_closed or group is None or not group.is_leader or group.node.term != desk.term:
                desk.close()
                del self._desks[group_id]

    async def _read(self, group_id: GroupId, offset: Offset, max_bytes: int) -> list[BatchRow]:
        return (await self._log.fetch(group_id, offset, max_bytes, 1, 0)).batches


async def _granted(waiter: Waiter, limit_ms: int) -> tuple[Granted, bytes]:
    try:
        async with asyncio.timeout(limit_ms / 1000):
            return await asyncio.shield(waiter.answer)
    except TimeoutError:
        raise DeadlineExceeded("the log did not grant what is ready in time", outcome=Outcome.NOT_APPLIED) from None
    except LeadershipLost as lost:
        # Whatever was granted, its secret went nowhere.
        raise NotLeader(lost.message) from None
