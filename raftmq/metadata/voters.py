"""Who votes in the controller's group, and who learns. A pure function of the image and the configuration in force.

Up to five nodes vote, an odd number of them where it grew; every other node learns. A vote is given to one that has
learned everything, and taken from a node that leaves, or from a disk that was replaced, only when another takes over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from raftmq.ids import LogIndex, ReplicaId
from raftmq.metadata.image import MetadataImage
from raftmq.raft.types import Membership

VOTERS_MAX = 5
VOTERS_LEAST = 3
"""With fewer none could be spared: rather than that, whoever leaves goes on voting."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``target``: the next configuration; None: there is none now. ``waits``: for what; empty: for nothing."""

    target: Membership | None = None
    waits: str = ""


def plan_voters(
    image: MetadataImage,
    membership: Membership,
    caught_up: Collection[ReplicaId],
    match_index: Mapping[ReplicaId, LogIndex],
    silent: Collection[ReplicaId] = (),
) -> Plan:
    """The next step from the settled `membership`. `match_index`: what each member holds durably. `silent`: members
    that nobody hears."""
    registered = frozenset(node.id for node in image.nodes.values())
    if missing := registered - membership.all:
        return Plan(Membership(membership.voters, learners=membership.learners | missing))
    wanted, waits = _voters(image, membership.voters)
    if wanted != membership.voters and not waits:
        late = sorted(wanted - membership.voters - frozenset(caught_up))
        if not late:
            return Plan(Membership(wanted, learners=membership.learners - wanted))
        waits = f"node {late[0].node} catches up with the metadata"
    # A node that was removed is to learn of it before it is told nothing more.
    gone = {
        learner
        for learner in membership.learners - registered
        if learner not in image.removed or learner in silent or match_index.get(learner, LogIndex(0)) >= image.version
    }
    if gone:
        return Plan(Membership(membership.voters, learners=membership.learners - gone), waits)
    return Plan(None, waits)


def _voters(image: MetadataImage, voters: frozenset[ReplicaId]) -> tuple[frozenset[ReplicaId], str]:
    staying = [node for node in image.nodes.values() if not node.leaving]
    kept = frozenset(voter for voter in voters if _stays(image, voter))
    room = min(VOTERS_MAX, len({node.id for node in staying} | kept))
    size = max(room - 1 + room % 2, len(kept), min(room, len(voters)))
    lost = {voter.node for voter in voters - kept}
    racks = [image.nodes[voter.node].rack for voter in kept if voter.node in image.nodes]
    fit = sorted(
        (node for node in staying if node.id not in kept and not node.fenced),
        key=lambda node: (node.id.node not in lost, racks.count(node.rack) if node.rack else 0, node.id),
    )
    wanted = kept | {node.id for node in fit[: size - len(kept)]}
    if len(wanted) > len(voters) and len(wanted) % 2 == 0:
        wanted = voters  # one more alone would stand no more failures, and have one more to fear
    if len(wanted) < min(VOTERS_LEAST, len(voters)):
        return voters, f"no live node can take over the controller's vote of node {min(lost)}"
    return wanted, ""


def _stays(image: MetadataImage, voter: ReplicaId) -> bool:
    """One of the first voters that has yet to register is no less of a voter."""
    known = image.nodes.get(voter.node)
    return voter not in image.removed and (known is None or (known.id == voter and not known.leaving))
