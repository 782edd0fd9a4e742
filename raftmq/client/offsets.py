"""Bounds of partitions, asked of their leaders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from raftmq.client import convert
from raftmq.client.retry import may_retry_read
from raftmq.client.router import Router
from raftmq.client.types import PartitionOffsets
from raftmq.errors import InternalError
from raftmq.v1 import broker_pb2

ATTEMPT_TIMEOUT_MS = 5_000


async def list_offsets(
    router: Router, topic: str, partitions: Sequence[int], *, timeout_ms: int
) -> Mapping[int, PartitionOffsets]:
    """Bounds of `partitions`; a high watermark covers everything acknowledged before the call.

    Raises UnknownTopic, UnknownPartition, and the last error after `timeout_ms` milliseconds.
    """
    bounds: dict[int, PartitionOffsets] = {}

    async def attempt() -> None:
        """Ask each leader for the partitions that are still missing and that it is thought to lead."""
        by_leader: dict[int, list[int]] = {}
        for partition in partitions:
            if partition not in bounds:
                leader = router.metadata.image.leader(topic, partition).node_id
                by_leader.setdefault(leader or 0, []).append(partition)
        answers = await asyncio.gather(
            *(_ask(router, topic, group) for group in by_leader.values()), return_exceptions=True
        )
        for answer in answers:
            if not isinstance(answer, BaseException):
                bounds.update(answer)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    await router.policy.call(attempt, may_retry_read, timeout_ms=timeout_ms)
    return bounds


async def _ask(router: Router, topic: str, partitions: Sequence[int]) -> dict[int, PartitionOffsets]:
    answer = await router.to_partition(
        topic,
        partitions[0],
        lambda node: node.broker.ListOffsets,
        broker_pb2.ListOffsetsRequest(topic=topic, partitions=partitions),
        timeout_ms=ATTEMPT_TIMEOUT_MS,
    )
    bounds = {p.partition: convert.offsets(p) for p in answer.partitions}
    missing = sorted(set(partitions) - set(bounds))
    if missing:
        raise InternalError(f"the answer leaves out partitions {missing} of {topic}")
    return bounds
