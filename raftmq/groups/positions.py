"""How far the consumer groups of one coordinator have come, partition by partition: for whoever keeps the records."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from raftmq.groups.group import ConsumerGroup
from raftmq.groups.types import TopicPartition

Slowest = tuple[int | None, bool]
"""(lowest committed offset, or None where there is none; whether a group reads the partition without having committed
anything of it)."""


def slowest(groups: Iterable[ConsumerGroup], topic_ids: Collection[int]) -> dict[TopicPartition, Slowest]:
    """Of partitions of these topics that a group has committed an offset of, or reads."""
    found: dict[TopicPartition, Slowest] = {}
    for group in groups:
        for key, committed in group.offsets.items():
            if key.topic_id in topic_ids:
                lowest, is_awaited = found.get(key, (None, False))
                offset = committed.position.offset
                found[key] = (offset if lowest is None else min(lowest, offset), is_awaited)
        for topic in group.facts.values():
            if topic.topic_id in topic_ids:
                for key in topic.every():
                    if key not in group.offsets:
                        found[key] = (found.get(key, (None, False))[0], True)
    return found


def joined(one: Slowest, other: Slowest) -> Slowest:
    """Of the groups of two coordinators."""
    offsets = [lowest for lowest in (one[0], other[0]) if lowest is not None]
    return min(offsets, default=None), one[1] or other[1]
