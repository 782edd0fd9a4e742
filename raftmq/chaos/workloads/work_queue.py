"""Workers of a queue group: most do their work, some fail, some sleep past their lease and then acknowledge, some take
messages and are never heard of again.

When the load ends all of them work honestly until nothing is left but what is parked.
"""

from __future__ import annotations

import asyncio
import random

from raftmq.broker.queues.tokens import claim
from raftmq.chaos.experiment import WorkQueue
from raftmq.chaos.workloads.base import BACK_OFF_S, Load, decode, outcome_of, reason_of
from raftmq.client import Client
from raftmq.client.queue import QueueMessage, QueueWorker
from raftmq.client.queue_admin import QueueSettings
from raftmq.errors import RaftmqError

UNAVAILABLE_TIMEOUT_MS = 20_000
READ_TIMEOUT_MS = 30_000
BACKOFF_FIRST_MS, BACKOFF_MAX_MS = 200, 1_500
HANDS = 6
"""Messages that an ordinary worker works on at a time."""
WORDS = (("ack", 78), ("retry", 8), ("release", 5), ("park", 1), ("extend", 4), ("contradict", 4))
"""What an ordinary worker does with a message, and how often of a hundred times."""
LATE_S = 0.7
REST_S = 1.0
STATES = ("ready", "leased", "delayed", "parked")


def start(plan: WorkQueue, load: Load, number: int, seed: int) -> None:
    group = _Group(plan, load, f"workers-{number + 1}")
    load.start_endless(f"work-queue-{number}", group.run(f"{seed}/{number}"))
    load.is_drained.append(group.is_drained)
    load.last_readings.append(group.read_out)


class _Group:
    def __init__(self, plan: WorkQueue, load: Load, name: str) -> None:
        self._plan = plan
        self._load = load
        self._name = name

    async def run(self, seed: str) -> None:
        plan, load = self._plan, self._load
        load.recorder.write("queue", queue=self._name, attempts_max=plan.attempts_max, ordered=plan.ordered)
        async with load.client() as client:
            await self._make(client)
        kinds = ["worker"] * plan.workers + ["late"] * plan.late + ["deserter"] * plan.deserters
        async with asyncio.TaskGroup() as workers:
            for i, kind in enumerate(kinds):
                one = _Worker(plan, load, self._name, f"{kind}-{i + 1}", kind, random.Random(f"{seed}/{i}"))
                workers.create_task(one.run())

    async def _make(self, client: Client) -> None:
        settings = QueueSettings(
            ordered_by_key=self._plan.ordered, lease_ms=self._plan.lease_ms, attempts_max=self._plan.attempts_max,
            backoff_first_ms=BACKOFF_FIRST_MS, backoff_max_ms=BACKOFF_MAX_MS,
        )  # fmt: skip
        while True:
            try:
                await client.queues.set_group(self._load.topic, self._name, settings)
            except RaftmqError:
                await asyncio.sleep(BACK_OFF_S)
            else:
                return

    async def is_drained(self, client: Client) -> bool:
        """Whether nothing is left but what is parked. Raises RaftmqError."""
        _, counts = await client.queues.describe_group(self._load.topic, self._name)
        return all(one.backlog == one.parked for one in counts)

    async def read_out(self, client: Client) -> None:
        """Write what is left, and what the group says of itself. Raises RaftmqError."""
        load = self._load
        _, counts = await client.queues.describe_group(load.topic, self._name, timeout_ms=READ_TIMEOUT_MS)
        for one in counts:
            partition = load.partition_name(one.partition)
            for state in STATES:
                await self._read_state(client, one.partition, state)
            numbers = {name: getattr(one, name) for name in one.__slots__ if name != "partition"}
            load.recorder.write("queue-counts", queue=self._name, partition=partition, **numbers)

    async def _read_state(self, client: Client, partition: int, state: str) -> None:
        load, offset = self._load, 0
        while True:
            messages, following = await client.queues.peek(
                load.topic, self._name, partition, state, offset=offset, timeout_ms=READ_TIMEOUT_MS,  # type: ignore[arg-type]
            )  # fmt: skip
            for one in messages:
                load.recorder.write(
                    "queue-left", queue=self._name, partition=load.partition_name(partition), offset=one.offset,
                    state=state, value=decode(one.value), attempts=one.attempts, failures=one.failures,
                    reason=one.reason,
                )  # fmt: skip
            if following is None:
                return
            offset = following


