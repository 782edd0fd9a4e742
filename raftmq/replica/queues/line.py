"""Those who wait for messages of one group in one partition, first come first served.

What is ready is known from the applied state, less what grants under way may take of it. Records that the group does
not know of yet are introduced ahead of demand, by whole batches: their attributes are read here, because the state
machine never looks at a record.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from raftmq.errors import NotReady, Outcome, QueuePaused, RaftmqError
from raftmq.ids import GroupId, LeaseId, Offset, QueueId
from raftmq.metadata import queue_groups as rules
from raftmq.metadata.queue_groups import QueueGroupRecord
from raftmq.partition.queues import commands
from raftmq.partition.queues.commands import Granted, Introduce, QueueAnswer
from raftmq.partition.queues.group import QueueGroup
from raftmq.partition.queues.settings import AtEnd, Backoff, Ordering, QueueRetention, QueueSettings
from raftmq.partition.queues.tally import Counter
from raftmq.replica.queues.calls import Wish
from raftmq.replica.queues.records import CACHE_BYTES, DecodedBatch, key_hash, lane_hash, special_of
from raftmq.v1 import types_pb2

if TYPE_CHECKING:
    from raftmq.replica.queues.desk import Desk

_log = structlog.get_logger(__name__)

AHEAD = 4_096
"""Records that are known to the group and ready beyond what is asked for: among them priorities hold."""
AHEAD_IN_TURNS = 1_048_576
"""The same where lanes have turns: nobody is to wait behind the many records of another. They take some 20 bytes each,
on every replica."""
STEP_AHEAD = 2_048
"""Records of one introduction that nobody who asks waits for."""
WAITING_MAX = 1_048_576
"""So many records that wait for others of their key are enough: there is no looking further behind them."""
INTRODUCE_MAX = 16_384
"""Records of one introduction. Every replica takes it in in one step; a batch may hold a million."""
PAUSED_RETRY_MS = 1_000

UNREADABLE = "UNREADABLE"
"""Why a record is parked whose batch is not what its header says."""
NOTHING = Granted(LeaseId(0), 0, (), {})


@dataclass(eq=False, slots=True)
class Waiter:
    """A call that waits for messages."""

    wish: Wish
    answer: asyncio.Future[tuple[Granted, bytes]]
    began: float
    """By the loop's clock."""
    waited_ms: int = 0
    """Until it asked for the lease that it got."""
    is_late: bool = False
    """It waits for nothing but what is under way for it."""
    sees: int = 0
    """Once so many introductions have ended a late one need see no further. Where nothing of a long log is ready, or
    what is appended is for later, there is always another one."""
    is_gone: bool = False
    """Its caller waits no more: what it gets is to be given back."""


