"""Topics as queues: what a seed decides about the groups of a topic, what their workers do, and what operators do to
them meanwhile. Who the workers are, and what becomes of them, is in ``workforce``.

A worker is a program of the real client: most messages it acknowledges, some it retries, releases, parks, extends,
contradicts itself about, sleeps too long over, or forgets. Everything that it was given and said is written down, in
the words of ``chaos.queue_events``, so that a simulated history and a real one are judged by the same checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from raftmq.broker.queues.tokens import claim
from raftmq.chaos.history import FOREIGN, Outcome
from raftmq.chaos.queue_events import Delivery, Queue, Verdict
from raftmq.client.queue import QueueWorker
from raftmq.client.queue_admin import QueueSettings
from raftmq.client.queue_message import QueueMessage
from raftmq.client.types import ConsumedRecord
from raftmq.errors import Outcome as Applied
from raftmq.errors import RaftmqError
from raftmq.sim.handing_over import HandingOver, HandingPlan, draw_handing, is_result
from raftmq.sim.oracle import Partition
from raftmq.sim.workload import Task, until_done

SHARE = 0.22
"""Of all seeds: those with queues."""
WORDS = (
    ("ack", 58), ("retry", 12), ("release", 6), ("park", 4), ("extend", 6), ("late", 5), ("contradict", 5),
    ("forget", 4),
)  # fmt: skip
"""What a worker does with a message, and how often of a hundred times."""
TENDING = ("redrive", "redrive", "pause", "seek", "resume", "cancel", "peek")
"""What operators do."""
TIMEOUT_MS = 4_000
LETTERS = "letters"
"""The topic of dead letters, in seeds that have one."""
HONEST_HANDS = 32
"""Of a worker, when the run is over: what is left is done in few steps."""
TOGETHER_AT_LAST = 8
"""Messages that are handed over at once then."""


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """One group of one topic. Times in milliseconds."""

    topic: str
    group: str
    settings: QueueSettings
    workers: int
    prefetch: int
    hands: int
    """Messages that a worker works on at a time."""
    work_ms: float
    """What a message takes, on average."""
    session_ms: int
    """How long a worker works until it starts anew."""
    patience_ms: int
    """How long a verdict is tried."""
    tending: tuple[str, ...]
    """What operators do to this group."""
    keys: int
    """Different keys of the topic's records; 0: they have none."""
    special: float
    """How many of the topic's records have a priority, a time before which or after which they are not wanted."""
    handing: HandingPlan = field(default_factory=HandingPlan)

    @property
    def name(self) -> str:
        return f"{self.topic}/{self.group}"


def draw_queues(rng: Random, topics: Sequence[str], election_ms: int) -> list[QueuePlan]:
    """One group or two of one topic."""
    topic = rng.choice(topics)
    keys, special = rng.choice((0, 2, 6)), rng.choice((0.0, 0.0, 0.3))
    return [_draw(rng, topic, f"q{number}", election_ms, keys, special) for number in range(rng.choice((1, 1, 2)))]