class _Worker:
    """One worker, with a client of its own. Once the load has ended every kind of them is an ordinary one."""

    def __init__(
        self, plan: WorkQueue, load: Load, group: str, name: str, kind: str, rng: random.Random
    ) -> None:  # fmt: skip
        self._plan = plan
        self._load = load
        self._group = group
        self._name = name
        self._kind = kind
        self._rng = rng

    async def run(self) -> None:
        load = self._load
        hands = HANDS if self._kind == "worker" else 1
        while True:
            try:
                async with (
                    load.client() as client,
                    client.queue(
                        load.topic, self._group, worker=self._name, prefetch=hands,
                        unavailable_timeout_ms=UNAVAILABLE_TIMEOUT_MS,
                    ) as worker,
                ):  # fmt: skip
                    await asyncio.gather(*(self._hand(worker) for _ in range(hands)))
            except RaftmqError as error:
                load.recorder.write("died", client=self._name, error=error.reason, message=error.message)
                await asyncio.sleep(BACK_OFF_S)

    async def _hand(self, worker: QueueWorker) -> None:
        async for message in worker:
            self._note(message)
            if self._load.stopping.is_set():
                await self._say(message, "ack")
            elif self._kind == "late":
                await self._load.pause(message.lease_left_ms / 1000 + LATE_S)
                await self._say(message, "ack")
            elif self._kind == "deserter":
                message.settled()
                await self._load.pause(REST_S)
            else:
                await self._work(message)

    async def _work(self, message: QueueMessage) -> None:
        words, weights = zip(*WORDS, strict=True)
        (word,) = self._rng.choices(words, weights)
        match word:
            case "extend":
                await self._say(message, "extend")
                await self._say(message, "ack")
            case "contradict":
                # Two verdicts on one delivery, the first of them twice: the second word must not count.
                first, second = self._rng.sample(("ack", "release", "retry"), 2)
                await self._say(message, first)
                await self._say(message, first)
                await self._say(message, second)
            case _:
                await self._say(message, word)

    def _note(self, message: QueueMessage) -> None:
        self._load.recorder.counts["deliver ok"] += 1
        self._load.recorder.write(
            "deliver", **self._about(message), attempt=message.attempt, failures=message.failures,
            value=decode(message.value), key=(message.key or b"").decode(), left=message.lease_left_ms * 1000,
        )  # fmt: skip

    def _about(self, message: QueueMessage) -> dict[str, object]:
        return {
            "queue": self._group,
            "client": self._name,
            "partition": self._load.partition_name(message.partition),
            "offset": message.offset,
            "lease": claim(message.token).lease,
        }

    async def _say(self, message: QueueMessage, verdict: str) -> None:
        recorder = self._load.recorder
        op = recorder.invoke("verdict", **self._about(message), verdict=verdict)
        told: dict[str, object] = {}
        try:
            if verdict == "ack":
                await message.ack()
            elif verdict == "release":
                await message.release()
            elif verdict == "retry":
                told["at_end"] = not await message.retry(error="as planned")
            elif verdict == "park":
                await message.park("planned")
            else:
                await message.extend(self._plan.lease_ms)
                told["left"] = message.lease_left_ms * 1000
        except RaftmqError as error:
            recorder.settle("verdict", op, outcome_of(error), error=reason_of(error))
        except asyncio.CancelledError:
            recorder.settle("verdict", op, "info", error="CANCELLED")
            raise
        else:
            recorder.settle("verdict", op, "ok", **told)
