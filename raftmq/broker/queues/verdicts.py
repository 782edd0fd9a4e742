"""Ack, Release, Retry, Park, Extend: what workers say of the messages that they hold.

A token tells the partition, so that one request may settle messages of several: it falls into parts then, each of which
succeeds or fails by itself. A token whose lease is over fails alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raftmq import status
from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.dispatch import Entry, Part, Target
from raftmq.broker.queues.groups import QueueGroupMethods
from raftmq.broker.queues.tokens import claim, partition_of
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, LeaseExpired, Outcome, RaftmqError
from raftmq.ids import PartitionId
from raftmq.metadata.image import PartitionRecord, TopicRecord
from raftmq.metadata.queue_groups import DELAY_MS_MAX, LEASE_MS_MAX, LEASE_MS_MIN
from raftmq.partition.queues.commands import Status, Verdict
from raftmq.replica.queues.calls import Ruling
from raftmq.v1 import queue_pb2

TOKENS_MAX = 10_000
LIMIT_MS = 10_000
REASON_BYTES_MAX = 128
ERROR_BYTES_MAX = 1024
KEY_BYTES_MAX = 256
_ALREADY, _AT_END = "already_processed", "at_end"
_SILENT = frozenset({Status.OK, Status.DUPLICATE})

Request = (
    queue_pb2.AckRequest
    | queue_pb2.ReleaseRequest
    | queue_pb2.RetryRequest
    | queue_pb2.ParkRequest
    | queue_pb2.ExtendRequest
)
_RESPONSES: dict[type[Any], type[Any]] = {
    queue_pb2.AckRequest: queue_pb2.AckResponse,
    queue_pb2.ReleaseRequest: queue_pb2.ReleaseResponse,
    queue_pb2.RetryRequest: queue_pb2.RetryResponse,
    queue_pb2.ParkRequest: queue_pb2.ParkResponse,
    queue_pb2.ExtendRequest: queue_pb2.ExtendResponse,
}


class Verdicts:
    """The methods that settle, or keep, what is leased."""

    def __init__(self, view: View, groups: QueueGroupMethods) -> None:
        self._view = view
        self._groups = groups

    def entries(self) -> dict[str, Entry]:
        entry = Entry(self.settle, reads=False, target=self.target, join=self.join)
        names = ("Ack", "Release", "Retry", "Park", "Extend")
        return {f"Queue.{name}": entry for name in names}

    def target(self, request: Request) -> Target:
        """Where `request` goes; all of it is checked. Tokens of several partitions make several parts."""
        topic = self._view.topic(request.topic)
        if not request.group:
            raise InvalidArgument("names no group", field="group")
        _check(request)
        dealt: dict[PartitionId, list[int]] = {}
        for position, token in enumerate(request.tokens):
            dealt.setdefault(partition_of(token, position), []).append(position)
        for number, positions in dealt.items():
            if number >= len(topic.partitions):
                raise InvalidArgument("is of no partition of this topic", field=f"tokens[{positions[0]}]")
        self._groups.group(request.topic, request.group)
        if len(dealt) == 1:
            return Target(topic.partitions[next(iter(dealt))].group, LIMIT_MS)
        parts = tuple(Part(_part(request, positions), positions) for _, positions in sorted(dealt.items()))
        return Target(topic.partitions[0].group, LIMIT_MS, parts=parts)

    async def settle(self, request: Request, context: CallContext) -> Any:
        """As the leader of the partition of all tokens; `target` has passed."""
        partition = self._partition(request)
        group = self._groups.group(request.topic, request.group)
        claims = [claim(token) for token in request.tokens]
        queues, limit_ms = self._view.queues, context.within(LIMIT_MS)
        if isinstance(request, queue_pb2.ExtendRequest):
            lease_ms = group.settings.lease_ms
            if request.HasField("lease"):
                lease_ms = duration_ms(request.lease, "lease", low=LEASE_MS_MIN, high=LEASE_MS_MAX)
            statuses = await queues.extend(partition.group, group, claims, lease_ms, limit_ms)
        else:
            statuses = await queues.settle(partition.group, group, claims, _ruling(request), limit_ms)
        response = _RESPONSES[type(request)](header=self._view.header(partition.group))
        _tell(response, statuses)
        return response

    def join(self, answers: Sequence[tuple[Part, Any]]) -> Any:
        """One answer for all parts, by the positions of the whole request; their error where all have failed."""
        errors = [answer for _, answer in answers if isinstance(answer, RaftmqError)]
        if len(errors) == len(answers):
            # Whoever tries again must not believe that nothing happened where it may have.
            raise next((error for error in errors if error.outcome is not Outcome.NOT_APPLIED), errors[0])
        joined = _RESPONSES[type(answers[0][0].request)](header=self._view.header())
        failures: list[tuple[int, Any]] = []
        for part, answer in answers:
            if isinstance(answer, RaftmqError):
                told = status.to_message(answer)
                failures += [(position, told) for position in part.about]
            else:
                failures += [(part.about[one.position], one.error) for one in answer.failures]
                for field in (_ALREADY, _AT_END):
                    if field in answer.DESCRIPTOR.fields_by_name:
                        getattr(joined, field).extend(part.about[position] for position in getattr(answer, field))
        for position, error in sorted(failures, key=lambda failure: failure[0]):
            joined.failures.add(position=position, error=error)
        return joined

    def _partition(self, request: Request) -> PartitionRecord:
        topic: TopicRecord = self._view.topic(request.topic)
        return self._view.partition(topic, partition_of(request.tokens[0], 0), "tokens[0]")


def _tell(response: Any, statuses: Sequence[Status]) -> None:
    """Most requests have nothing to tell."""
    if all(one in _SILENT for one in statuses):
        return
    refused = status.to_message(LeaseExpired("the lease is over: somebody else may have the message"))
    for position, one in enumerate(statuses):
        if one is Status.LEASE_EXPIRED:
            response.failures.add(position=position, error=refused)
        elif one is Status.ALREADY_PROCESSED:
            response.already_processed.append(position)
        elif one not in _SILENT:
            response.at_end.append(position)


def _part(request: Request, positions: list[int]) -> Request:
    """What `request` says of the tokens at `positions`. Built up: a copy of everything, for each of a thousand
    partitions, would be a thousand times the request."""
    part = type(request)(topic=request.topic, group=request.group)
    for field, value in request.ListFields():
        if field.name not in ("topic", "group", "tokens", "processed_keys"):
            if field.message_type is None:
                setattr(part, field.name, value)
            else:
                getattr(part, field.name).CopyFrom(value)
    for name in ("tokens", "processed_keys"):
        values = getattr(request, name, ())
        if values:
            getattr(part, name).extend(values[position] for position in positions)
    return part


def _ruling(request: Request) -> Ruling:
    match request:
        case queue_pb2.AckRequest():
            return Ruling(Verdict.ACK, processed_keys=tuple(request.processed_keys))
        case queue_pb2.RetryRequest():
            delay_ms = None
            if request.HasField("delay"):
                delay_ms = duration_ms(request.delay, "delay", low=0, high=DELAY_MS_MAX)
            return Ruling(Verdict.RETRY, delay_ms, error=request.error)
        case queue_pb2.ParkRequest():
            return Ruling(Verdict.PARK, reason=request.reason, error=request.error)
        case _:
            return Ruling(Verdict.RELEASE)


def _check(request: Request) -> None:
    if not request.tokens:
        raise InvalidArgument("names no message", field="tokens")
    if len(request.tokens) > TOKENS_MAX:
        raise InvalidArgument(f"{len(request.tokens)} tokens, at most {TOKENS_MAX}", field="tokens")
    match request:
        case queue_pb2.AckRequest():
            check_keys(request.processed_keys, len(request.tokens))
        case queue_pb2.RetryRequest():
            _bounded(request.error.encode(), ERROR_BYTES_MAX, "error")
            _ruling(request)
        case queue_pb2.ParkRequest():
            _bounded(request.reason.encode(), REASON_BYTES_MAX, "reason")
            _bounded(request.error.encode(), ERROR_BYTES_MAX, "error")
        case queue_pb2.ExtendRequest() if request.HasField("lease"):
            duration_ms(request.lease, "lease", low=LEASE_MS_MIN, high=LEASE_MS_MAX)


def check_keys(keys: Sequence[bytes], tokens: int) -> None:
    """Of processed keys for so many tokens. Raises InvalidArgument."""
    if keys and len(keys) != tokens:
        raise InvalidArgument("one for each token, or none", field="processed_keys")
    for position, key in enumerate(keys):
        _bounded(key, KEY_BYTES_MAX, f"processed_keys[{position}]")


def _bounded(value: bytes, limit: int, field: str) -> None:
    if len(value) > limit:
        raise InvalidArgument(f"has {len(value)} bytes, at most {limit}", field=field)
