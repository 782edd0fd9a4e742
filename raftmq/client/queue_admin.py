"""Queue groups as people see them: their rules, what is in which state, dead letters, and starting over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from google.protobuf.timestamp_pb2 import Timestamp

from raftmq import status
from raftmq.client.connection import NodeChannel
from raftmq.client.convert import to_duration
from raftmq.client.queue_types import PeekedMessage as PeekedMessage
from raftmq.client.queue_types import ProcessedKey as ProcessedKey
from raftmq.client.queue_types import QueueCounts as QueueCounts
from raftmq.client.queue_types import QueueGroupDescription as QueueGroupDescription
from raftmq.client.queue_types import QueueSettings as QueueSettings
from raftmq.client.queue_types import Redriven as Redriven
from raftmq.client.queue_types import State
from raftmq.client.retry import Judgement, may_retry_read, may_retry_write
from raftmq.client.router import Router
from raftmq.errors import InvalidArgument
from raftmq.v1 import queue_pb2

DEFAULT_TIMEOUT_MS = 15_000


class Queues:
    """``client.queues``. Reads are tried again while an error allows it; changes only if they surely did not happen."""

    def __init__(self, router: Router) -> None:
        self._router = router

    # -- groups ------------------------------------------------------------------------------------------------------

    async def set_group(
        self,
        topic: str,
        group: str,
        settings: QueueSettings | None = None,
        *,
        expected_version: int = 0,
        validate_only: bool = False,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> QueueGroupDescription:
        """Make a group, or give it these settings, whatever it had before; None: the defaults.

        Raises InvalidArgument naming the field, UnknownTopic, UnexpectedVersion.
        """
        request = queue_pb2.SetGroupRequest(
            topic=topic,
            group=group,
            settings=settings_to_proto(settings or QueueSettings()),
            expected_version=expected_version,
            validate_only=validate_only,
        )
        answer = await self._any(lambda node: node.queue.SetGroup, request, timeout_ms, may_retry_write)
        return _group(answer.group)

    async def delete_group(self, topic: str, group: str, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> None:
        """Its state is gone afterwards, the records are not. Raises UnknownQueueGroup, UnknownTopic."""
        request = queue_pb2.DeleteGroupRequest(topic=topic, group=group)
        await self._any(lambda node: node.queue.DeleteGroup, request, timeout_ms, may_retry_write)

    async def list_groups(
        self, topic: str = "", *, timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> tuple[QueueGroupDescription, ...]:
        """All groups of a topic; empty: of all topics."""
        request = queue_pb2.ListGroupsRequest(topic=topic)
        answer = await self._any(lambda node: node.queue.ListGroups, request, timeout_ms, may_retry_read)
        return tuple(_group(one) for one in answer.groups)

    async def describe_group(
        self, topic: str, group: str, *, timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> tuple[QueueGroupDescription, tuple[QueueCounts, ...]]:
        """A group's settings, and how many records are in which state, by partition. Raises UnknownQueueGroup."""
        request = queue_pb2.DescribeGroupRequest(topic=topic, group=group)
        answer = await self._any(lambda node: node.queue.DescribeGroup, request, timeout_ms, may_retry_read)
        counts = (_counts(one) for one in answer.partitions)
        return _group(answer.group), tuple(sorted(counts, key=lambda one: one.partition))

    # -- messages ----------------------------------------------------------------------------------------------------

    async def peek(
        self,
        topic: str,
        group: str,
        partition: int,
        state: State = "parked",
        *,
        offset: int = 0,
        max_messages: int = 100,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> tuple[tuple[PeekedMessage, ...], int | None]:
        """Records of a partition in one state, from an offset on, and where to go on (None: there are no more)."""
        wanted = queue_pb2.MessageState.Value(f"MESSAGE_STATE_{state.upper()}")
        request = queue_pb2.PeekRequest(
            topic=topic, group=group, partition=partition, state=wanted, offset=offset, max_messages=max_messages
        )
        answer = await self._any(lambda node: node.queue.Peek, request, timeout_ms, may_retry_read)
        messages = tuple(_peeked(partition, one) for one in answer.messages)
        return messages, answer.next_offset if answer.HasField("next_offset") else None

    async def redrive(
        self,
        topic: str,
        group: str,
        *,
        partition: int | None = None,
        offsets: Sequence[int] = (),
        reason: str = "",
        error_contains: str = "",
        parked_after: datetime | None = None,
        parked_before: datetime | None = None,
        max_messages: int = 1_000,
        rate_per_s: int = 0,
        dry_run: bool = False,
        timeout_ms: int = 30_000,
    ) -> tuple[Redriven, ...]:
        """Let parked messages be delivered again: those for which all of the filter holds, of each partition up to
        `max_messages`, at most `rate_per_s` a second (0: all at once). `dry_run`: only count them.

        Raises InvalidArgument, UnknownQueueGroup; where only some partitions fail their results tell.
        """
        chosen = queue_pb2.ParkedFilter(offsets=offsets, reason=reason, error_contains=error_contains)
        if parked_after is not None:
            chosen.parked_after.CopyFrom(_moment(parked_after, "parked_after"))
        if parked_before is not None:
            chosen.parked_before.CopyFrom(_moment(parked_before, "parked_before"))
        request = queue_pb2.RedriveRequest(
            topic=topic,
            group=group,
            partition=partition,
            filter=chosen,
            max_messages=max_messages,
            rate_per_s=rate_per_s,
            dry_run=dry_run,
            timeout=to_duration(timeout_ms),
        )
        answer = await self._any(
            lambda node: node.queue.Redrive, request, timeout_ms + DEFAULT_TIMEOUT_MS, may_retry_write
        )
        return tuple(
            Redriven(
                one.partition, one.matched, one.redriven, one.looping, one.remaining,
                status.from_message(one.error) if one.HasField("error") else None,
            )
            for one in sorted(answer.partitions, key=lambda one: one.partition)
        )  # fmt: skip

    async def find_processed(
        self,
        topic: str,
        group: str,
        keys: Sequence[bytes],
        *,
        partitions: Sequence[int] = (),
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> tuple[ProcessedKey, ...]:
        """Which of `keys` (1 to 1,000) the group remembers as processed, in these partitions, or (none given) in all;
        in the order of the keys. One that is not found may have been forgotten: `QueueSettings.processed_keys_max`.

        Raises InvalidArgument, UnknownQueueGroup, and the error of a partition that failed.
        """
        request = queue_pb2.FindProcessedKeysRequest(topic=topic, group=group, keys=keys, partitions=partitions)
        answer = await self._any(lambda node: node.queue.FindProcessedKeys, request, timeout_ms, may_retry_read)
        return tuple(
            ProcessedKey(keys[one.position], one.partition, one.offset, one.processed_at.ToMilliseconds())
            for one in answer.found
        )

    async def seek(
        self,
        topic: str,
        group: str,
        position: Literal["earliest", "latest"] | int | datetime,
        *,
        partitions: Sequence[int] = (),
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> dict[int, int]:
        """The group's state begins anew: at an offset, at a time (with a time zone), or at an end; in these partitions,
        or (none given) in all. Leases end, and what is parked is forgotten. Returns where each begins now.

        Raises InvalidArgument, UnknownQueueGroup, and the error of a partition that failed.
        """
        request = queue_pb2.SeekGroupRequest(topic=topic, group=group, partitions=partitions)
        if isinstance(position, datetime):
            request.appended_at.CopyFrom(_moment(position, "position"))
        elif isinstance(position, int):
            request.offset = position
        elif position in ("earliest", "latest"):
            setattr(request, position, True)
        else:
            raise InvalidArgument('is "earliest", "latest", an offset or a time', field="position")
        answer = await self._any(lambda node: node.queue.SeekGroup, request, timeout_ms, may_retry_write)
        for one in answer.partitions:
            if one.HasField("error"):
                raise status.from_message(one.error)
        return {one.partition: one.offset for one in sorted(answer.partitions, key=lambda one: one.partition)}

    async def resume(self, topic: str, group: str, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> None:
        """Close the circuit breaker in every partition. Raises UnknownQueueGroup, the error of one that failed."""
        request = queue_pb2.ResumeGroupRequest(topic=topic, group=group)
        answer = await self._any(lambda node: node.queue.ResumeGroup, request, timeout_ms, may_retry_write)
        for one in answer.failures:
            raise status.from_message(one.error)

    async def cancel_scheduled(
        self, topic: str, partition: int, offset: int, *, group: str = "", timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A record that waits for its `deliver_at_ms` is not delivered to `group`, or (empty) to any group there is.

        Returns the groups that will not get it, and those for which it was too late. Raises OffsetOutOfRange.
        """
        request = queue_pb2.CancelScheduledRequest(topic=topic, group=group, partition=partition, offset=offset)
        answer = await self._any(lambda node: node.queue.CancelScheduled, request, timeout_ms, may_retry_write)
        return tuple(answer.cancelled), tuple(answer.too_late)

    async def _any(self, select: Callable[[NodeChannel], Any], request: Any, timeout_ms: int, judge: Judgement) -> Any:
        return await self._router.to_any(select, request, timeout_ms=timeout_ms, judge=judge)


# -- to and from the wire ----------------------------------------------------------------------------------------------


def settings_to_proto(settings: QueueSettings) -> queue_pb2.QueueGroupSettings:
    enums: Any = queue_pb2
    retention = {"log": 0, "delete_on_ack": 1, "all_groups": 2}.get(settings.retention)
    if settings.start not in ("earliest", "latest") or settings.at_end not in ("park", "drop") or retention is None:
        raise InvalidArgument("start, at_end or retention is no word that is known", field="settings")
    return queue_pb2.QueueGroupSettings(
        start=enums.QueueStart.Value(f"QUEUE_START_{settings.start.upper()}"),
        ordering=enums.QUEUE_ORDERING_KEY if settings.ordered_by_key else enums.QUEUE_ORDERING_UNSPECIFIED,
        lease=to_duration(settings.lease_ms),
        attempts_max=settings.attempts_max,
        backoff=queue_pb2.Backoff(
            first=to_duration(settings.backoff_first_ms),
            factor_percent=settings.backoff_factor_percent,
            max=to_duration(settings.backoff_max_ms),
            jitter_percent=settings.backoff_jitter_percent,
        ),
        at_end=enums.AtEnd.Value(f"AT_END_{settings.at_end.upper()}"),
        drain_per_s=settings.drain_per_s,
        fair_by=settings.fair_by,
        retention=enums.QueueRetention.Name(retention),
        processed_keys_max=settings.processed_keys_max,
        breaker_failures=settings.breaker_failures,
        breaker_pause=to_duration(settings.breaker_pause_ms),
        paused=settings.paused,
        expiry_is_no_failure=not settings.expiry_is_failure,
        redrives_max=settings.redrives_max,
        dead_letter_topic=settings.dead_letter_topic,
        dead_letter_remove=settings.dead_letter_remove,
    )


def _group(wire: queue_pb2.QueueGroupInfo) -> QueueGroupDescription:
    told = wire.settings
    settings = QueueSettings(
        start="latest" if told.start == queue_pb2.QUEUE_START_LATEST else "earliest",
        ordered_by_key=told.ordering == queue_pb2.QUEUE_ORDERING_KEY,
        lease_ms=told.lease.ToMilliseconds(),
        attempts_max=told.attempts_max,
        backoff_first_ms=told.backoff.first.ToMilliseconds(),
        backoff_factor_percent=told.backoff.factor_percent,
        backoff_max_ms=told.backoff.max.ToMilliseconds(),
        backoff_jitter_percent=told.backoff.jitter_percent,
        at_end="drop" if told.at_end == queue_pb2.AT_END_DROP else "park",
        drain_per_s=told.drain_per_s,
        fair_by=told.fair_by,
        retention=("log", "delete_on_ack", "all_groups")[min(told.retention, 2)],
        processed_keys_max=told.processed_keys_max,
        breaker_failures=told.breaker_failures,
        breaker_pause_ms=told.breaker_pause.ToMilliseconds(),
        paused=told.paused,
        expiry_is_failure=not told.expiry_is_no_failure,
        redrives_max=told.redrives_max,
        dead_letter_topic=told.dead_letter_topic,
        dead_letter_remove=told.dead_letter_remove,
    )
    return QueueGroupDescription(wire.topic, wire.group, settings, wire.version)


def _counts(wire: queue_pb2.QueueCounts) -> QueueCounts:
    told = {name: getattr(wire, name) for name in QueueCounts.__dataclass_fields__ if name != "breaker_open_until_ms"}
    is_open = wire.HasField("breaker_open_until")
    return QueueCounts(**told, breaker_open_until_ms=wire.breaker_open_until.ToMilliseconds() if is_open else None)


def _peeked(partition: int, wire: queue_pb2.PeekedMessage) -> PeekedMessage:
    record = wire.record
    return PeekedMessage(
        partition=partition,
        offset=wire.offset,
        key=record.key if record.HasField("key") else None,
        value=record.value if record.HasField("value") else None,
        headers=tuple((header.name, header.value) for header in record.headers),
        append_time_ms=wire.append_time_ms,
        attempts=wire.attempts,
        failures=wire.failures,
        worker=wire.worker,
        remaining_ms=wire.remaining.ToMilliseconds() if wire.HasField("remaining") else None,
        reason=wire.reason,
        error=wire.error,
        parked_at_ms=wire.parked_at.ToMilliseconds() if wire.HasField("parked_at") else None,
        redrives=wire.redrives,
        routed=wire.routed,
    )


def _moment(value: datetime, field: str) -> Timestamp:
    if value.tzinfo is None:
        raise InvalidArgument("a time needs a time zone: whose clock is meant?", field=field)
    moment = Timestamp()
    moment.FromDatetime(value)
    return moment