def _draw(rng: Random, topic: str, group: str, election_ms: int, keys: int, special: float) -> QueuePlan:
    lease_ms = max(100, int(election_ms * rng.choice((0.1, 0.3, 0.6))))
    breaker = rng.random() < 0.15
    settings = QueueSettings(
        start="latest" if rng.random() < 0.1 else "earliest",
        ordered_by_key=keys > 0 and rng.random() < 0.6,
        lease_ms=lease_ms,
        attempts_max=rng.choice((1, 2, 3, 8)),
        backoff_first_ms=rng.choice((1, 20, 100)),
        backoff_max_ms=rng.choice((100, 400)),
        backoff_jitter_percent=rng.choice((0, 20)),
        at_end="drop" if rng.random() < 0.25 else "park",
        drain_per_s=rng.choice((0, 0, 0, 100, 400)),
        fair_by=rng.choice(("", "", "key", "header:tenant")),
        retention=rng.choices(("log", "delete_on_ack", "all_groups"), weights=(6, 2, 2))[0],
        processed_keys_max=rng.choice((2, 10_000)),
        breaker_failures=3 if breaker else 0,
        breaker_pause_ms=max(20, election_ms // 4),
        expiry_is_failure=rng.random() < 0.7,
        redrives_max=rng.choice((1, 10)),
    )
    return QueuePlan(
        topic=topic,
        group=group,
        settings=settings,
        workers=rng.randint(1, 3),
        prefetch=rng.choice((1, 3, 8)),
        hands=rng.choice((1, 1, 3)),
        work_ms=rng.choice((2.0, 10.0, 30.0)),
        session_ms=int(election_ms * rng.choice((0.7, 2.0))) + 100,
        patience_ms=int(election_ms * rng.choice((0.5, 2.0))) + 100,
        tending=tuple(kind for kind in TENDING if rng.random() < 0.35),
        keys=keys,
        special=special,
    )


def draw_faces(rng: Random, plans: Sequence[QueuePlan]) -> list[QueuePlan]:
    """What only some of the groups have; drawn apart, so that the rest of a plan stays as it was."""
    plans = [replace(plan, handing=draw_handing(rng)) for plan in plans]
    if rng.random() < 0.35:
        # Redriven more often than elsewhere, so that some are parked again.
        plans = [
            replace(plan, settings=_with_letters(rng, plan.settings), tending=(*plan.tending, "redrive"))
            for plan in plans
        ]
    return plans


def _with_letters(rng: Random, settings: QueueSettings) -> QueueSettings:
    """What is parked goes to a topic of dead letters, too. More is parked than elsewhere."""
    return replace(
        settings,
        dead_letter_topic=LETTERS,
        dead_letter_remove=rng.random() < 0.35,
        attempts_max=min(settings.attempts_max, rng.choice((1, 2))),
    )


def dressing(plan: QueuePlan, rng: Random, wall_ms: int) -> dict[str, Any]:
    """What a record of the topic has besides its value: arguments of ``Producer.enqueue``."""
    dress: dict[str, Any] = {}
    if plan.keys and rng.random() < 0.9:
        dress["key"] = f"key {rng.randrange(plan.keys)}".encode()
    if rng.random() < 0.7:
        dress["headers"] = (("tenant", b"%d" % rng.randrange(3)),)
    if plan.special and rng.random() < plan.special:
        match rng.randrange(3):
            case 0:
                dress["priority"] = rng.randint(1, 9)
            case 1:
                dress["deliver_at_ms"] = wall_ms + rng.randint(1, 400)
            case _:
                dress["expires_at_ms"] = wall_ms + rng.randint(50, 1_000)
    return dress


async def create(task: Task, plans: Sequence[QueuePlan]) -> None:
    """Make the groups of the run, however long it takes."""
    for plan in plans:

        async def attempt(plan: QueuePlan = plan) -> None:
            await task.client.queues.set_group(plan.topic, plan.group, plan.settings, timeout_ms=10_000)

        await until_done(attempt)
        task.oracle.queues[plan.name] = Queue(
            plan.name,
            plan.settings.attempts_max,
            plan.settings.ordered_by_key,
            expiry_fails=plan.settings.expiry_is_failure,
        )


class Worker:
    """One of a group's workers. ``now``: microseconds of the time that is true for all."""

    def __init__(self, task: Task, plan: QueuePlan, now: Callable[[], int]) -> None:
        self._task = task
        self._plan = plan
        self._now = now
        self._history = task.oracle.queues[plan.name]
        self._handing = HandingOver(task, plan.handing, self._history, now)
        self._worker: QueueWorker | None = None
        """Of the session."""

    async def work(self) -> None:
        """Session after session, until cancelled. Once the run is over it does its work honestly."""
        task, plan = self._task, self._plan
        while True:
            hands = HONEST_HANDS if task.stopping() else plan.hands
            try:
                async with task.client.queue(
                    plan.topic, plan.group, worker=task.name, prefetch=max(plan.prefetch, hands),
                    unavailable_timeout_ms=plan.patience_ms,
                ) as worker:  # fmt: skip
                    await self._session(worker, hands)
            except RaftmqError as error:
                task.oracle.counts[f"worker {error.reason}"] += 1
                await asyncio.sleep(0.05)

    async def _session(self, worker: QueueWorker, count: int) -> None:
        self._worker = worker
        hands = [asyncio.create_task(self._hand(worker)) for _ in range(count)]
        try:
            async with asyncio.timeout(self._plan.session_ms / 1000):
                await asyncio.gather(*hands)
        except TimeoutError:
            self._task.oracle.counts["worker sessions"] += 1
        finally:
            for hand in hands:
                hand.cancel()
            await asyncio.wait(hands)

    async def _hand(self, worker: QueueWorker) -> None:
        async for message in worker:
            self._note(message)
            if self._task.stopping() and self._handing.wants(message):
                await self._with_others(message, TOGETHER_AT_LAST)
            elif self._task.stopping():
                await self._say(message, "ack")
            else:
                await asyncio.sleep(self._task.rng.expovariate(1.0) * self._plan.work_ms / 1000)
                await self._decide(message)

    async def _decide(self, message: QueueMessage) -> None:
        words, weights = zip(*WORDS, strict=True)
        (word,) = self._task.rng.choices(words, weights)
        match word:
            case "late":
                await asyncio.sleep((message.lease_left_ms + self._task.rng.randint(1, 60)) / 1000)
                await self._say(message, "ack")
            case "extend":
                await self._say(message, "extend")
                await asyncio.sleep(self._task.rng.random() * self._plan.settings.lease_ms / 1000)
                await self._say(message, "ack")
            case "contradict":
                # Two verdicts on one delivery, the first of them twice: the second word must not count.
                first, second = self._task.rng.sample(("ack", "release", "retry", "park"), 2)
                await self._say(message, first)
                await self._say(message, first)
                await self._say(message, second)
            case "forget":
                message.settled()
            case "ack" if self._task.rng.random() < 0.4 and self._handing.wants(message):
                await self._with_others(message, self._task.rng.choice((2, 2, 4)))
            case _:
                await self._say(message, word)

    async def _with_others(self, message: QueueMessage, most: int) -> None:
        """Hand over several messages at once, as far as there are others; those that cannot come along go by
        themselves."""
        assert self._worker is not None
        together: list[QueueMessage] = [message]
        apart: list[QueueMessage] = []
        while len(together) + len(apart) < most:
            other = await self._worker.get(1)
            if other is None:
                break
            self._note(other)
            fits = other.partition == message.partition and not is_result(other.value)
            (together if fits else apart).append(other)
        if len(together) == 1:
            apart, together = together + apart, []
        await asyncio.gather(*(self._say(one, "ack") for one in apart))
        if together and not await self._handing.several(self._worker, together):
            await asyncio.gather(*(self._say(one, "release") for one in together))

    def _note(self, message: QueueMessage) -> None:
        partition = Partition(message.topic, message.partition)
        record = ConsumedRecord(
            *partition, message.offset, message.key, message.value, (), None, message.append_time_ms, 0
        )
        self._task.oracle.polled(self._task.name, partition, message.offset, record)
        self._task.oracle.counts["messages handed out"] += 1
        key = f"none {message.offset}" if message.key is None else message.key.decode()
        now = self._now()
        self._history.deliveries.append(
            Delivery(
                now, self._task.name, named(partition), message.offset, claim(message.token).lease, message.attempt,
                message.failures, FOREIGN, key, now + message.lease_left_ms * 1000,
            )
        )  # fmt: skip

    async def _say(self, message: QueueMessage, kind: str) -> None:
        if kind == "ack" and self._handing.wants(message):
            assert self._worker is not None
            if await self._handing.one(self._worker, message):
                return
            kind = "release"
        partition = named(Partition(message.topic, message.partition))
        verdict = Verdict(kind, partition, message.offset, claim(message.token).lease, self._now())
        self._history.verdicts.append(verdict)
        counts = self._task.oracle.counts
        try:
            await self._settle(message, kind, verdict)
        except RaftmqError as error:
            surely_not = error.outcome is Applied.NOT_APPLIED
            verdict.returned, verdict.outcome = self._now(), Outcome.FAIL if surely_not else Outcome.INFO
            counts[f"verdict {error.reason}" + ("" if surely_not else " or not")] += 1
        else:
            verdict.returned, verdict.outcome = self._now(), Outcome.OK
            counts[f"verdict {kind} taken"] += 1

    async def _settle(self, message: QueueMessage, kind: str, verdict: Verdict) -> None:
        rng = self._task.rng
        match kind:
            case "ack":
                key = self._handing.key(message) or b"%d" % message.offset
                await message.ack(processed_key=key if rng.random() < 0.2 else b"")
            case "release":
                await message.release()
            case "retry":
                verdict.at_end = not await message.retry(delay_ms=rng.choice((None, 0, 30)), error="as planned")
            case "park":
                await message.park("planned")
            case _:
                lease_ms = self._plan.settings.lease_ms
                await message.extend(lease_ms)
                if left_ms := message.lease_left_ms:  # of 0 nobody knows since when: this process may have been stopped
                    verdict.until = self._now() + left_ms * 1000


async def tend(task: Task, plan: QueuePlan, partitions: int, pause_ms: float) -> None:
    """What operators do to a group, now and then; in the end it is not paused."""
    counts, rng = task.oracle.counts, task.rng
    while plan.tending and not task.stopping():
        await task.rest(rng.uniform(0.3, 1.5) * pause_ms / 1000)
        kind = rng.choice(plan.tending)
        try:
            await _tend(task, plan, kind, partitions, pause_ms)
            counts[f"queue {kind}"] += 1
        except RaftmqError as error:
            counts[f"queue {kind} {error.reason}"] += 1
    if "pause" in plan.tending:
        await _pause(task, plan, paused=False)


async def _tend(task: Task, plan: QueuePlan, kind: str, partitions: int, pause_ms: float) -> None:
    queues, rng = task.client.queues, task.rng
    match kind:
        case "redrive":
            await queues.redrive(plan.topic, plan.group, timeout_ms=TIMEOUT_MS)
        case "pause":
            await _pause(task, plan, paused=True)
            await task.rest(rng.uniform(0.1, 0.4) * pause_ms / 1000)
            await _pause(task, plan, paused=False)
        case "seek":
            position: Any = rng.choice(("earliest", "latest", rng.randrange(20)))
            await queues.seek(plan.topic, plan.group, position, timeout_ms=TIMEOUT_MS)
        case "resume":
            await queues.resume(plan.topic, plan.group, timeout_ms=TIMEOUT_MS)
        case "cancel":
            partition = Partition(plan.topic, rng.randrange(partitions))
            offset = rng.randrange(task.oracle.ends.get(partition, 0) + 1)
            task.oracle.cancelled.add((partition, offset))
            await queues.cancel_scheduled(*partition, offset, group=plan.group, timeout_ms=TIMEOUT_MS)
        case _:
            await queues.peek(plan.topic, plan.group, rng.randrange(partitions), timeout_ms=TIMEOUT_MS)


async def _pause(task: Task, plan: QueuePlan, *, paused: bool) -> None:
    """However often it takes: to ask for the same twice changes nothing."""
    while True:
        try:
            settings = replace(plan.settings, paused=paused)
            await task.client.queues.set_group(plan.topic, plan.group, settings, timeout_ms=TIMEOUT_MS)
        except RaftmqError as error:
            task.oracle.counts[f"queue pause {error.reason}"] += 1
            await asyncio.sleep(0.1)
        else:
            return


def named(partition: Partition) -> str:
    """As histories of queues name it."""
    return f"{partition.topic}/{partition.number}"
