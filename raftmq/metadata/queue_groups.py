"""Queue groups: who shares the records of a topic as a queue, and by which rules. Events, records and decisions.

The rules live here, once for all partitions. What has become of each record lives in the partitions' own logs, whose
leaders take a new version of the rules into them (``replica.queueing``).
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, replace
from enum import IntEnum

from raftmq.errors import InvalidArgument, PreconditionFailed, UnexpectedVersion, UnknownQueueGroup, UnknownTopic
from raftmq.internal.v1 import storage_pb2
from raftmq.records.poison import PoisonEntry

GROUPS_OF_TOPIC_MAX = 100
"""Each costs every partition of the topic state of its own."""

LEASE_MS_MIN, LEASE_MS_MAX = 100, 12 * 3_600_000
DELAY_MS_MAX = 30 * 24 * 3_600_000
_ATTEMPTS_MAX = 10_000
_KEYS_MAX = 1_000_000
_RATE_MAX = 10_000_000
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_FAIR_BY = re.compile(r"|key|header:.{1,200}", re.DOTALL)


class Start(IntEnum):
    """Where a group begins in a partition that is new to it."""

    EARLIEST = 1
    LATEST = 2


class Ordering(IntEnum):
    NONE = 1
    KEY = 2
    """A key's next record is handed out when the one before is acknowledged or parked."""


class AtEnd(IntEnum):
    """What is done with a record after its last failure."""

    PARK = 1
    DROP = 2


class QueueRetention(IntEnum):
    """Which records may be removed for what the group has done with them."""

    LOG = 1
    """None: the topic's own retention decides."""
    DELETE_ON_ACK = 2
    ALL_GROUPS = 3


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The rules of a group. Times in milliseconds."""

    start: Start = Start.EARLIEST
    ordering: Ordering = Ordering.NONE
    lease_ms: int = 30_000
    attempts_max: int = 5
    backoff_first_ms: int = 1_000
    backoff_factor_percent: int = 200
    backoff_max_ms: int = 600_000
    backoff_jitter_percent: int = 20
    at_end: AtEnd = AtEnd.PARK
    drain_per_s: int = 0
    """Over all partitions; 0: without limit."""
    fair_by: str = ""
    """``key``, ``header:NAME``, or empty: in the order in which they came."""
    retention: QueueRetention = QueueRetention.LOG
    processed_keys_max: int = 10_000
    """Of each partition."""
    breaker_failures: int = 0
    """In a row; 0: never."""
    breaker_pause_ms: int = 30_000
    paused: bool = False
    expiry_is_failure: bool = True
    redrives_max: int = 10
    """Of one record."""
    dead_letter_topic: str = ""
    """Parked records are copied to it; empty: to none."""
    dead_letter_remove: bool = False
    """Whoever has been copied is parked no longer."""


@dataclass(frozen=True, slots=True)
class QueueGroupRecord:
    """A group as the image has it."""

    id: int
    """From 1; never reused, not even for a group of the same name."""
    topic_id: int
    name: str
    settings: QueueSettings
    version: int = 1
    """Grows by one whenever the settings are altered."""


@dataclass(frozen=True, slots=True)
class QueueGroupSet:
    """A group is new, or has these settings from now on. Replaying it makes the next version."""

    id: int
    topic_id: int
    name: str
    settings: QueueSettings


@dataclass(frozen=True, slots=True)
class QueueGroupDeleted:
    id: int


QueueGroupEvent = QueueGroupSet | QueueGroupDeleted
QueueGroups = Mapping[int, QueueGroupRecord]


@dataclass(frozen=True, slots=True)
class SetQueueGroup:
    """A group that somebody wants, with these settings. ``only_new``: one that exists stays as it is."""

    topic: str
    name: str
    settings: QueueSettings = QueueSettings()
    expected_version: int = 0
    """Only if the group is of this version; 0: whatever version it is of."""
    only_new: bool = False


# -- decisions ---------------------------------------------------------------------------------------------------------


def set_group(topic_id: int | None, groups: QueueGroups, next_id: int, wish: SetQueueGroup) -> list[QueueGroupSet]:
    """A new group, or other settings for a known one; no events where it has them already.

    `topic_id`: of the topic that `wish` names; None: there is none. Raises InvalidArgument, UnknownTopic,
    UnexpectedVersion, or PreconditionFailed (too many groups).
    """
    check_group_name(wish.name)
    if topic_id is None:
        raise UnknownTopic(f"there is no topic {wish.topic[:249]!r}", field="topic")
    known = find(groups, topic_id, wish.name)
    version = 0 if known is None else known.version
    if known is not None and wish.only_new:
        return []
    if wish.expected_version not in (0, version):
        raise UnexpectedVersion(
            f"group {wish.name} is of version {version}, not {wish.expected_version}",
            field="expected_version",
            metadata={"version": str(version)},
        )
    check_settings(wish.settings)
    if known is None:
        if sum(group.topic_id == topic_id for group in groups.values()) >= GROUPS_OF_TOPIC_MAX:
            raise PreconditionFailed(f"the topic has {GROUPS_OF_TOPIC_MAX} groups already", field="group")
        return [QueueGroupSet(next_id, topic_id, wish.name, wish.settings)]
    _check_unchangeable(known.settings, wish.settings)
    return [] if known.settings == wish.settings else [QueueGroupSet(known.id, topic_id, wish.name, wish.settings)]


def delete_group(topic_id: int | None, groups: QueueGroups, topic: str, name: str) -> list[QueueGroupDeleted]:
    """Raises UnknownTopic or UnknownQueueGroup."""
    if topic_id is None:
        raise UnknownTopic(f"there is no topic {topic[:249]!r}", field="topic")
    known = find(groups, topic_id, name)
    if known is None:
        raise UnknownQueueGroup(f"topic {topic} has no queue group {name[:249]!r}", field="group")
    return [QueueGroupDeleted(known.id)]


def find(groups: QueueGroups, topic_id: int, name: str) -> QueueGroupRecord | None:
    """The group of that name of a topic."""
    return next((one for one in groups.values() if one.topic_id == topic_id and one.name == name), None)


def check_group_name(name: str) -> None:
    """Raises InvalidArgument."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InvalidArgument(
            "a group's name has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and is not '.' or '..'", field="group"
        )
    if name.startswith("__"):
        raise InvalidArgument("names that begin with __ are reserved", field="group")


