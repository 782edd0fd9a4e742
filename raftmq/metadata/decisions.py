"""What the controller's leader decides: from the image and a wish to events, or to an error with the field to blame.

Nothing is changed here. The events are proposed as one entry; replaying it, once committed, changes the image of every
node. So the image that a decision is made on must have everything that was decided before: the caller makes one
decision at a time, and only when its own log is applied to the end.

No events: the wish is fulfilled already.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from raftmq.errors import AlreadyExists, InvalidArgument, PreconditionFailed, UnknownNode, UnknownTopic
from raftmq.ids import GroupId, NodeId, PartitionId, ProducerId
from raftmq.metadata.depth import NO_LIMIT, DepthLimit
from raftmq.metadata.events import (
    Event,
    NodeFenced,
    NodeRegistered,
    NodeUnfenced,
    PartitionAssigned,
    ProducerIdsAllocated,
    TopicCreated,
    TopicDeleted,
)
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.placement import Candidate, Load, place

PRODUCER_ID_BLOCK = 1000
"""Producer ids that a node gets at once."""

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
RESERVED = "__"
_NODE_ID_MAX = 2**31 - 1
_STORE_ID_MAX = 2**63 - 1
_PORT_MAX = 65_535
_RETENTION_MAX = 2**62
_WINDOW_MS_MIN, _WINDOW_MS_MAX = 1_000, 7 * 24 * 60 * 60 * 1000
_WINDOW_COUNT_MAX = 1_000_000
"""Every replica holds the ids in memory."""
_TEXT_MAX = 253
"""Longest host and rack in characters: that of a name in DNS."""
_HOST = re.compile(r"[!-.0-Z\\^-~]{1,253}")
"""Printable ASCII without blanks, slashes and brackets: names and addresses go into other nodes' targets and logs."""


@dataclass(frozen=True, slots=True)
class TopicPolicy:
    """What topics get that do not say otherwise, and what none may exceed."""

    partitions: int = 3
    replication_factor: int = 3
    min_in_sync_replicas: int = 0
    """Of topics that say neither this nor a replication factor; 0: the majority."""
    max_batch_bytes: int = 1024 * 1024
    message_id_window_ms: int = 10 * 60 * 1000
    message_id_window_count: int = 10_000
    partitions_max: int = 10_000
    topics_total_max: int = 10_000
    partitions_total_max: int = 20_000
    """Of all topics together."""
    batch_bytes_min: int = 1024
    batch_bytes_max: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CreateTopic:
    """A topic that somebody wants. 0 stands for the default, as in ``raftmq.v1.CreateTopicRequest``."""

    name: str
    partitions: int = 0
    replication_factor: int = 0
    min_in_sync_replicas: int = 0
    max_batch_bytes: int = 0
    retention_ms: int = 0
    """Here 0 is no default but a choice: for ever."""
    retention_bytes: int = 0
    """Of each partition; 0: without limit."""
    message_id_window_ms: int = 0
    message_id_window_count: int = 0
    depth: DepthLimit = NO_LIMIT
    """Settled: see ``depth.DepthWish``."""


def majority(replicas: int) -> int:
    """The smallest number of `replicas` of which any two choices overlap."""
    return replicas // 2 + 1


# -- topics --------------------------------------------------------------------------------------------------------


def create_topic(image: MetadataImage, wish: CreateTopic, policy: TopicPolicy) -> list[Event]:
    """A new topic with its replicas placed.

    Raises InvalidArgument, AlreadyExists, PreconditionFailed (more replicas than nodes, or more topics or partitions
    than the cluster may have) or NotEnoughReplicas (more than live nodes).
    """
    check_name(wish.name)
    if wish.name in image.topics:
        raise AlreadyExists(f"topic {wish.name} exists", field="name")
    partitions = wish.partitions or policy.partitions
    replicas = wish.replication_factor or policy.replication_factor
    _in_range(partitions, 1, policy.partitions_max, "partitions")
    _in_range(replicas, 1, _NODE_ID_MAX, "replication_factor")
    staying = [node for node in image.nodes.values() if not node.leaving]
    if replicas > len(staying):
        raise PreconditionFailed(
            f"{replicas} replicas need as many nodes, {len(staying)} have registered and are not drained",
            field="replication_factor",
        )
    settled = settle(wish, policy, replicas)
    _check_quota(image, partitions, policy)
    candidates = [Candidate(node.id, node.rack, node.fenced) for node in staying]
    placed = place(candidates, partitions, replicas, loads(image))
    assigned = tuple(
        PartitionAssigned(GroupId(image.next_group_id + number), PartitionId(number), assignment)
        for number, assignment in enumerate(placed)
    )
    created = TopicCreated(
        image.next_topic_id,
        wish.name,
        replicas,
        settled.min_in_sync_replicas,
        settled.max_batch_bytes,
        assigned,
        settled.retention_ms,
        settled.retention_bytes,
        settled.message_id_window_ms,
        settled.message_id_window_count,
        settled.depth,
    )
    return [created]


