"""DescribeGroup: how many records of each partition are in which state. Each partition's leader counts its own."""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, Part, Target
from raftmq.broker.queues.groups import QueueGroupMethods
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, RaftmqError
from raftmq.metadata.queue_groups import QueueGroupRecord
from raftmq.partition.queues.tally import Counter
from raftmq.replica.queues.calls import Depth
from raftmq.v1 import queue_pb2

LIMIT_MS = 10_000
PARTITIONS_MAX = 10_000
"""In one request, repeated ones too."""


class Describing:
    """The method DescribeGroup."""

    def __init__(self, view: View, groups: QueueGroupMethods) -> None:
        self._view = view
        self._groups = groups

    def entries(self) -> dict[str, Entry]:
        return {"Queue.DescribeGroup": Entry(self.describe, reads=True, target=self.target, join=self.join)}

    def target(self, request: queue_pb2.DescribeGroupRequest) -> Target:
        """Where `request` goes; all of it is checked. Several partitions make several parts."""
        topic = self._view.topic(request.topic)
        self._groups.group(request.topic, request.group)
        if len(request.partitions) > PARTITIONS_MAX:
            raise InvalidArgument(f"{len(request.partitions)} of them, at most {PARTITIONS_MAX}", field="partitions")
        wanted = [
            self._view.partition(topic, number, f"partitions[{position}]")
            for position, number in enumerate(request.partitions)
        ] or list(topic.partitions)
        wanted = [topic.partitions[number] for number in sorted({one.partition for one in wanted})]
        amended = not request.partitions
        if len(wanted) == 1:
            del request.partitions[:]
            request.partitions.append(wanted[0].partition)
            return Target(wanted[0].group, LIMIT_MS, amended=amended)
        parts = tuple(
            Part(
                queue_pb2.DescribeGroupRequest(topic=request.topic, group=request.group, partitions=[one.partition]),
                one.partition,
            )
            for one in wanted
        )
        return Target(wanted[0].group, LIMIT_MS, parts=parts)

    async def describe(
        self, request: queue_pb2.DescribeGroupRequest, context: CallContext
    ) -> queue_pb2.DescribeGroupResponse:
        """As the leader of the one partition; `target` has passed."""
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, request.partitions[0])
        group = self._groups.group(request.topic, request.group)
        depth = await self._view.queues.depth(partition.group, group)
        response = self._response(request.topic, group)
        response.header.CopyFrom(self._view.header(partition.group))
        counts = _counts(partition.partition, depth)
        if depth.places is not None and group.settings.dead_letter_topic:
            counts.unrouted = depth.places.parked - depth.places.routed
        response.partitions.append(counts)
        return response

    def join(
        self, answers: Sequence[tuple[Part, queue_pb2.DescribeGroupResponse | RaftmqError]]
    ) -> queue_pb2.DescribeGroupResponse:
        """All partitions, or the error of one of them: half of a sum would look like all of it."""
        request: queue_pb2.DescribeGroupRequest = answers[0][0].request
        joined = self._response(request.topic, self._groups.group(request.topic, request.group))
        joined.header.CopyFrom(self._view.header())
        for _, answer in answers:
            if isinstance(answer, RaftmqError):
                raise answer
            joined.partitions.extend(answer.partitions)
        return joined

    def _response(self, topic: str, group: QueueGroupRecord) -> queue_pb2.DescribeGroupResponse:
        return queue_pb2.DescribeGroupResponse(group=self._groups.info(topic, group))


def _counts(partition: int, depth: Depth) -> queue_pb2.QueueCounts:
    places, unseen = depth.places, depth.unseen
    if places is None:
        return queue_pb2.QueueCounts(partition=partition, unseen=unseen)
    counted = places.counters
    counts = queue_pb2.QueueCounts(
        partition=partition,
        ready=places.ready,
        leased=places.leased,
        delayed=places.delayed,
        parked=places.parked,
        done=places.closed,
        unseen=unseen,
        lowest_unfinished=places.floor,
        waiting=places.waiting,
        leases=places.leases,
        start=places.start,
        acked=counted[Counter.ACKED],
        retried=counted[Counter.RETRIED],
        expired_leases=counted[Counter.LEASE_EXPIRED],
        dropped=counted[Counter.DROPPED],
        expired=counted[Counter.EXPIRED],
        skipped=counted[Counter.SKIPPED],
        breaker_opened=counted[Counter.BREAKER_OPENED],
        breaker_trying=depth.is_trying,
    )
    if depth.breaker_until_ms is not None and not depth.is_trying:
        counts.breaker_open_until.FromMilliseconds(depth.breaker_until_ms)
    return counts
