"""Which leaders should move, so that each partition is led by its preferred replica again. A pure function.

Leadership moves only to where it is safe and likely to stay: an in-sync replica, on a node that is not fenced and has
been heard without a break for a while. A node that has just come back is left in peace until it has proven itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from raftmq.ids import GroupId, NodeId
from raftmq.metadata.image import MetadataImage

SESSION_MIN_MS = 30_000
"""A node must have been heard for so long before leadership is moved to it."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Ask the leader of `group` on `source` to hand over to `target`."""

    group: GroupId
    source: NodeId
    target: NodeId


def plan_transfers(
    image: MetadataImage,
    leaders: Mapping[GroupId, NodeId],
    in_sync: Mapping[GroupId, Collection[NodeId]],
    session_ms: Mapping[NodeId, int],
    *,
    limit: int,
    fenced: Collection[NodeId] = (),
    resting: Collection[GroupId] = (),
    session_min_ms: int = SESSION_MIN_MS,
) -> list[Transfer]:
    """At most `limit` transfers, by group.

    `leaders` and `in_sync` are what is known; a group that is missing from either is left alone. `session_ms`: age of
    each node's session. `fenced`: nodes to be treated as fenced beside those that the image has fenced. `resting`:
    groups to leave alone, because a transfer is under way or has failed a moment ago.
    """
    transfers: list[Transfer] = []
    for group in sorted(image.groups):
        if len(transfers) >= limit:
            break
        found = image.partition(group)
        leader = leaders.get(group)
        if found is None or leader is None or group in resting:
            continue
        preferred = found[1].replicas[0]
        node = image.nodes.get(preferred.node)
        if leader == preferred.node or node is None or node.id != preferred:
            continue
        if (
            node.fenced
            or node.leaving
            or preferred.node in fenced
            or session_ms.get(preferred.node, 0) < session_min_ms
        ):
            continue
        if preferred.node in in_sync.get(group, ()):
            transfers.append(Transfer(group, leader, preferred.node))
    return transfers