def settle(wish: CreateTopic, policy: TopicPolicy, replicas: int) -> CreateTopic:
    """`wish` with the defaults in place of zeros, in everything that can be altered later. Raises InvalidArgument."""
    settled = replace(
        wish,
        min_in_sync_replicas=_min_in_sync(wish, policy, replicas),
        max_batch_bytes=wish.max_batch_bytes or policy.max_batch_bytes,
        message_id_window_ms=wish.message_id_window_ms or policy.message_id_window_ms,
        message_id_window_count=wish.message_id_window_count or policy.message_id_window_count,
    )
    _in_range(settled.max_batch_bytes, policy.batch_bytes_min, policy.batch_bytes_max, "max_batch_bytes")
    _in_range(settled.retention_ms, 0, _RETENTION_MAX, "retention")
    _in_range(settled.retention_bytes, 0, _RETENTION_MAX, "retention_bytes")
    _in_range(settled.message_id_window_ms, _WINDOW_MS_MIN, _WINDOW_MS_MAX, "message_id_window")
    _in_range(settled.message_id_window_count, 1, _WINDOW_COUNT_MAX, "message_id_window_count")
    return settled


def delete_topic(image: MetadataImage, name: str) -> list[Event]:
    """The end of a topic and its records. Raises InvalidArgument (reserved) or UnknownTopic."""
    if name.startswith(RESERVED):
        raise InvalidArgument(f"names that begin with {RESERVED} belong to raftmq", field="name")
    topic = image.topics.get(name)
    if topic is None:
        raise UnknownTopic(f"there is no topic {name[:_TEXT_MAX]!r}", field="name")
    return [TopicDeleted(topic.topic_id)]


def loads(image: MetadataImage) -> dict[NodeId, Load]:
    """What each node carries by the image."""
    replicas: Counter[NodeId] = Counter()
    leaders: Counter[NodeId] = Counter()
    for topic in image.topics.values():
        for partition in topic.partitions:
            replicas.update(replica.node for replica in partition.replicas_after)
            leaders[partition.replicas_after[0].node] += 1
    return {node: Load(replicas[node], leaders[node]) for node in sorted(replicas)}


