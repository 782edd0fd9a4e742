"""The cluster as its log tells it: an immutable picture, and how an event makes the next one.

Every node holds the same image at the same version. Readers keep an image as long as they like; nothing in it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, TypeVar

from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, PartitionId, ProducerId, ReplicaId
from raftmq.metadata import events
from raftmq.metadata.events import Event
from raftmq.records.poison import PoisonEntry

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")

FIRST_PRODUCER_ID = ProducerId(1)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node that has registered. See ``events.NodeRegistered`` for the fields they share."""

    id: ReplicaId
    boot: BootCount
    host: str
    client_port: int
    peer_host: str
    peer_port: int
    http_port: int
    rack: str
    fenced: bool
    max_cluster_version: int


@dataclass(frozen=True, slots=True)
class PartitionRecord:
    group: GroupId
    partition: PartitionId
    replicas: tuple[ReplicaId, ...]
    """In order of preference: the first should lead."""


@dataclass(frozen=True, slots=True)
class TopicRecord:
    topic_id: int
    """From 1; never reused, not even for a topic of the same name."""
    name: str
    replication_factor: int
    min_in_sync_replicas: int
    max_batch_bytes: int
    partitions: tuple[PartitionRecord, ...]
    """By partition number."""
    retention_ms: int = 0
    """0: for ever."""
    retention_bytes: int = 0
    """Of each partition; 0: without limit."""
    message_id_window_ms: int = 0
    """How long message ids are remembered, and how many of a partition; 0, of both: as a partition does by itself."""
    message_id_window_count: int = 0


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class MetadataImage:
    """Nodes, topics, assignments and counters at one version.

    Invariants: `groups` indexes exactly the partitions of `topics`; every group, topic and producer id in use is below
    its counter; counters never fall.
    """

    version: LogIndex = LogIndex(0)
    """Log index of the last entry that changed the image."""
    nodes: Mapping[NodeId, NodeRecord] = field(default_factory=_empty)
    topics: Mapping[str, TopicRecord] = field(default_factory=_empty)
    groups: Mapping[GroupId, tuple[str, PartitionId]] = field(default_factory=_empty)
    """Where each group is found in `topics`."""
    next_group_id: GroupId = GroupId(1)
    next_topic_id: int = 1
    next_producer_id: ProducerId = FIRST_PRODUCER_ID
    cluster_version: int = 1
    """Leaders propose only what this version has."""

    def partition(self, group: GroupId) -> tuple[TopicRecord, PartitionRecord] | None:
        """The partition that `group` replicates; None where there is none (any more)."""
        found = self.groups.get(group)
        if found is None:
            return None
        topic = self.topics[found[0]]
        return topic, topic.partitions[found[1]]

    def replay(self, event: Event) -> MetadataImage:
        """The image after `event`; `version` is left to the caller. Raises PoisonEntry where the event does not fit."""
        match event:
            case events.NodeRegistered():
                return self._register(event)
            case events.NodeFenced(node):
                return self._fence(node, fenced=True)
            case events.NodeUnfenced(node):
                return self._fence(node, fenced=False)
            case events.TopicCreated():
                return self._create(event)
            case events.TopicDeleted(topic_id):
                return self._delete(topic_id)
            case events.ProducerIdsAllocated(_, first, count):
                _fits(first == self.next_producer_id and count > 0, event)
                return replace(self, next_producer_id=ProducerId(first + count))
            case events.ClusterVersionRaised(version):
                _fits(version > self.cluster_version, event)
                return replace(self, cluster_version=version)
            case events.AssignmentChanged(group, replicas):
                return self._assign(event, group, replicas)

    def at(self, version: LogIndex) -> MetadataImage:
        """The same image, as of the entry at `version`."""
        return replace(self, version=version)

    def digest(self) -> str:
        """32 hexadecimal digits, equal for equal images on nodes of the same version of raftmq."""
        content = (
            self.version,
            sorted(self.nodes.items()),
            sorted(self.topics.items()),
            self.next_group_id,
            self.next_topic_id,
            self.next_producer_id,
            self.cluster_version,
        )
        return blake2b(repr(content).encode(), digest_size=16).hexdigest()

    def _register(self, event: events.NodeRegistered) -> MetadataImage:
        known = self.nodes.get(event.id.node)
        node = NodeRecord(
            id=event.id,
            boot=event.boot,
            host=event.host,
            client_port=event.client_port,
            peer_host=event.peer_host,
            peer_port=event.peer_port,
            http_port=event.http_port,
            rack=event.rack,
            # A first registration is itself a sign of life.
            fenced=known.fenced if known is not None else False,
            max_cluster_version=event.max_cluster_version,
        )
        return replace(self, nodes=_with(self.nodes, {event.id.node: node}))

    def _fence(self, node_id: NodeId, *, fenced: bool) -> MetadataImage:
        node = self.nodes.get(node_id)
        if node is None:
            raise PoisonEntry(f"node {node_id} is fenced or unfenced, but has never registered")
        return replace(self, nodes=_with(self.nodes, {node_id: replace(node, fenced=fenced)}))

    def _create(self, event: events.TopicCreated) -> MetadataImage:
        _fits(event.name not in self.topics and event.topic_id == self.next_topic_id, event)
        partitions = tuple(PartitionRecord(one.group, one.partition, one.replicas) for one in event.partitions)
        for number, partition in enumerate(partitions):
            _fits(partition.partition == number and partition.group == self.next_group_id + number, event)
            _fits(len(partition.replicas) > 0, event)
        topic = TopicRecord(
            event.topic_id,
            event.name,
            event.replication_factor,
            event.min_in_sync_replicas,
            event.max_batch_bytes,
            partitions,
            event.retention_ms,
            event.retention_bytes,
            event.message_id_window_ms,
            event.message_id_window_count,
        )
        return replace(
            self,
            topics=_with(self.topics, {topic.name: topic}),
            groups=_with(self.groups, {one.group: (topic.name, one.partition) for one in partitions}),
            next_topic_id=self.next_topic_id + 1,
            next_group_id=GroupId(self.next_group_id + len(partitions)),
        )

    def _delete(self, topic_id: int) -> MetadataImage:
        topic = next((topic for topic in self.topics.values() if topic.topic_id == topic_id), None)
        if topic is None:
            raise PoisonEntry(f"topic {topic_id} is deleted, but does not exist")
        return replace(
            self,
            topics=_without(self.topics, lambda name: name == topic.name),
            groups=_without(self.groups, lambda group: self.groups[group][0] == topic.name),
        )

    def _assign(self, event: Event, group: GroupId, replicas: tuple[ReplicaId, ...]) -> MetadataImage:
        found = self.partition(group)
        _fits(found is not None and len(replicas) > 0, event)
        assert found is not None
        topic, partition = found
        partitions = list(topic.partitions)
        partitions[partition.partition] = replace(partition, replicas=replicas)
        return replace(self, topics=_with(self.topics, {topic.name: replace(topic, partitions=tuple(partitions))}))


def _fits(condition: bool, event: Event) -> None:
    """A committed event that does not fit means that it was decided over another image: this node must not go on."""
    if not condition:
        raise PoisonEntry(f"does not fit what came before: {event}")


def _with(mapping: Mapping[KeyT, ValueT], changes: Mapping[KeyT, ValueT]) -> Mapping[KeyT, ValueT]:
    return MappingProxyType({**mapping, **changes})


def _without(mapping: Mapping[KeyT, ValueT], gone: Callable[[KeyT], bool]) -> Mapping[KeyT, ValueT]:
    return MappingProxyType({key: value for key, value in mapping.items() if not gone(key)})
