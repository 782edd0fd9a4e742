"""How far consumer groups are behind: committed offsets beside what the leaders of the partitions say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from raftmq.broker.deadlines import CallContext
from raftmq.broker.offsets import Offsets
from raftmq.errors import RaftmqError
from raftmq.groups.group import ConsumerGroup
from raftmq.groups.types import TopicPartition
from raftmq.metadata.image import MetadataImage, TopicRecord
from raftmq.v1 import broker_pb2

ASK_WITHIN_MS = 3_000


@dataclass(frozen=True, slots=True)
class Lag:
    """Of one partition."""

    high_watermark: int
    records: int
    """From the committed offset, or the start of the log if that is later or nothing was committed, to the end."""
    age_ms: int
    """Since the first of them was appended; 0 where there is none."""


def partitions_of(group: ConsumerGroup, topics: Mapping[int, TopicRecord]) -> list[TopicPartition]:
    """Those that the group's members read, and those with committed offsets, as far as they exist."""
    read = {key for topic in group.facts.values() for key in topic.every()}
    return sorted(key for key in read | group.offsets.keys() if key.topic_id in topics)


def topics_by_id(image: MetadataImage) -> dict[int, TopicRecord]:
    return {topic.topic_id: topic for topic in image.topics.values()}


async def lags(
    offsets: Offsets,
    group: ConsumerGroup,
    wanted: Iterable[TopicPartition],
    topics: Mapping[int, TopicRecord],
    now_ms: int,
    context: CallContext,
) -> dict[TopicPartition, Lag]:
    """Without the partitions of topics that have one whose leader does not answer."""
    # The call may have come its one hop to this coordinator. What it asks now are calls of its own.
    own = replace(context.narrowed(ASK_WITHIN_MS), forwarded=False)
    found: dict[TopicPartition, Lag] = {}
    by_topic: dict[int, list[TopicPartition]] = {}
    for key in wanted:
        by_topic.setdefault(key.topic_id, []).append(key)
    for topic_id, keys in by_topic.items():
        committed = {key.partition: group.offsets[key].position.offset for key in keys if key in group.offsets}
        request = broker_pb2.ListOffsetsRequest(
            topic=topics[topic_id].name,
            partitions=[key.partition for key in keys],
            positions=[committed.get(key.partition, 0) for key in keys],
        )
        try:
            answer = await offsets.list_offsets(request, own)
        except RaftmqError:
            continue
        for one in answer.partitions:
            first = max(committed.get(one.partition, 0), one.log_start_offset)
            appended = one.position_appended_at.ToMilliseconds() if one.HasField("position_appended_at") else now_ms
            found[TopicPartition(topic_id, one.partition)] = Lag(
                one.high_watermark, max(0, one.high_watermark - first), max(0, now_ms - appended)
            )
    return found
