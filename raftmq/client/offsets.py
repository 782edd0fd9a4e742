"""Bounds of partitions, asked of their leaders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from raftmq.client import convert
from raftmq.client.retry import may_retry_read
from raftmq.client.router import Router
from raftmq.client.types import PartitionOffsets
from raftmq.errors import InternalError, InvalidArgument
from raftmq.v1 import broker_pb2

ATTEMPT_TIMEOUT_MS = 5_000


async def list_offsets(
    router: Router, topic: str, partitions: Sequence[int], *, appended_at: datetime | None = None, timeout_ms: int
) -> Mapping[int, PartitionOffsets]:
    """Bounds of `partitions`; a high watermark covers everything acknowledged before the call.

    `appended_at` also asks for the first offset appended at that time or later. Raises UnknownTopic, UnknownPartition,
    InvalidArgument for a time without a time zone, and the last error after `timeout_ms` milliseconds.
    """
    request = broker_pb2.ListOffsetsRequest(topic=topic)
    if appended_at is not None:
        request.appended_at.CopyFrom(_timestamp(appended_at))
    bounds: dict[int, PartitionOffsets] = {}

    async def attempt() -> None:
        """Ask each leader for the partitions that are still missing and that it is thought to lead."""
        by_leader: dict[int, list[int]] = {}
        for partition in partitions:
            if partition not in bounds:
                leader = router.metadata.image.leader(topic, partition).node_id
                by_leader.setdefault(leader or 0, []).append(partition)
        answers = await asyncio.gather(
            *(_ask(router, request, group) for group in by_leader.values()), return_exceptions=True
        )
        for answer in answers:
            if not isinstance(answer, BaseException):
                bounds.update(answer)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    await router.policy.call(attempt, may_retry_read, timeout_ms=timeout_ms)
    return bounds


def _timestamp(time: datetime) -> Timestamp:
    if time.tzinfo is None:
        raise InvalidArgument("a time needs a time zone: whose clock is meant?", field="appended_at")
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


async def _ask(
    router: Router, request: broker_pb2.ListOffsetsRequest, partitions: Sequence[int]
) -> dict[int, PartitionOffsets]:
    asked = broker_pb2.ListOffsetsRequest()
    asked.CopyFrom(request)
    asked.partitions.extend(partitions)
    topic = request.topic
    answer = await router.to_partition(
        topic, partitions[0], lambda node: node.broker.ListOffsets, asked, timeout_ms=ATTEMPT_TIMEOUT_MS
    )
    bounds = {p.partition: convert.offsets(p) for p in answer.partitions}
    missing = sorted(set(partitions) - set(bounds))
    if missing:
        raise InternalError(f"the answer leaves out partitions {missing} of {topic}")
    return bounds
