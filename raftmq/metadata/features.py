"""Which cluster version brought what, and when a cluster may use it.

A node that reads an event or a command which it does not know stops the group that holds it. So a leader proposes
nothing that came later than the *cluster version*, and that is raised only to what every member understands: a node
says when it registers how far it does, and one that is too old for the cluster is refused then.

| Version | Brought |
|---|---|
| 1 | topics, producers, message ids, sessions, operations |
| 2 | exchanges, queue groups, consumer groups and their expiry, limits on depth, quotas of clients |
| 3 | copies of dead letters that name the parking of which they are |
| 4 | drain rates that are shared by all partitions of a topic |

Most commands in partitions need no check of their own: those about queue groups, and all of consumer groups, can only
follow an event that is checked here. A command that does not follow from such an event has to look at
``cluster_version``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raftmq.errors import ClusterTooOld, NotReady
from raftmq.ids import NodeId, ReplicaId
from raftmq.metadata import events
from raftmq.metadata.events import ClusterVersionRaised, Event
from raftmq.metadata.image import MetadataImage
from raftmq.records.topic_kinds import TopicKind

CLUSTER_VERSION = 4
"""The newest that this code understands."""
OFFSETS_EXPIRE = 2
"""From this one on coordinators may let groups without members expire."""
PARKINGS_NAMED = 3
"""From this one on leaders may propose commands of version 3 (``partition.commands.PARKINGS_VERSION``)."""
DRAIN_SHARED = 4
"""From this one on leaders may propose commands of version 4 (``partition.commands.SHARES_VERSION``). Before, each
partition has its share of a drain rate rounded up."""


def needed_for(event: Event) -> int:
    """The cluster version that `event` came with."""
    match event:
        case (
            events.ExchangeDeclared()
            | events.ExchangeDeleted()
            | events.BindingAdded()
            | events.BindingRemoved()
            | events.QueueGroupSet()
            | events.QueueGroupDeleted()
            | events.ClientQuotaSet()
            | events.ClientQuotaDeleted()
        ):
            return 2
        case events.TopicCreated(kind=kind, depth=depth) if kind is not TopicKind.RECORDS or depth:
            return 2
        case events.TopicAltered(depth=depth) if depth:
            return 2
        case _:
            return 1


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the cluster version is, and what holds it back."""

    version: int
    newest: int
    """That any node understands, so that the cluster could use it once all do."""
    behind: tuple[NodeId, ...]
    """Nodes that understand less than the newest, ascending."""
    unheard: tuple[NodeId, ...]
    """Nodes that have yet to say how far they understand, ascending."""


def standing(image: MetadataImage, members: Iterable[ReplicaId]) -> Standing:
    """`members`: as in ``allowed``."""
    newest = max([image.cluster_version, *(node.max_cluster_version for node in image.nodes.values())])
    unheard = _unheard(image, members)
    behind = [
        number
        for number, node in sorted(image.nodes.items())
        if node.max_cluster_version < newest and number not in unheard
    ]
    return Standing(image.cluster_version, newest, tuple(behind), tuple(unheard))


def allowed(image: MetadataImage, members: Iterable[ReplicaId], decided: Sequence[Event]) -> list[Event]:
    """`decided`, behind the event that allows for it where there has to be one.

    `members`: replicas of the metadata, whether their nodes have registered or not. Raises ClusterTooOld, and NotReady
    while one of them has yet to say what it understands.
    """
    needed = max((needed_for(event) for event in decided), default=1)
    if needed <= image.cluster_version:
        return list(decided)
    too_old = [node for node, known in sorted(image.nodes.items()) if known.max_cluster_version < needed]
    if too_old:
        nodes = ", ".join(map(str, too_old))
        raise ClusterTooOld(
            f"this needs cluster version {needed}, which node {nodes} does not understand: upgrade it first",
            metadata={"nodes": nodes, "needed_version": str(needed), "cluster_version": str(image.cluster_version)},
        )
    if unheard := _unheard(image, members):
        nodes = ", ".join(map(str, unheard))
        raise NotReady(f"this needs cluster version {needed}, and node {nodes} has yet to register: try again")
    return [ClusterVersionRaised(needed), *decided]


def raised(image: MetadataImage, members: Iterable[ReplicaId]) -> list[Event]:
    """The cluster version becomes the newest that all members and this code understand; no events where it is so."""
    if not image.nodes or _unheard(image, members):
        return []
    common = min(CLUSTER_VERSION, *(node.max_cluster_version for node in image.nodes.values()))
    return [ClusterVersionRaised(common)] if common > image.cluster_version else []


def _unheard(image: MetadataImage, members: Iterable[ReplicaId]) -> list[NodeId]:
    """Nodes of which nobody knows how far they understand: one of the first members that has yet to register, and one
    whose disk was replaced: its new process need not be of the version of the old one. A node that is merely away has
    said it, and counts as it has said; one that was removed does not count, though it may be a member until another has
    its vote."""
    removed = {replica.node for replica in image.removed}
    unknown = {one.node for one in members if one.node not in image.nodes} - removed
    return sorted(unknown | {number for number, node in image.nodes.items() if not node.boot})
