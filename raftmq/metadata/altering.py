"""What the controller's leader decides on a topic that is to be altered; see ``decisions``.

What a topic is made of stays as it was created: its name, its number of partitions and of replicas. More partitions
would take keys away from where their earlier records are, and with that the order of a key: only splitting the slots
of a partition could add some. How many replicas there are is a matter of moving data, not of settings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from raftmq.errors import InvalidArgument, UnexpectedVersion, UnknownTopic
from raftmq.metadata.decisions import CreateTopic, TopicPolicy, settle
from raftmq.metadata.depth import DepthWish
from raftmq.metadata.events import Event, TopicAltered
from raftmq.metadata.image import MetadataImage, TopicRecord

_TEXT_MAX = 253
_SETTINGS = (
    "min_in_sync_replicas",
    "max_batch_bytes",
    "retention_ms",
    "retention_bytes",
    "message_id_window_ms",
    "message_id_window_count",
    "depth",
)


@dataclass(frozen=True, slots=True)
class AlterTopic:
    """What somebody wants of a topic from now on. None: as it is; 0: as in ``CreateTopic``."""

    name: str
    min_in_sync_replicas: int | None = None
    max_batch_bytes: int | None = None
    retention_ms: int | None = None
    retention_bytes: int | None = None
    message_id_window_ms: int | None = None
    message_id_window_count: int | None = None
    depth: DepthWish | None = None
    partitions: int | None = None
    replication_factor: int | None = None
    expected_version: int = 0
    """Only if the topic is of this version; 0: whatever version it is of."""


def alter_topic(image: MetadataImage, wish: AlterTopic, policy: TopicPolicy) -> list[Event]:
    """Other settings for a topic; no events where it has them already.

    Raises UnknownTopic, InvalidArgument naming the field, or UnexpectedVersion.
    """
    topic = image.topics.get(wish.name)
    if topic is None:
        raise UnknownTopic(f"there is no topic {wish.name[:_TEXT_MAX]!r}", field="name")
    if wish.expected_version not in (0, topic.version):
        raise UnexpectedVersion(
            f"topic {topic.name} is of version {topic.version}, not {wish.expected_version}",
            field="expected_version",
            metadata={"version": str(topic.version)},
        )
    _check_unchangeable(topic, wish)
    present = _settings_of(topic)
    changes = {name: value for name in _SETTINGS if (value := getattr(wish, name)) is not None}
    if wish.depth is not None:
        changes["depth"] = wish.depth.settled(topic.depth)
    settled = settle(replace(present, **changes), policy, topic.replication_factor)
    if settled == present:
        return []
    return [TopicAltered(topic.topic_id, *(getattr(settled, name) for name in _SETTINGS))]


def _check_unchangeable(topic: TopicRecord, wish: AlterTopic) -> None:
    if wish.partitions not in (None, len(topic.partitions)):
        raise InvalidArgument(
            f"topic {topic.name} has {len(topic.partitions)} partitions for good: with another number a key's records "
            "would go to another partition than those before, and lose their order",
            field="partitions",
        )
    if wish.replication_factor not in (None, topic.replication_factor):
        raise InvalidArgument(
            f"topic {topic.name} was created with {topic.replication_factor} replicas, which is no setting that can "
            "be altered",
            field="replication_factor",
        )


def _settings_of(topic: TopicRecord) -> CreateTopic:
    """The topic as a wish that would have led to it."""
    settings = {name: getattr(topic, name) for name in _SETTINGS}
    return CreateTopic(topic.name, len(topic.partitions), topic.replication_factor, **settings)
