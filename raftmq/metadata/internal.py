"""Topics in which raftmq keeps its own state; what the controller's leader decides on them, see ``decisions``."""

from __future__ import annotations

from raftmq.ids import GroupId, PartitionId
from raftmq.metadata.decisions import loads, majority
from raftmq.metadata.events import Event, PartitionAssigned, TopicCreated
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.placement import Candidate, place
from raftmq.records.topic_kinds import TopicKind

GROUPS_TOPIC = "__groups"
"""A consumer group's coordinator is the leader of the partition that its name hashes to."""
GROUPS_PARTITIONS = 8
_BATCH_BYTES = 1024 * 1024


def create_groups_topic(image: MetadataImage, replicas: int, partitions: int = GROUPS_PARTITIONS) -> list[Event]:
    """The topic of consumer groups; no events where it is there.

    With as many replicas as there are nodes to stay, at most `replicas`. Raises NotEnoughReplicas (more than live
    nodes).
    """
    if GROUPS_TOPIC in image.topics:
        return []
    staying = [Candidate(node.id, node.rack, node.fenced) for node in image.nodes.values() if not node.leaving]
    replicas = min(replicas, len(staying))
    assigned = tuple(
        PartitionAssigned(GroupId(image.next_group_id + number), PartitionId(number), replicas_of)
        for number, replicas_of in enumerate(place(staying, partitions, replicas, loads(image)))
    )
    return [
        TopicCreated(
            image.next_topic_id,
            GROUPS_TOPIC,
            replicas,
            majority(replicas),
            _BATCH_BYTES,
            assigned,
            kind=TopicKind.CONSUMER_GROUPS,
        )
    ]