def check_settings(settings: QueueSettings) -> None:
    """Raises InvalidArgument, naming the field of the request."""
    _in_range(settings.lease_ms, LEASE_MS_MIN, LEASE_MS_MAX, "lease")
    _in_range(settings.attempts_max, 1, _ATTEMPTS_MAX, "attempts_max")
    _in_range(settings.backoff_first_ms, 1, DELAY_MS_MAX, "backoff.first")
    _in_range(settings.backoff_factor_percent, 100, 10_000, "backoff.factor_percent")
    _in_range(settings.backoff_max_ms, settings.backoff_first_ms, DELAY_MS_MAX, "backoff.max")
    _in_range(settings.backoff_jitter_percent, 0, 100, "backoff.jitter_percent")
    _in_range(settings.drain_per_s, 0, _RATE_MAX, "drain_per_s")
    _in_range(settings.processed_keys_max, 1, _KEYS_MAX, "processed_keys_max")
    _in_range(settings.breaker_failures, 0, _KEYS_MAX, "breaker_failures")
    _in_range(settings.breaker_pause_ms, 1, DELAY_MS_MAX, "breaker_pause")
    _in_range(settings.redrives_max, 1, 255, "redrives_max")
    if not _FAIR_BY.fullmatch(settings.fair_by):
        raise InvalidArgument('is neither "key" nor "header:NAME"', field="settings.fair_by")


def check_dead_letters(wish: SetQueueGroup, topics: Container[str]) -> None:
    """`topics`: that there are. Raises InvalidArgument, UnknownTopic."""
    name, field = wish.settings.dead_letter_topic, "settings.dead_letter_topic"
    if not name:
        if wish.settings.dead_letter_remove:
            raise InvalidArgument("is required to remove what is copied to it", field=field)
    elif name == wish.topic:
        raise InvalidArgument("is the group's own topic: what failed would be handed out once more", field=field)
    elif name.startswith("__"):
        raise InvalidArgument("topics that begin with __ are reserved", field=field)
    elif name not in topics:
        raise UnknownTopic(f"there is no topic {name[:249]!r}", field=field)


def _check_unchangeable(present: QueueSettings, wanted: QueueSettings) -> None:
    """What decides how a partition keeps its state stays as it was."""
    for field in ("ordering", "fair_by"):
        if getattr(present, field) != getattr(wanted, field):
            raise InvalidArgument(
                "is what the group was made with: make another group, or delete this one", field=f"settings.{field}"
            )


def _in_range(value: int, low: int, high: int, field: str) -> None:
    if not low <= value <= high:
        raise InvalidArgument(f"{field} is {value}, allowed are {low} to {high}", field=f"settings.{field}")


# -- replaying ---------------------------------------------------------------------------------------------------------


def replayed(groups: QueueGroups, next_id: int, event: QueueGroupEvent) -> tuple[dict[int, QueueGroupRecord], int]:
    """The groups, and the next number, after `event`. Raises PoisonEntry where it does not fit."""
    after = dict(groups)
    match event:
        case QueueGroupSet(number, topic_id, name, settings) if number in after:
            known = after[number]
            if (known.topic_id, known.name) != (topic_id, name):
                raise PoisonEntry(f"does not fit what came before: {event}")
            after[number] = replace(known, settings=settings, version=known.version + 1)
        case QueueGroupSet(number, topic_id, name, settings) if number == next_id:
            after[number] = QueueGroupRecord(number, topic_id, name, settings)
            next_id += 1
        case QueueGroupDeleted(number) if number in after:
            del after[number]
        case _:
            raise PoisonEntry(f"does not fit what came before: {event}")
    return after, next_id


# -- bytes -------------------------------------------------------------------------------------------------------------


def to_proto(event: QueueGroupEvent) -> storage_pb2.MetadataEvent:
    match event:
        case QueueGroupSet(number, topic_id, name, settings):
            told = storage_pb2.QueueGroupSet(id=number, topic_id=topic_id, name=name, **asdict(settings))
            return storage_pb2.MetadataEvent(queue_group_set=told)
        case QueueGroupDeleted(number):
            return storage_pb2.MetadataEvent(queue_group_deleted=storage_pb2.QueueGroupDeleted(id=number))


def set_from_proto(message: storage_pb2.QueueGroupSet) -> QueueGroupSet:
    """Raises PoisonEntry where it says what this version does not know."""
    values = {name: getattr(message, name) for name in QueueSettings.__dataclass_fields__}
    try:
        settings = QueueSettings(
            **values
            | {
                "start": Start(message.start),
                "ordering": Ordering(message.ordering),
                "at_end": AtEnd(message.at_end),
                "retention": QueueRetention(message.retention),
            }
        )
    except ValueError as error:
        raise PoisonEntry(f"a queue group with a setting that this version does not know: {error}") from None
    return QueueGroupSet(message.id, message.topic_id, message.name, settings)
