"""Tells the partitions on this node how far consumer groups have come: asked of all coordinators, again and again.

    Positions.look ──> leader of each partition of __groups ──> lowest committed offset, partition by partition
          └──> Backlog.told, if all of them have ever answered

Only topics are asked for that have something to decide by it: a limit on their depth, or a queue group that keeps what
not all groups have read. If one coordinator does not answer, its last answer counts on, with those of the others; all
of it is as old as that, and once it is too old nothing is removed any more because all groups have read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import structlog
from google.protobuf.message import DecodeError

from raftmq.coordinator.coordinator import Coordinator
from raftmq.errors import InvalidArgument, NoLeader, NotLeader, RaftmqError
from raftmq.groups.commands import key_from_proto, key_to_proto
from raftmq.groups.machine import GroupsMachine
from raftmq.groups.positions import Slowest, joined, slowest
from raftmq.groups.types import TopicPartition
from raftmq.ids import GroupId, NodeId, Offset, Tick
from raftmq.internal.v1 import groups_pb2
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.internal import GROUPS_TOPIC
from raftmq.metadata.queue_groups import QueueRetention
from raftmq.ports import Clock
from raftmq.replica.backlog import Consumers
from raftmq.replica.host import ReplicaHost

_log = structlog.get_logger(__name__)

READ_POSITIONS = "raftmq.coordinator/ReadPositions"
INTERVAL_S = 1.0
ASK_WITHIN_MS = 3_000

Forward = Callable[[NodeId, str, bytes, int], Awaitable[bytes]]
"""(node, method, request, remaining milliseconds) -> response. Raises RaftmqError."""


class Metadata(Protocol):
    """What this node knows of the cluster."""

    @property
    def image(self) -> MetadataImage: ...
    def is_current(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    """The last one of a coordinator."""

    as_of: Tick
    asked: frozenset[TopicPartition]
    """What it speaks for. A partition that is newer than it has readers that it knows nothing of."""
    positions: Mapping[TopicPartition, Slowest]


class Positions:
    """Both ends: ``handle`` answers what ``look`` asks. ``run`` until cancelled."""

    def __init__(
        self,
        coordinator: Coordinator,
        host: ReplicaHost,
        forward: Forward,
        metadata: Metadata,
        clock: Clock,
    ) -> None:
        self._coordinator = coordinator
        self._host = host
        self._forward = forward
        self._metadata = metadata
        self._clock = clock
        self._backlog = host.replicas.upkeep.backlog
        self._answers: dict[GroupId, _Answer] = {}
        self._backlog.told({}, clock.tick())  # from here on there may be groups that this node has not heard of

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.look()
            except RaftmqError as error:
                _log.info("committed offsets are not known", reason=error.reason, detail=error.message)

    async def look(self) -> None:
        """Once. Raises RaftmqError where a coordinator does not answer."""
        if not self._metadata.is_current():
            return  # what this node takes for all coordinators, and all topics, may be those of the past
        image, as_of = self._metadata.image, self._clock.tick()
        wanted = self._wanted(image)
        groups = image.topics.get(GROUPS_TOPIC)
        if groups is None:
            self._backlog.told(None, as_of)
        elif not wanted:
            self._backlog.told({}, as_of)
        else:
            await self._ask_all([partition.group for partition in groups.partitions], wanted, as_of)

    async def _ask_all(
        self, coordinators: Sequence[GroupId], wanted: Mapping[TopicPartition, GroupId], as_of: Tick
    ) -> None:
        """Tell what is known with what all `coordinators` say now; then raise the RaftmqError of one that did not."""
        topic_ids = sorted({key.topic_id for key in wanted})
        failed: list[BaseException] = []
        told = await asyncio.gather(*(self._ask(at, topic_ids) for at in coordinators), return_exceptions=True)
        for at, positions in zip(coordinators, told, strict=True):
            if isinstance(positions, BaseException):
                failed.append(positions)
            else:
                self._answers[at] = _Answer(as_of, frozenset(wanted), positions)
        answers = [self._answers[at] for at in coordinators if at in self._answers]
        if len(answers) == len(coordinators):
            consumers = {
                at: _consumers(reduce(joined, (answer.positions.get(key, _NOBODY) for answer in answers), _NOBODY))
                for key, at in wanted.items()
                if all(key in answer.asked for answer in answers)
            }
            self._backlog.told(consumers, min(answer.as_of for answer in answers))
        if failed:
            raise failed[0]

    def _wanted(self, image: MetadataImage) -> dict[TopicPartition, GroupId]:
        """Partitions that this node has a replica of, and that somebody may want to know the readers of."""
        groups = image.queue_groups.values()
        kept = {one.topic_id for one in groups if one.settings.retention is QueueRetention.ALL_GROUPS}
        return {
            TopicPartition(topic.topic_id, partition.partition): partition.group
            for topic in image.topics.values()
            if topic.depth or topic.topic_id in kept
            for partition in topic.partitions
            if self._host.replicas.me in partition.replicas or self._host.replicas.me in partition.replicas_after
        }

    async def _ask(self, at: GroupId, topic_ids: Sequence[int]) -> dict[TopicPartition, Slowest]:
        leader = self._host.leader_of(at)
        if leader is None:
            raise NoLeader(f"no leader of group {at} is known")
        request = groups_pb2.ReadPositionsRequest(coordinator=at, topic_ids=topic_ids).SerializeToString()
        if leader[0] == self._host.replicas.me.node:
            answer = await self.handle(request, ASK_WITHIN_MS)
        else:
            answer = await self._forward(leader[0], READ_POSITIONS, request, ASK_WITHIN_MS)
        found = groups_pb2.ReadPositionsResponse.FromString(answer)
        return {
            key_from_proto(one.partition): (one.lowest if one.HasField("lowest") else None, one.is_awaited)
            for one in found.positions
        }

    # -- the other end ---------------------------------------------------------------------------------------------

    async def handle(self, request: bytes, timeout_ms: int) -> bytes:
        """Answer as a coordinator, from all that was acknowledged before. Raises NotLeader, NoLeader,
        InvalidArgument."""
        try:
            asked = groups_pb2.ReadPositionsRequest.FromString(request)
        except DecodeError:
            raise InvalidArgument(f"the bytes are no request of {READ_POSITIONS}") from None
        at = GroupId(asked.coordinator)
        group = self._host.replicas.group(at)
        if group is None or not isinstance(group.machine, GroupsMachine):
            raise NotLeader(f"this node does not coordinate group {at}")
        machine = await self._coordinator.confirmed(at, timeout_ms)
        response = groups_pb2.ReadPositionsResponse()
        for key, (lowest, is_awaited) in sorted(slowest(machine.groups.values(), set(asked.topic_ids)).items()):
            response.positions.add(partition=key_to_proto(key), lowest=lowest, is_awaited=is_awaited)
        return response.SerializeToString()


_NOBODY: Slowest = (None, False)


def _consumers(slowest_of: Slowest) -> Consumers:
    lowest, is_awaited = slowest_of
    return Consumers(None if lowest is None else Offset(lowest), is_awaited)
