"""What people do to queues: look at dead letters, redrive them, start over, close the breaker, cancel schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from raftmq import status
from raftmq.broker.deadlines import CALL_MAX_MS, CallContext, duration_ms, timestamp_ms
from raftmq.broker.dispatch import Entry, Part, Target
from raftmq.broker.fetching import OFFSET_MAX
from raftmq.broker.queues.groups import QueueGroupMethods, milliseconds
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, Outcome, RaftmqError, UnknownQueueGroup
from raftmq.ids import Offset, QueueId
from raftmq.metadata.image import PartitionRecord, TopicRecord
from raftmq.metadata.queue_groups import QueueGroupRecord
from raftmq.partition.queues.commands import Refused, Resume, Seek, Sought
from raftmq.replica.queues.looking import Pace, ParkedFilter, Peeked, Place
from raftmq.v1 import queue_pb2

LIMIT_MS = 10_000
PEEK_DEFAULT, PEEK_MAX = 100, 1_000
REDRIVE_DEFAULT, REDRIVE_MAX = 1_000, 100_000
REDRIVE_LIMIT_MS = 30_000
OFFSETS_MAX = 10_000

_PLACES = {
    queue_pb2.MESSAGE_STATE_READY: Place.READY,
    queue_pb2.MESSAGE_STATE_LEASED: Place.LEASED,
    queue_pb2.MESSAGE_STATE_DELAYED: Place.DELAYED,
    queue_pb2.MESSAGE_STATE_PARKED: Place.PARKED,
}


class Tending:
    """The methods that people call, rather than workers."""

    def __init__(self, view: View, groups: QueueGroupMethods) -> None:
        self._view = view
        self._groups = groups

    def entries(self) -> dict[str, Entry]:
        return {
            "Queue.Peek": Entry(self.peek, reads=True, target=self._peek_target),
            "Queue.Redrive": Entry(self.redrive, reads=False, target=self._redrive_target, join=self._join_redriven),
            "Queue.SeekGroup": Entry(self.seek, reads=False, target=self._seek_target, join=self._join_sought),
            "Queue.ResumeGroup": Entry(self.resume, reads=False, target=self._resume_target, join=self._join_resumed),
            "Queue.CancelScheduled": Entry(self.cancel, reads=False, target=self._cancel_target),
        }

    # -- looking -----------------------------------------------------------------------------------------------------

    def _peek_target(self, request: queue_pb2.PeekRequest) -> Target:
        partition = self._one(request)
        if request.state not in _PLACES:
            raise InvalidArgument(f"{request.state} is no state to look at", field="state")
        if request.max_messages > PEEK_MAX:
            raise InvalidArgument(f"{request.max_messages} is more than {PEEK_MAX}", field="max_messages")
        _offset(request.offset, "offset")
        self._groups.group(request.topic, request.group)
        return Target(partition.group, LIMIT_MS, request.no_forward)

    async def peek(self, request: queue_pb2.PeekRequest, _context: CallContext) -> queue_pb2.PeekResponse:
        partition = self._one(request)
        group = self._groups.group(request.topic, request.group)
        place, most = _PLACES[request.state], request.max_messages or PEEK_DEFAULT
        peeked, next_offset = await self._view.queues.peek(partition.group, group, place, request.offset, most)
        return queue_pb2.PeekResponse(
            header=self._view.header(partition.group),
            messages=[_peeked_to_proto(one) for one in peeked],
            next_offset=next_offset,
        )

    # -- redriving ---------------------------------------------------------------------------------------------------

    def _redrive_target(self, request: queue_pb2.RedriveRequest) -> Target:
        topic = self._view.topic(request.topic)
        limit_ms = _redrive_limit_ms(request)
        if request.max_messages > REDRIVE_MAX:
            raise InvalidArgument(f"{request.max_messages} is more than {REDRIVE_MAX}", field="max_messages")
        if request.filter.offsets and not request.HasField("partition"):
            raise InvalidArgument("is required where offsets are given", field="partition")
        _filter(request.filter)
        wanted = list(topic.partitions)
        if request.HasField("partition"):
            wanted = [self._view.partition(topic, request.partition)]
        self._check_group(request)

        def narrow(part: queue_pb2.RedriveRequest, number: int) -> None:
            part.partition = number

        return _over(request, wanted, limit_ms, narrow)

    async def redrive(self, request: queue_pb2.RedriveRequest, context: CallContext) -> queue_pb2.RedriveResponse:
        partition = self._one(request)
        group = self._groups.group(request.topic, request.group)
        pace = Pace(request.max_messages or REDRIVE_DEFAULT, request.rate_per_s, request.dry_run)
        limit_ms = context.within(_redrive_limit_ms(request))
        count = await self._view.queues.redrive(partition.group, group, _filter(request.filter), pace, limit_ms)
        response = queue_pb2.RedriveResponse(header=self._view.header(partition.group))
        response.partitions.add(
            partition=partition.partition,
            matched=count.matched,
            redriven=count.redriven,
            looping=count.looping,
            remaining=count.matched - count.redriven - count.looping,
        )
        return response

    def _join_redriven(self, answers: Sequence[tuple[Part, Any]]) -> Message:
        return _join(queue_pb2.RedriveResponse(header=self._view.header()), answers)

    # -- starting over -----------------------------------------------------------------------------------------------

    def _seek_target(self, request: queue_pb2.SeekGroupRequest) -> Target:
        wanted = self._several(request)
        match request.WhichOneof("position"):
            case None:
                raise InvalidArgument("a position is required", field="offset")
            case "offset":
                _offset(request.offset, "offset")
            case "appended_at":
                timestamp_ms(request.appended_at, "appended_at")
            case "earliest" | "latest" as which if not getattr(request, which):
                raise InvalidArgument("means nothing where it is false", field=which)
        self._check_group(request)
        return _over(request, wanted, LIMIT_MS, _narrow)

    async def seek(self, request: queue_pb2.SeekGroupRequest, context: CallContext) -> queue_pb2.SeekGroupResponse:
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, request.partitions[0])
        group = self._groups.group(request.topic, request.group)
        offset = await self._position(request, partition, context)
        op = Seek(QueueId(group.id), offset)
        answer = await self._view.queues.ask(partition.group, group, op, context.within(LIMIT_MS))
        if not isinstance(answer, Sought):
            raise _gone(group)
        response = queue_pb2.SeekGroupResponse(header=self._view.header(partition.group))
        response.partitions.add(partition=partition.partition, offset=answer.offset)
        return response

    async def _position(
        self, request: queue_pb2.SeekGroupRequest, partition: PartitionRecord, context: CallContext
    ) -> Offset:
        host = self._view.host
        match request.WhichOneof("position"):
            case "offset":
                return Offset(request.offset)
            case "earliest":
                return Offset(0)
        bounds = await host.bounds(partition.group, context.within(LIMIT_MS))
        if request.WhichOneof("position") == "latest":
            return bounds.high_watermark
        return await host.offset_at(partition.group, timestamp_ms(request.appended_at, "appended_at"))

    def _join_sought(self, answers: Sequence[tuple[Part, Any]]) -> Message:
        return _join(queue_pb2.SeekGroupResponse(header=self._view.header()), answers)

    # -- the breaker -------------------------------------------------------------------------------------------------

    def _resume_target(self, request: queue_pb2.ResumeGroupRequest) -> Target:
        wanted = self._several(request)
        self._check_group(request)
        return _over(request, wanted, LIMIT_MS, _narrow)

    async def resume(
        self, request: queue_pb2.ResumeGroupRequest, context: CallContext
    ) -> queue_pb2.ResumeGroupResponse:
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, request.partitions[0])
        group = self._groups.group(request.topic, request.group)
        op = Resume(QueueId(group.id))
        answer = await self._view.queues.ask(partition.group, group, op, context.within(LIMIT_MS))
        if isinstance(answer, Refused):
            raise _gone(group)
        return queue_pb2.ResumeGroupResponse(header=self._view.header(partition.group))

    def _join_resumed(self, answers: Sequence[tuple[Part, Any]]) -> Message:
        joined = queue_pb2.ResumeGroupResponse(header=self._view.header())
        for part, answer in _told(answers):
            if isinstance(answer, RaftmqError):
                joined.failures.add(partition=part.about, error=status.to_message(answer))
        return joined

    # -- what is scheduled -------------------------------------------------------------------------------------------

    def _cancel_target(self, request: queue_pb2.CancelScheduledRequest) -> Target:
        partition = self._one(request)
        if not request.HasField("offset"):
            raise InvalidArgument("is required", field="offset")
        _offset(request.offset, "offset")
        if request.group:
            self._groups.group(request.topic, request.group)
        return Target(partition.group, LIMIT_MS, request.no_forward)

    async def cancel(
        self, request: queue_pb2.CancelScheduledRequest, context: CallContext
    ) -> queue_pb2.CancelScheduledResponse:
        partition = self._one(request)
        topic = self._view.topic(request.topic)
        groups = [
            group
            for _, group in sorted(self._view.cluster.image.queue_groups.items())
            if group.topic_id == topic.topic_id and request.group in ("", group.name)
        ]
        response = queue_pb2.CancelScheduledResponse(header=self._view.header(partition.group))
        for group in groups:
            try:
                was_cancelled = await self._view.queues.cancel(
                    partition.group, group, Offset(request.offset), context.within(LIMIT_MS)
                )
            except RaftmqError as error:
                if response.cancelled and error.outcome is Outcome.NOT_APPLIED:
                    error.outcome = Outcome.UNKNOWN  # for some groups it was cancelled: once more would be too late
                raise
            (response.cancelled if was_cancelled else response.too_late).append(group.name)
        return response

    # -- requests ----------------------------------------------------------------------------------------------------

    def _one(self, request: Any) -> PartitionRecord:
        topic = self._view.topic(request.topic)
        if not request.HasField("partition"):
            raise InvalidArgument("is required", field="partition")
        return self._view.partition(topic, request.partition)

    def _several(self, request: Any) -> list[PartitionRecord]:
        """The partitions that `request` names, each once; all where it names none."""
        topic: TopicRecord = self._view.topic(request.topic)
        if len(request.partitions) > OFFSETS_MAX:
            raise InvalidArgument(f"{len(request.partitions)} of them, at most {OFFSETS_MAX}", field="partitions")
        for position, number in enumerate(request.partitions):
            self._view.partition(topic, number, f"partitions[{position}]")
        return [topic.partitions[number] for number in sorted(set(request.partitions))] or list(topic.partitions)

    def _check_group(self, request: Any) -> None:
        self._groups.group(request.topic, request.group)


def _gone(group: QueueGroupRecord) -> UnknownQueueGroup:
    return UnknownQueueGroup(f"group {group.name} was deleted meanwhile", field="group")


def _narrow(part: Any, number: int) -> None:
    del part.partitions[:]
    part.partitions.append(number)


def _over(request: Any, wanted: Sequence[PartitionRecord], limit_ms: int, narrow: Callable[[Any, int], None]) -> Target:
    """`request` for each of the partitions that it is about; ``narrow`` makes it one for a partition."""
    if len(wanted) == 1:
        narrow(request, wanted[0].partition)
        return Target(wanted[0].group, limit_ms, amended=True)
    parts = []
    for one in wanted:
        part = type(request)()
        part.CopyFrom(request)
        narrow(part, one.partition)
        parts.append(Part(part, one.partition))
    return Target(wanted[0].group, limit_ms, parts=tuple(parts))


def _told(answers: Sequence[tuple[Part, Any]]) -> Sequence[tuple[Part, Any]]:
    """`answers`; raises where all of them are errors."""
    errors = [answer for _, answer in answers if isinstance(answer, RaftmqError)]
    if len(errors) == len(answers):
        raise next((error for error in errors if error.outcome is not Outcome.NOT_APPLIED), errors[0])
    return answers


def _join(
    joined: queue_pb2.RedriveResponse | queue_pb2.SeekGroupResponse, answers: Sequence[tuple[Part, Any]]
) -> Message:
    """Everything of `answers` in `joined`, errors as answers for their partitions."""
    for part, answer in _told(answers):
        if isinstance(answer, RaftmqError):
            joined.partitions.add(partition=part.about, error=status.to_message(answer))
        else:
            joined.partitions.extend(answer.partitions)
    return joined


def _offset(value: int, field: str) -> None:
    if value > OFFSET_MAX:
        raise InvalidArgument(f"{value} is more than {OFFSET_MAX}", field=field)


def _redrive_limit_ms(request: queue_pb2.RedriveRequest) -> int:
    if not request.HasField("timeout"):
        return REDRIVE_LIMIT_MS
    return duration_ms(request.timeout, "timeout", low=1, high=CALL_MAX_MS)


def _filter(wanted: queue_pb2.ParkedFilter) -> ParkedFilter:
    if len(wanted.offsets) > OFFSETS_MAX:
        raise InvalidArgument(f"{len(wanted.offsets)} of them, at most {OFFSETS_MAX}", field="filter.offsets")
    after, before = wanted.parked_after, wanted.parked_before
    return ParkedFilter(
        frozenset(wanted.offsets),
        wanted.reason,
        wanted.error_contains,
        timestamp_ms(after, "filter.parked_after") if wanted.HasField("parked_after") else None,
        timestamp_ms(before, "filter.parked_before") if wanted.HasField("parked_before") else None,
    )


def _peeked_to_proto(one: Peeked) -> queue_pb2.PeekedMessage:
    message = queue_pb2.PeekedMessage(
        offset=one.offset,
        record=one.record,
        attempts=one.attempts,
        failures=one.failures,
        append_time_ms=one.append_time_ms,
        worker=one.worker,
        remaining=None if one.remaining_ms is None else milliseconds(one.remaining_ms),
        reason=one.reason,
        error=one.error,
        redrives=one.redrives,
        routed=one.is_routed,
    )
    if one.parked_ms:
        message.parked_at.FromMilliseconds(one.parked_ms)
    return message
