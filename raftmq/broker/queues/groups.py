"""Queue groups: SetGroup, DeleteGroup, ListGroups, and their settings on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration

from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.dispatch import Entry, Target
from raftmq.broker.view import NAME_SHOWN, View
from raftmq.errors import InvalidArgument, NotReady, UnknownQueueGroup
from raftmq.ids import CONTROLLER_GROUP
from raftmq.metadata.queue_groups import (
    AtEnd,
    Ordering,
    QueueGroupRecord,
    QueueRetention,
    QueueSettings,
    SetQueueGroup,
    Start,
    check_settings,
    find,
)
from raftmq.v1 import queue_pb2

LIMIT_MS = 10_000
DURATION_MAX_MS = 100 * 366 * 24 * 3600 * 1000

_STARTS = {
    0: Start.EARLIEST,
    queue_pb2.QUEUE_START_EARLIEST: Start.EARLIEST,
    queue_pb2.QUEUE_START_LATEST: Start.LATEST,
}
_ORDERINGS = {0: Ordering.NONE, queue_pb2.QUEUE_ORDERING_KEY: Ordering.KEY}
_ENDS = {0: AtEnd.PARK, queue_pb2.AT_END_PARK: AtEnd.PARK, queue_pb2.AT_END_DROP: AtEnd.DROP}
_RETENTIONS = {
    0: QueueRetention.LOG,
    queue_pb2.QUEUE_RETENTION_DELETE_ON_ACK: QueueRetention.DELETE_ON_ACK,
    queue_pb2.QUEUE_RETENTION_ALL_GROUPS: QueueRetention.ALL_GROUPS,
}


class QueueGroupMethods:
    """The methods that are about groups as a whole."""

    def __init__(self, view: View) -> None:
        self._view = view

    def entries(self) -> dict[str, Entry]:
        return {
            "Queue.SetGroup": Entry(self.set_group, reads=False, target=self._set_target),
            "Queue.DeleteGroup": Entry(self.delete_group, reads=False, target=self._named_target),
            "Queue.ListGroups": Entry(self.list_groups, reads=True),
        }

    # -- finding -----------------------------------------------------------------------------------------------------

    def group(self, topic: str, name: str) -> QueueGroupRecord:
        """A group that this node knows. Raises InvalidArgument, UnknownTopic, UnknownQueueGroup, or NotReady where this
        node cannot tell."""
        record = self._view.topic(topic)
        if not name:
            raise InvalidArgument("names no group", field="group")
        found = find(self._view.cluster.image.queue_groups, record.topic_id, name)
        if found is None:
            if not self._view.cluster.is_current():
                raise NotReady("this node has yet to learn from the controller which queue groups there are")
            raise UnknownQueueGroup(f"topic {record.name} has no queue group {name[:NAME_SHOWN]!r}", field="group")
        return found

    def info(self, topic: str, group: QueueGroupRecord) -> queue_pb2.QueueGroupInfo:
        return queue_pb2.QueueGroupInfo(
            topic=topic, group=group.name, settings=settings_to_proto(group.settings), version=group.version
        )

    # -- methods -----------------------------------------------------------------------------------------------------

    def _set_target(self, request: queue_pb2.SetGroupRequest) -> Target:
        self._view.topic(request.topic)
        check_settings(settings_of(request.settings))
        return self._named_target(request)

    @staticmethod
    def _named_target(request: queue_pb2.SetGroupRequest | queue_pb2.DeleteGroupRequest) -> Target:
        if not request.topic:
            raise InvalidArgument("names no topic", field="topic")
        if not request.group:
            raise InvalidArgument("names no group", field="group")
        return Target(CONTROLLER_GROUP, LIMIT_MS)

    async def set_group(self, request: queue_pb2.SetGroupRequest, context: CallContext) -> queue_pb2.SetGroupResponse:
        wish = SetQueueGroup(request.topic, request.group, settings_of(request.settings), request.expected_version)
        groups = self._view.cluster.queue_groups
        group = await groups.set(wish, context.within(LIMIT_MS), validate_only=request.validate_only)
        return queue_pb2.SetGroupResponse(header=self._view.controller_header(), group=self.info(request.topic, group))

    async def delete_group(
        self, request: queue_pb2.DeleteGroupRequest, context: CallContext
    ) -> queue_pb2.DeleteGroupResponse:
        await self._view.cluster.queue_groups.delete(request.topic, request.group, context.within(LIMIT_MS))
        return queue_pb2.DeleteGroupResponse(header=self._view.controller_header())

    async def list_groups(
        self, request: queue_pb2.ListGroupsRequest, context: CallContext
    ) -> queue_pb2.ListGroupsResponse:
        await self._view.until_replayed(context)
        image = self._view.cluster.image
        wanted = (
            [self._view.topic(request.topic)] if request.topic else [one for _, one in sorted(image.topics.items())]
        )
        names = {topic.topic_id: topic.name for topic in wanted}
        groups = [group for _, group in sorted(image.queue_groups.items()) if group.topic_id in names]
        return queue_pb2.ListGroupsResponse(
            header=self._view.controller_header(),
            groups=[self.info(names[group.topic_id], group) for group in groups],
        )


# -- settings ----------------------------------------------------------------------------------------------------------


def settings_of(message: queue_pb2.QueueGroupSettings) -> QueueSettings:
    """The settings of a request, with the defaults in place of what is unset. Raises InvalidArgument.

    What numbers may be is checked where they are decided on (``metadata.queue_groups``).
    """
    defaults, backoff = QueueSettings(), message.backoff
    for field, known in (
        ("start", _STARTS),
        ("ordering", _ORDERINGS),
        ("at_end", _ENDS),
        ("retention", _RETENTIONS),
    ):
        if getattr(message, field) not in known:
            raise InvalidArgument(f"{getattr(message, field)} is not known here", field=f"settings.{field}")
    first_ms = _milliseconds(backoff, "first", defaults.backoff_first_ms, "backoff.first")
    return QueueSettings(
        start=_STARTS[message.start],
        ordering=_ORDERINGS[message.ordering],
        lease_ms=_milliseconds(message, "lease", defaults.lease_ms, "lease"),
        attempts_max=message.attempts_max or defaults.attempts_max,
        backoff_first_ms=first_ms,
        backoff_factor_percent=backoff.factor_percent or defaults.backoff_factor_percent,
        backoff_max_ms=_milliseconds(backoff, "max", max(first_ms, defaults.backoff_max_ms), "backoff.max"),
        backoff_jitter_percent=(
            backoff.jitter_percent if backoff.HasField("jitter_percent") else defaults.backoff_jitter_percent
        ),
        at_end=_ENDS[message.at_end],
        drain_per_s=message.drain_per_s,
        fair_by=message.fair_by,
        retention=_RETENTIONS[message.retention],
        processed_keys_max=message.processed_keys_max or defaults.processed_keys_max,
        breaker_failures=message.breaker_failures,
        breaker_pause_ms=_milliseconds(message, "breaker_pause", defaults.breaker_pause_ms, "breaker_pause"),
        paused=message.paused,
        expiry_is_failure=not message.expiry_is_no_failure,
        redrives_max=message.redrives_max or defaults.redrives_max,
        dead_letter_topic=message.dead_letter_topic,
        dead_letter_remove=message.dead_letter_remove,
    )


def settings_to_proto(settings: QueueSettings) -> queue_pb2.QueueGroupSettings:
    return queue_pb2.QueueGroupSettings(
        start=_wire(_STARTS, settings.start),
        ordering=_wire(_ORDERINGS, settings.ordering),
        lease=milliseconds(settings.lease_ms),
        attempts_max=settings.attempts_max,
        backoff=queue_pb2.Backoff(
            first=milliseconds(settings.backoff_first_ms),
            factor_percent=settings.backoff_factor_percent,
            max=milliseconds(settings.backoff_max_ms),
            jitter_percent=settings.backoff_jitter_percent,
        ),
        at_end=_wire(_ENDS, settings.at_end),
        drain_per_s=settings.drain_per_s,
        fair_by=settings.fair_by,
        retention=_wire(_RETENTIONS, settings.retention),
        processed_keys_max=settings.processed_keys_max,
        breaker_failures=settings.breaker_failures,
        breaker_pause=milliseconds(settings.breaker_pause_ms),
        paused=settings.paused,
        expiry_is_no_failure=not settings.expiry_is_failure,
        redrives_max=settings.redrives_max,
        dead_letter_topic=settings.dead_letter_topic,
        dead_letter_remove=settings.dead_letter_remove,
    )


def milliseconds(value: int) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(value)
    return duration


def _milliseconds(message: queue_pb2.QueueGroupSettings | queue_pb2.Backoff, name: str, default: int, path: str) -> int:
    if not message.HasField(name):  # type: ignore[arg-type]
        return default
    return duration_ms(getattr(message, name), f"settings.{path}", low=1, high=DURATION_MAX_MS)


def _wire(known: Mapping[int, object], value: object) -> Any:
    """The highest number on the wire for `value`: the one that says it instead of leaving it out."""
    return max(number for number, meaning in known.items() if meaning == value)