def check_name(name: str, field: str = "name", of: str = "a topic") -> None:
    """Raises InvalidArgument where nobody may give this name."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InvalidArgument(
            f"the name of {of} has 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and is not '.' or '..'", field=field
        )
    if name.startswith(RESERVED):
        raise InvalidArgument(f"names that begin with {RESERVED} are reserved", field=field)


def _check_quota(image: MetadataImage, partitions: int, policy: TopicPolicy) -> None:
    """Every replica costs every node that holds it memory and heartbeats, whether it is used or not."""
    if len(image.topics) >= policy.topics_total_max:
        raise PreconditionFailed(
            f"the cluster has {len(image.topics)} topics and may have no more: delete some, or raise limits.max_topics",
            field="name",
        )
    present = sum(len(topic.partitions) for topic in image.topics.values())
    if present + partitions > policy.partitions_total_max:
        raise PreconditionFailed(
            f"the cluster has {present} partitions and may have {policy.partitions_total_max}: delete topics, or "
            "raise limits.max_partitions",
            field="partitions",
        )


def _min_in_sync(wish: CreateTopic, policy: TopicPolicy, replicas: int) -> int:
    """Below the majority it would promise nothing that Raft does not; above the replicas nothing could be written."""
    wanted = wish.min_in_sync_replicas
    if not wanted and not wish.replication_factor:
        wanted = policy.min_in_sync_replicas
    wanted = wanted or majority(replicas)
    _in_range(wanted, majority(replicas), replicas, "min_in_sync_replicas")
    return wanted


# -- nodes ---------------------------------------------------------------------------------------------------------


def register_node(image: MetadataImage, wish: NodeRegistered) -> list[Event]:
    """A node says who and where it is; no events where all of it is known.

    Raises InvalidArgument, or PreconditionFailed: another disk under a known node id, an older copy of its disk, or a
    version that does not understand what this cluster already writes.
    """
    _check_registration(wish)
    if wish.max_cluster_version < image.cluster_version:
        raise PreconditionFailed(
            f"the cluster uses version {image.cluster_version}, this node understands {wish.max_cluster_version}: "
            "upgrade it",
            field="max_cluster_version",
        )
    known = image.nodes.get(wish.id.node)
    if wish.id in image.removed:
        raise PreconditionFailed(
            f"node {wish.id.node} was removed from the cluster: stop it, or empty its data directory and add it anew",
            field="id.store",
        )
    if known is None:
        return [wish]
    if known.id != wish.id:
        raise PreconditionFailed(
            f"node {wish.id.node} is registered with store {known.id.store:x}, this one is {wish.id.store:x}: "
            "its disk was replaced or emptied. Restore the old directory, or have the node repaired",
            field="id.store",
        )
    if wish.boot < known.boot:
        raise PreconditionFailed(
            f"node {wish.id.node} has started {known.boot} times, its disk says {wish.boot}: "
            "the directory is an older copy",
            field="boot",
        )
    # Replaying tells whether anything is new; nothing else would have to be kept in step with the fields.
    return [] if image.replay(wish).nodes == image.nodes else [wish]


def fence_node(image: MetadataImage, node: NodeId) -> list[Event]:
    """The node's session lapsed. Raises UnknownNode."""
    return [] if _is_fenced(image, node) else [NodeFenced(node)]


def unfence_node(image: MetadataImage, node: NodeId) -> list[Event]:
    """The node is heard again. Raises UnknownNode."""
    return [NodeUnfenced(node)] if _is_fenced(image, node) else []


def _is_fenced(image: MetadataImage, node: NodeId) -> bool:
    known = image.nodes.get(node)
    if known is None:
        raise UnknownNode(f"node {node} has never registered", field="node")
    return known.fenced


def check_host(host: str, field: str) -> None:
    """Raises InvalidArgument where `host` can be no name or address of a node."""
    if not _HOST.fullmatch(host):
        raise InvalidArgument(
            f"a host is 1 to {_TEXT_MAX} printable characters without blanks, '/', '[', ']'", field=field
        )


def _check_registration(wish: NodeRegistered) -> None:
    _in_range(wish.id.node, 1, _NODE_ID_MAX, "id.node")
    _in_range(wish.id.store, 1, _STORE_ID_MAX, "id.store")
    _in_range(wish.boot, 1, _STORE_ID_MAX, "boot")
    check_host(wish.host, "host")
    check_host(wish.peer_host, "peer_host")
    _in_range(len(wish.rack), 0, _TEXT_MAX, "rack")
    _in_range(wish.client_port, 1, _PORT_MAX, "client_port")
    _in_range(wish.peer_port, 1, _PORT_MAX, "peer_port")
    _in_range(wish.http_port, 0, _PORT_MAX, "http_port")


# -- the cluster ---------------------------------------------------------------------------------------------------


def allocate_producer_ids(image: MetadataImage, node: NodeId) -> list[Event]:
    """A block of producer ids that only `node` hands out. Raises UnknownNode."""
    if node not in image.nodes:
        raise UnknownNode(f"node {node} has never registered", field="node")
    return [ProducerIdsAllocated(node, ProducerId(image.next_producer_id), PRODUCER_ID_BLOCK)]


def _in_range(value: int, low: int, high: int, field: str) -> None:
    if not low <= value <= high:
        raise InvalidArgument(f"{field} is {value}, allowed are {low} to {high}", field=field)
