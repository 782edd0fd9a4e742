"""FindProcessedKeys: each partition's leader looks in its own; a key may be remembered in several."""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, Part, Target
from raftmq.broker.queues.groups import QueueGroupMethods
from raftmq.broker.queues.verdicts import KEY_BYTES_MAX
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, RaftmqError
from raftmq.v1 import queue_pb2

LIMIT_MS = 10_000
KEYS_MAX = 1_000
PARTITIONS_MAX = 10_000
"""In one request, repeated ones too."""
FAN_OUT_BYTES_MAX = 16 * 1024 * 1024
"""Of the requests to all partitions together, each of which has all the keys."""


class ProcessedKeys:
    """The method FindProcessedKeys."""

    def __init__(self, view: View, groups: QueueGroupMethods) -> None:
        self._view = view
        self._groups = groups

    def entries(self) -> dict[str, Entry]:
        return {"Queue.FindProcessedKeys": Entry(self.find, reads=True, target=self.target, join=self.join)}

    def target(self, request: queue_pb2.FindProcessedKeysRequest) -> Target:
        """Where `request` goes; all of it is checked. Several partitions make several parts."""
        topic = self._view.topic(request.topic)
        if not request.group:
            raise InvalidArgument("names no group", field="group")
        _check(request)
        for position, number in enumerate(request.partitions):
            self._view.partition(topic, number, f"partitions[{position}]")
        self._groups.group(request.topic, request.group)
        wanted = sorted(set(request.partitions)) or [one.partition for one in topic.partitions]
        group = topic.partitions[wanted[0]].group
        if len(wanted) == 1:
            request.partitions[:] = wanted
            return Target(group, LIMIT_MS, amended=True)
        size = len(wanted) * request.ByteSize()
        if size > FAN_OUT_BYTES_MAX:
            raise InvalidArgument(
                f"{len(request.keys)} keys for each of {len(wanted)} partitions are {size} bytes, at most "
                f"{FAN_OUT_BYTES_MAX}: ask for fewer of them at a time",
                field="keys",
            )
        parts = []
        for number in wanted:
            part = queue_pb2.FindProcessedKeysRequest()
            part.CopyFrom(request)
            part.partitions[:] = [number]
            parts.append(Part(part, number))
        return Target(group, LIMIT_MS, parts=tuple(parts))

    async def find(
        self, request: queue_pb2.FindProcessedKeysRequest, context: CallContext
    ) -> queue_pb2.FindProcessedKeysResponse:
        """As the leader of the one partition; `target` has passed."""
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, request.partitions[0])
        group = self._groups.group(request.topic, request.group)
        limit_ms = context.within(LIMIT_MS)
        known = await self._view.queues.processed(partition.group, group, request.keys, limit_ms)
        response = queue_pb2.FindProcessedKeysResponse(header=self._view.header(partition.group))
        for position, one in known:
            found = response.found.add(position=position, partition=partition.partition, offset=one.offset)
            found.processed_at.FromMilliseconds(one.wall_ms)
        return response

    def join(
        self, answers: Sequence[tuple[Part, queue_pb2.FindProcessedKeysResponse | RaftmqError]]
    ) -> queue_pb2.FindProcessedKeysResponse:
        """All partitions, or the error of one of them: that a key is in none of the others says nothing."""
        found: list[queue_pb2.ProcessedKey] = []
        for _, answer in answers:
            if isinstance(answer, RaftmqError):
                raise answer
            found += answer.found
        found.sort(key=lambda one: (one.position, one.partition))
        return queue_pb2.FindProcessedKeysResponse(header=self._view.header(), found=found)


def _check(request: queue_pb2.FindProcessedKeysRequest) -> None:
    if not 1 <= len(request.keys) <= KEYS_MAX:
        raise InvalidArgument(f"{len(request.keys)} of them, not 1 to {KEYS_MAX}", field="keys")
    for position, key in enumerate(request.keys):
        if not 1 <= len(key) <= KEY_BYTES_MAX:
            raise InvalidArgument(f"has {len(key)} bytes, not 1 to {KEY_BYTES_MAX}", field=f"keys[{position}]")
    if len(request.partitions) > PARTITIONS_MAX:
        raise InvalidArgument(f"{len(request.partitions)} of them, at most {PARTITIONS_MAX}", field="partitions")
