"""Copies of parked messages in topics of dead letters, made by the leaders of the partitions where they are parked.

    parked ──Produce, under a message id──> topic of dead letters ──acknowledged──> Routed, in the partition's own log

At least once: whoever dies in between leaves a copy that its successor sends again, under the same id. What cannot be
copied stays parked, is tried again, and is told: in the log, and by DescribeGroup as `unrouted`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from raftmq.broker.deadlines import CallContext
from raftmq.broker.view import View
from raftmq.errors import DataLoss, RaftmqError
from raftmq.ids import Offset, QueueId
from raftmq.metadata.features import PARKINGS_NAMED
from raftmq.metadata.image import PartitionRecord, TopicRecord
from raftmq.metadata.queue_groups import QueueGroupRecord
from raftmq.partition.queues.commands import Routed
from raftmq.records.batch import PRIORITY_MAX, RECORD_HEADERS_MAX, TIMESTAMP_MAX_MS
from raftmq.replica.queues.looking import Peeked
from raftmq.v1 import broker_pb2, types_pb2

PRODUCE = "/raftmq.v1.Broker/Produce"
INTERVAL_S = 1.0
BATCH = 100
"""Messages that are copied at once, of one partition and group."""
LIMIT_MS = 10_000
TELL_EVERY_S = 10.0
PREFIX = "raftmq-dead-letter-"

_log = structlog.get_logger(__name__)


class Ways(Protocol):
    """What is asked of ``raftmq.broker.calls.Calls``."""

    async def target(self, name: str, request: Any, context: CallContext) -> Any: ...
    async def answer(self, name: str, request: Any, target: Any, context: CallContext) -> Any: ...


class DeadLetters:
    """See the module docstring."""

    def __init__(self, view: View, calls: Ways) -> None:
        self._view = view
        self._calls = calls
        self._next: dict[tuple[int, int], int] = {}
        """By group and partition: where to go on. One that cannot be copied must not keep those behind it."""
        self._busy: set[int] = set()
        """Groups whose letters are being copied."""
        self._told_at: dict[int, float] = {}
        self.interval_s = INTERVAL_S
        """Between two looks."""
        self.limit_ms = LIMIT_MS
        """How long a copy may take, and a leader to say so."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self.interval_s)
                self.look(tasks)

    def look(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to copy what is parked in partitions that are led here: of each a batch. A task for each group: one
        whose topic of dead letters does not answer must not keep the others."""
        image = self._view.cluster.image
        topics = {topic.topic_id: topic for topic in image.topics.values()}
        for _, group in sorted(image.queue_groups.items()):
            topic = topics.get(group.topic_id)
            if group.settings.dead_letter_topic and topic is not None and group.id not in self._busy:
                self._busy.add(group.id)
                tasks.create_task(self._copy_all(topic, group), name=f"dead-letters-{group.id}")

    async def _copy_all(self, topic: TopicRecord, group: QueueGroupRecord) -> None:
        try:
            for partition in topic.partitions:
                if self._view.host.leads(partition.group):
                    await self._look(topic, partition, group)
        finally:
            self._busy.discard(group.id)

    async def _look(self, topic: TopicRecord, partition: PartitionRecord, group: QueueGroupRecord) -> None:
        place = (group.id, partition.group)
        try:
            seen = await self._view.queues.unrouted(partition.group, group, self._next.get(place, 0), BATCH)
            self._next[place] = seen[-1].offset + 1 if len(seen) == BATCH else 0
            letters = [(one, one.record) for one in seen if one.record is not None]
            unread = len(seen) - len(letters)
            if unread:
                self._failed(group, DataLoss(f"{unread} of partition {partition.partition} cannot be read"))
            sent = await asyncio.gather(*(self._send(topic, partition, group, *letter) for letter in letters))
            done = [one for (one, _), was_sent in zip(letters, sent, strict=True) if was_sent]
            if done:
                # One that was redriven meanwhile, and parked again, is another letter.
                is_named = self._view.cluster.image.cluster_version >= PARKINGS_NAMED
                ticks = [one.parked_tick for one in done] if is_named else []
                offsets = [Offset(one.offset) for one in done]
                routed = Routed(QueueId(group.id), offsets, group.settings.dead_letter_remove, ticks)
                await self._view.queues.ask(partition.group, group, routed, self.limit_ms)
        except RaftmqError as error:
            self._failed(group, error)  # leadership has moved on, most likely: the next leader looks as well

    async def _send(
        self,
        topic: TopicRecord,
        partition: PartitionRecord,
        group: QueueGroupRecord,
        letter: Peeked,
        record: types_pb2.Record,
    ) -> bool:
        """Whether the copy is acknowledged."""
        request = broker_pb2.ProduceRequest(
            topic=group.settings.dead_letter_topic,
            records=[_copy(topic.name, partition.partition, group.name, letter, record)],
            # Parked once more, later, it is another letter.
            message_id=f"dead-letter-{group.id}-{partition.group}-{letter.offset}-{letter.parked_tick}",
        )
        context = CallContext.starting(self.limit_ms)
        try:
            target = await self._calls.target(PRODUCE, request, context)
            await self._calls.answer(PRODUCE, request, target, context)
        except RaftmqError as error:
            self._failed(group, error)
            return False
        return True

    def _failed(self, group: QueueGroupRecord, error: RaftmqError) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told_at.get(group.id, -TELL_EVERY_S) >= TELL_EVERY_S:
            self._told_at[group.id] = now
            wanted = group.settings.dead_letter_topic
            _log.warning("dead letters wait", group=group.name, to=wanted, reason=error.reason, detail=error.message)


def _copy(topic: str, partition: int, group: str, letter: Peeked, original: types_pb2.Record) -> types_pb2.Record:
    """The record as it was, with what became of it. What a queue makes of records (schedule, expiry) it leaves out."""
    told: Sequence[tuple[str, object]] = (
        ("topic", topic),
        ("partition", partition),
        ("offset", letter.offset),
        ("group", group),
        ("reason", letter.reason),
        ("error", letter.error),
        ("attempts", letter.attempts),
        ("failures", letter.failures),
    )
    # What a batch holds is its sender's affair until somebody looks: a number out of range must not stop its copy.
    timestamp_ms = original.timestamp_ms if 0 <= original.timestamp_ms <= TIMESTAMP_MAX_MS else 0
    record = types_pb2.Record(timestamp_ms=timestamp_ms, priority=min(PRIORITY_MAX, original.priority))
    if original.HasField("key"):
        record.key = original.key
    if original.HasField("value"):
        record.value = original.value
    record.headers.extend(original.headers[: RECORD_HEADERS_MAX - len(told)])
    for name, value in told:
        record.headers.add(name=PREFIX + name, value=str(value).encode())
    return record