class Line:
    """See the module docstring."""

    def __init__(self, desk: Desk, group: QueueGroupRecord) -> None:
        self._desk = desk
        self._group = group
        self._queue = QueueId(group.id)
        self._waiting: deque[Waiter] = deque()
        self._granting = 0
        """Records that grants under way may take."""
        self._arriving = 0
        """Records of an introduction under way: grants behind it in the log can have them."""
        self._is_introducing = False
        self._introductions = 0
        """That have ended."""
        self._is_configuring = False
        self._breaker: tuple[int, int] | None = None
        """As of the last look: until when it is open, how often it has opened."""

    def told(self, group: QueueGroupRecord) -> None:
        """Somebody knows the group as this; an older picture of it changes nothing."""
        if group.version > self._group.version:
            self._group = group
            if group.settings.paused:
                self.close(QueuePaused(f"group {group.name} is paused", field="group", retry_after_ms=PAUSED_RETRY_MS))

    def wait(self, wish: Wish) -> Waiter:
        """Join the line."""
        loop = asyncio.get_running_loop()
        waiter = Waiter(wish, loop.create_future(), loop.time())
        self._waiting.append(waiter)
        self._desk.look()
        return waiter

    def late(self, waiter: Waiter) -> None:
        """Its time to wait is over: it gets what is under way for it, or nothing."""
        waiter.is_late, waiter.sees = True, self._introductions + 1
        self._desk.look()

    def leave(self, waiter: Waiter) -> None:
        """Its caller waits no more."""
        waiter.is_gone = True
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif waiter.answer.done() and not waiter.answer.cancelled() and waiter.answer.exception() is None:
            self.give_back(*waiter.answer.result())

    def give_back(self, granted: Granted, secret: bytes, offsets: list[int] | None = None) -> None:
        """Release what a lease holds, or these `offsets` of it, with nobody waiting for the outcome."""
        back = list(granted.offsets) if offsets is None else offsets
        if back:
            op = commands.Settle(self._queue, granted.lease, secret, commands.Verdict.RELEASE, back)
            self._desk.submit(op, _nobody)

    def set_aside(self, granted: Granted, secret: bytes, offsets: list[int]) -> None:
        """Park these `offsets` of a lease, which nobody can read."""
        if offsets:
            park = commands.Verdict.PARK
            op = commands.Settle(
                self._queue, granted.lease, secret, park, offsets, reason=UNREADABLE, error="the batch is broken"
            )  # fmt: skip
            self._desk.submit(op, _nobody)

    def close(self, error: RaftmqError) -> None:
        """Nobody who waits gets anything: why."""
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            _fail(waiter, error.copy())

    # -- serving -----------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Ask for whatever can be had now."""
        if not self._waiting:
            return
        self.refresh()
        state = self._desk.machine.queues.groups.get(self._queue)
        if state is not None:
            wanted = sum(waiter.wish.messages for waiter in self._waiting)
            self._see_ahead(state, wanted)
            self._hand_out(state, wanted)
        self._send_away()

    def _see_ahead(self, state: QueueGroup, wanted: int) -> None:
        if self._is_introducing or state.frontier >= self._desk.next_offset:
            return
        missing = wanted + AHEAD - state.ready
        if missing <= 0 and state.settings.is_fair:
            missing = min(wanted + AHEAD_IN_TURNS - state.ready, STEP_AHEAD)
        if min(missing, WAITING_MAX - len(state.waiting)) > 0:
            self._is_introducing = True
            self._desk.run(self._introduce(Offset(state.frontier), missing))

    def _hand_out(self, state: QueueGroup, wanted: int) -> None:
        tick, wall_ms = self._desk.stamp()
        left = state.grantable(tick) + self._arriving - self._granting
        if left <= 0 and not self._granting and due_in_ms(state, tick, wall_ms) == 0:
            left = wanted  # whose time has come is ready when the grants are applied
        while self._waiting and left > 0:
            waiter = self._waiting.popleft()
            fitting = max(1, waiter.wish.bytes // self._desk.records.mean_bytes)
            asked = min(waiter.wish.messages, fitting, commands.GRANT_MAX)
            left -= asked
            self._grant(waiter, asked)

    def _send_away(self) -> None:
        """Those who are late, and for whom nothing is under way."""
        is_idle = not self._is_introducing and not self._is_configuring
        late = [one for one in self._waiting if one.is_late and (is_idle or self._introductions >= one.sees)]
        for waiter in late:
            self._waiting.remove(waiter)
            waiter.answer.set_result((NOTHING, b""))

    def _grant(self, waiter: Waiter, count: int) -> None:
        secret = self._desk.entropy(commands.SECRET_BYTES)
        self._granting += count

        def told(answer: QueueAnswer | RaftmqError) -> None:
            self._granting -= count
            if isinstance(answer, RaftmqError):
                _fail(waiter, answer)
            elif isinstance(answer, Granted) and answer.offsets:
                if waiter.is_gone:
                    self.give_back(answer, secret)
                else:
                    waiter.answer.set_result((answer, secret))
            elif not waiter.is_gone:
                self._waiting.appendleft(waiter)  # others were before it; ``serve`` sees whether it is late

        waiter.waited_ms = int((asyncio.get_running_loop().time() - waiter.began) * 1000)
        self._desk.submit(commands.Grant(self._queue, waiter.wish.worker, count, secret, waiter.wish.lease_ms), told)

    def refresh(self) -> None:
        """Let the partition know the newest rules, if it does not."""
        state = self._desk.machine.queues.groups.get(self._queue)
        wanted = _age_of(self._group, self._desk.sharing())
        if self._is_configuring or (state is not None and state.settings.age >= wanted):
            return
        self._is_configuring = True

        def told(answer: QueueAnswer | RaftmqError) -> None:
            self._is_configuring = False
            self._refused(answer)

        self._desk.submit(commands.Configure(self._queue, self._settings(), self._start()), told)

    def _settings(self) -> QueueSettings:
        return settings_of(self._group, self._desk.sharing())

    def _refused(self, answer: QueueAnswer | RaftmqError) -> None:
        """What those who wait need first cannot be had now: they are told so, and come again. Asked for anew here, it
        would be refused in every pass of the loop, for as long as leadership is being handed over."""
        if isinstance(answer, RaftmqError) and answer.outcome is Outcome.NOT_APPLIED:
            self.close(answer)

    def _start(self) -> Offset:
        """Where the group begins if it is new here."""
        return self._desk.next_offset if self._group.settings.start is rules.Start.LATEST else Offset(0)

    def tell_of_breaker(self, partition: GroupId) -> None:
        """To be called again and again: a line in the log when the circuit breaker has opened, or is closed again; and
        where leadership begins with an open one."""
        state = self._desk.machine.queues.groups.get(self._queue)
        if state is None:
            return
        until, count = state.breaker_until, state.counters[Counter.BREAKER_OPENED]
        until_before, count_before = self._breaker or (0, count)
        self._breaker = (until, count)
        about = {"group": partition, "term": self._desk.term, "queue": self._group.name}
        if count > count_before or (until and until != until_before):
            for_ms = max(0, until - self._desk.stamp()[0])
            _log.warning("circuit breaker open", **about, failures=state.breaker.failures, for_ms=for_ms)
        if not until and (until_before or count > count_before):
            _log.info("circuit breaker closed", **about)

    async def _introduce(self, first: Offset, count: int) -> None:
        """Read what comes next, and make it known."""
        try:
            batches = await self._read(first, min(count, INTRODUCE_MAX))
        except RaftmqError as error:
            self._is_introducing = False
            state = self._desk.machine.queues.groups.get(self._queue)
            if state is not None and state.frontier != first:
                self._desk.look()  # a trim has taken what was to be read, and what comes next is something else now
            else:
                self.close(error)
            return

        def told(answer: QueueAnswer | RaftmqError) -> None:
            self._is_introducing = False
            self._introductions += 1
            self._arriving = 0
            self._refused(answer)

        introduction = self._introduction(first, batches)
        self._arriving = introduction.next - first - len(introduction.specials)
        self._desk.submit(introduction, told)

    async def _read(self, first: Offset, count: int) -> list[DecodedBatch]:
        """At least one batch, and as many as hold `count` records; no more than fit into memory. Raises RaftmqError,
        NotReady where `first` is not visible."""
        batches: list[DecodedBatch] = []
        offset, size = first, 0
        while offset < min(first + count, self._desk.next_offset) and size < CACHE_BYTES:
            batch = await self._desk.records.at(offset)
            if batch is None:
                break
            batches.append(batch)
            offset, size = batch.next_offset, size + batch.size
        if not batches:
            raise NotReady("the record cannot be read yet")
        return batches

    def _introduction(self, first: Offset, batches: list[DecodedBatch]) -> Introduce:
        settings = self._group.settings
        records: list[tuple[int, types_pb2.Record]] = []
        following = first
        for batch in batches:
            # It may begin with what is known already: behind a record that is held comes the batch that it is from.
            records += [one for one in enumerate(batch.records, batch.base_offset) if one[0] >= following]
            following = batch.next_offset
        if len(records) > INTRODUCE_MAX:
            del records[INTRODUCE_MAX:]
            following = Offset(first + INTRODUCE_MAX)
        by_key = settings.ordering is rules.Ordering.KEY
        keys = [key_hash(record) for _, record in records] if by_key else ()
        lanes = [lane_hash(record, settings.fair_by) for _, record in records] if settings.fair_by else ()
        specials = [special for offset, record in records if (special := special_of(Offset(offset), record))]
        return Introduce(
            self._queue,
            first,
            following,
            keys if any(keys) else (),
            lanes if any(lanes) else (),
            specials,
        )

    async def known(self, offset: Offset) -> None:
        """Return when the group knows the record at `offset`, which is visible. Raises RaftmqError."""
        while (state := self._desk.machine.queues.groups.get(self._queue)) is None or state.frontier <= offset:
            if state is None:
                await self._desk.ask(commands.Configure(self._queue, self._settings(), self._start()))
                continue
            first = Offset(state.frontier)
            batches = await self._read(first, min(offset + 1 - first, INTRODUCE_MAX))
            await self._desk.ask(self._introduction(first, batches))

    # -- time --------------------------------------------------------------------------------------------------------

    def due_in_ms(self) -> int | None:
        """When time alone makes something ready for those who wait; None: never, or nobody waits."""
        state = self._desk.machine.queues.groups.get(self._queue)
        if not self._waiting or state is None or self._granting:
            return None
        return due_in_ms(state, *self._desk.stamp())


def due_in_ms(state: QueueGroup, tick: int, wall_ms: int) -> int | None:
    """When time alone changes what a grant gets; 0: it has; None: never."""
    waits = (
        _until(state.next_tick(), tick), _until(state.next_wall(), wall_ms), _until(state.grantable_from(tick), tick)
    )  # fmt: skip
    return min((wait for wait in waits if wait is not None), default=None)


def _until(at: int | None, now: int) -> int | None:
    return None if at is None else max(0, at - now)


class Sharing(NamedTuple):
    """Among whom a drain rate is divided."""

    partitions: int
    """Of the topic."""
    is_exact: bool
    """All nodes know shares that are no whole numbers."""


def _age_of(group: QueueGroupRecord, sharing: Sharing) -> tuple[int, int]:
    """Of what ``settings_of`` makes of it."""
    return group.version, sharing.partitions if sharing.is_exact and group.settings.drain_per_s else 1


def settings_of(group: QueueGroupRecord, sharing: Sharing) -> QueueSettings:
    """The rules of a group as one of its partitions keeps them."""
    told, (partitions, is_exact) = group.settings, sharing
    version, drain_parts = _age_of(group, sharing)
    return QueueSettings(
        version=version,
        ordering=Ordering.KEY if told.ordering is rules.Ordering.KEY else Ordering.NONE,
        lease_ms=told.lease_ms,
        attempts_max=told.attempts_max,
        at_end=AtEnd.DROP if told.at_end is rules.AtEnd.DROP else AtEnd.PARK,
        backoff=Backoff(
            told.backoff_first_ms, told.backoff_factor_percent, told.backoff_max_ms, told.backoff_jitter_percent
        ),
        expiry_is_failure=told.expiry_is_failure,
        drain_per_s=told.drain_per_s if is_exact else -(-told.drain_per_s // partitions),
        drain_parts=drain_parts,
        is_fair=bool(told.fair_by),
        retention=_RETENTIONS[told.retention],
        processed_keys_max=told.processed_keys_max,
        breaker_failures=told.breaker_failures,
        breaker_pause_ms=told.breaker_pause_ms,
        redrives_max=told.redrives_max,
    )


_RETENTIONS = {
    rules.QueueRetention.LOG: QueueRetention.KEEP,
    rules.QueueRetention.DELETE_ON_ACK: QueueRetention.DELETE_ON_ACK,
    rules.QueueRetention.ALL_GROUPS: QueueRetention.ALL_GROUPS,
}


def _fail(waiter: Waiter, error: RaftmqError) -> None:
    if not waiter.answer.done():
        waiter.answer.set_exception(error)
        if waiter.is_gone:
            waiter.answer.exception()


def _nobody(_answer: QueueAnswer | RaftmqError) -> None:
    """Whoever asked waits for no answer."""
