"""What clients do while the cluster is hurt. Every loop here is a person's program: it uses the public client only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from raftmq.client.client import Client
from raftmq.client.producer import Producer
from raftmq.client.types import Acks, RecordReceipt
from raftmq.errors import DataLoss, NotFound, OffsetOutOfRange, Outcome, RaftmqError
from raftmq.sim.depth import DepthPlan
from raftmq.sim.oracle import Oracle, Partition, Send
from raftmq.sim.retaining import RetentionPlan


@dataclass(slots=True)
class Task:
    """What one simulated client needs."""

    name: str
    client: Client
    oracle: Oracle
    rng: Random
    _is_over: bool = False
    _resting: dict[asyncio.Future[None], None] = field(default_factory=dict)

    def stopping(self) -> bool:
        """The run is over: come to an end."""
        return self._is_over

    async def rest(self, seconds: float) -> None:
        """Do nothing for so long, or until the run is over: nobody waits for a client that has nothing to do."""
        if self._is_over:
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, woken)
        self._resting[woken] = None
        try:
            await woken
        finally:
            timer.cancel()
            del self._resting[woken]

    def end(self) -> None:
        """On the client's loop: the run is over."""
        self._is_over = True
        for woken in self._resting:
            _wake(woken)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


@dataclass(frozen=True, slots=True)
class ProducerPlan:
    """How one producer behaves. Times in milliseconds."""

    topic: str
    partitions: int
    acks: Acks
    idempotent: bool
    in_flight: int
    pause_ms: float
    burst: int
    delivery_ms: int
    request_ms: int


Dress = Callable[[Random], dict[str, Any]]
"""What a record has besides its value: arguments of ``Producer.enqueue``."""


async def produce(task: Task, plan: ProducerPlan, dress: Dress = lambda rng: {}) -> None:
    """Send bursts of records until told to stop; then wait for every answer."""
    number = 0
    while not task.stopping():
        try:
            async with task.client.producer(
                plan.topic,
                acks=plan.acks,
                idempotent=plan.idempotent,
                linger_ms=2,
                max_in_flight=plan.in_flight,
                max_batch_records=8,
                delivery_timeout_ms=plan.delivery_ms,
                request_timeout_ms=plan.request_ms,
            ) as producer:
                number = await _bursts(task, plan, producer, number, dress)
        except RaftmqError as error:
            # A producer that was ended (fenced, a gap) is replaced by a new one, as a program would restart.
            task.oracle.counts[f"producer ended {error.reason}"] += 1
            await task.rest(0.2)


async def _bursts(task: Task, plan: ProducerPlan, producer: Producer, number: int, dress: Dress) -> int:
    rng = task.rng
    while not task.stopping():
        partition = Partition(plan.topic, rng.randrange(plan.partitions))
        for _ in range(rng.randint(1, plan.burst)):
            number += 1
            value = f"{task.name}:{number}".encode() + b"." * rng.choice((0, 0, 0, 200))
            send = task.oracle.sending(value, partition, plan.acks)
            try:
                future = await producer.enqueue(value, partition=partition.number, **dress(rng))
            except RaftmqError as error:
                task.oracle.unsent(send, error)
                raise
            future.add_done_callback(_Ending(task.oracle, send))
        await task.rest(rng.expovariate(1.0) * plan.pause_ms / 1000)
    return number


class _Ending:
    """Tells the oracle how a send ended."""

    def __init__(self, oracle: Oracle, send: Send) -> None:
        self._oracle = oracle
        self._send = send

    def __call__(self, future: asyncio.Future[RecordReceipt]) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._oracle.unsent(self._send, error)
        else:
            self._oracle.sent(self._send, future.result())


async def consume(task: Task, topic: str, partition: int, max_bytes: int, pause_ms: float = 0.0) -> None:
    """Read from the start, on and on, keeping count of the offset. `pause_ms`: what a record takes, on average."""
    expected = 0
    key = Partition(topic, partition)
    while not task.stopping():
        try:
            async with task.client.consumer(
                topic,
                start={partition: expected},
                partitions=[partition],
                max_bytes=max_bytes,
                max_wait_ms=task.rng.choice((50, 200, 1_000)),
                unavailable_timeout_ms=5_000,
            ) as consumer:
                async for record in consumer:
                    task.oracle.polled(task.name, key, expected, record)
                    expected = record.offset + 1
                    if task.stopping():
                        return
                    if pause_ms:
                        await task.rest(task.rng.expovariate(1.0) * pause_ms / 1000)
        except OffsetOutOfRange as error:
            expected = task.oracle.out_of_range(key, expected, error)
        except RaftmqError as error:
            task.oracle.counts[f"consumer {error.reason}"] += 1
            # One disk that cannot read does not lose anything: others hold the same records.
            if not error.retriable and not isinstance(error, (NotFound, DataLoss)):
                raise
            await task.rest(0.1)


async def ask_bounds(task: Task, topic: str, partitions: int) -> None:
    """Ask where partitions end."""
    while not task.stopping():
        floors = {n: task.oracle.bounds_floor(Partition(topic, n)) for n in range(partitions)}
        try:
            for answer in await task.client.list_offsets(topic, timeout_ms=4_000):
                key = Partition(topic, answer.partition)
                task.oracle.bounds(key, floors[answer.partition], answer)
        except RaftmqError as error:
            task.oracle.counts[f"bounds {error.reason}"] += 1
        await task.rest(task.rng.uniform(0.02, 0.4))


async def churn_topics(task: Task, pause_ms: float) -> None:
    """Create and delete topics whose names come again and again."""
    while not task.stopping():
        name = f"churn-{task.rng.randrange(3)}"
        try:
            if task.rng.random() < 0.6:
                topic = await task.client.admin.create_topic(name, partitions=task.rng.randint(1, 2), timeout_ms=6_000)
                created_before = task.oracle.topics_created.setdefault(topic.topic_id, task.name + name)
                assert created_before == task.name + name, f"topic id {topic.topic_id} was given twice"
                task.oracle.counts["topics created"] += 1
            else:
                await task.client.admin.delete_topic(name, timeout_ms=6_000)
                task.oracle.counts["topics deleted"] += 1
        except RaftmqError as error:
            task.oracle.counts[f"topics {error.reason}"] += 1
        await task.rest(task.rng.uniform(0.2, 2.0) * pause_ms / 1000)


async def alter_topics(task: Task, topics: Sequence[str], pause_ms: float) -> None:
    """Alter how long topics remember message ids, to and fro, always by the version that was looked at.

    The windows are wide enough for every record of a run, so that nothing that clients were promised changes.
    """
    while not task.stopping():
        name = task.rng.choice(topics)
        count = task.rng.choice((5_000, 10_000, 20_000))
        try:
            seen = await task.client.admin.describe_topic(name, timeout_ms=4_000)
            told = await task.client.admin.alter_topic(
                name, message_id_window_count=count, expected_version=seen.version, timeout_ms=6_000
            )
            changed = count != seen.message_id_window_count
            assert (told.version, told.message_id_window_count) == (seen.version + changed, count), (
                f"{seen}, then {told}"
            )
            task.oracle.counts["topics altered"] += changed
        except RaftmqError as error:
            task.oracle.counts[f"alter {error.reason}"] += 1
        await task.rest(task.rng.uniform(0.2, 2.0) * pause_ms / 1000)


async def create(
    task: Task,
    topics: dict[str, int],
    replication_factor: int,
    min_in_sync: int,
    retention: RetentionPlan,
    depth: DepthPlan | None = None,
) -> None:
    """Create the topics of the run, however long it takes."""
    for name, partitions in sorted(topics.items()):

        async def attempt(name: str = name, partitions: int = partitions) -> None:
            try:
                await task.client.admin.create_topic(
                    name,
                    partitions=partitions,
                    replication_factor=replication_factor,
                    min_in_sync_replicas=min_in_sync,
                    retention_ms=retention.age_ms,
                    retention_bytes=retention.size_bytes,
                    timeout_ms=10_000,
                    **({} if depth is None else depth.settings(name)),
                )
            except RaftmqError as error:
                created = error.reason == "DEADLINE_EXCEEDED" and error.outcome is Outcome.APPLIED
                if error.reason != "ALREADY_EXISTS" and not created:
                    raise

        await until_done(attempt)


async def until_done(attempt: Callable[[], Awaitable[None]]) -> None:
    """Again and again, while the error says that it may help."""
    while True:
        try:
            await attempt()
        except RaftmqError as error:
            if not error.retriable and not isinstance(error, NotFound):
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def read_whole(client: Client, topic: str, number: int) -> list[tuple[int, bytes, int]]:
    """A partition from its start to its end: (offset, value, leader epoch) of each record."""
    while True:
        try:
            async with client.consumer(
                topic, start="earliest", partitions=[number], until="high_watermark"
            ) as consumer:
                return [(r.offset, r.value or b"", r.leader_epoch) async for r in consumer]
        except OffsetOutOfRange:
            continue  # removed between the question where it starts and the first read
