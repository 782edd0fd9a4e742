"""Which nodes get the replicas of new partitions. A pure function: equal input, equal answer, on any node.

In this order: replicas of a partition lie on distinct nodes; in as many racks as there are; racks and nodes carry
alike, counting what they carry already; and preferred leaders are spread evenly over the nodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import lcm

from raftmq.errors import NotEnoughReplicas
from raftmq.ids import NodeId, ReplicaId


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may get replicas."""

    id: ReplicaId
    rack: str = ""
    """Empty: not known; the node counts as a rack of its own."""
    fenced: bool = False
    """Gets nothing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a node carries already."""

    replicas: int = 0
    leaders: int = 0
    """Partitions that prefer it as leader."""


Assignment = tuple[ReplicaId, ...]
"""Replicas of a partition in order of preference."""


def place(
    nodes: Sequence[Candidate], partitions: int, replication_factor: int, already: Mapping[NodeId, Load]
) -> list[Assignment]:
    """Replicas for `partitions` new partitions. Nodes that are not in `already` carry nothing.

    Raises NotEnoughReplicas where fewer than `replication_factor` nodes are not fenced: a replica on a fenced node
    would leave its partition one failure short from its first day.
    """
    assert partitions >= 1
    assert replication_factor >= 1
    live = [node for node in nodes if not node.fenced]
    assert len({node.id.node for node in live}) == len(live), "a node has one disk at a time"
    if len(live) < replication_factor:
        fenced = sorted(node.id.node for node in nodes if node.fenced)
        raise NotEnoughReplicas(
            f"{replication_factor} replicas need as many live nodes, there are {len(live)}"
            + (f" (nodes {fenced} are fenced)" if fenced else "")
        )
    spread = _Spread(live, already)
    chosen = [spread.choose(replication_factor) for _ in range(partitions)]
    return _prefer_leaders(chosen, already)


def substitute(
    nodes: Sequence[Candidate], kept: Collection[NodeId], already: Mapping[NodeId, Load]
) -> ReplicaId | None:
    """Where a replica goes of a partition that loses one, and keeps those on `kept`: to a rack with fewest of those,
    then to the node that carries least. None: every live node holds one."""
    racks = {node.id.node: (node.rack, 0 if node.rack else node.id.node) for node in nodes}
    taken = [racks[node] for node in kept if node in racks]
    fit = [node.id for node in nodes if not node.fenced and node.id.node not in kept]
    return min(
        fit,
        key=lambda one: (taken.count(racks[one.node]), already.get(one.node, Load()).replicas, one),
        default=None,
    )


class _Spread:
    """Picks node by node: the least loaded rack that the partition has fewest replicas in, then its least loaded node.

    Balancing racks before nodes matters: picking the least loaded *nodes* can leave the only empty ones in one rack,
    where a partition may not use them together. Ties are broken by name and id: the order of `nodes` means nothing.
    """

    def __init__(self, nodes: Sequence[Candidate], already: Mapping[NodeId, Load]) -> None:
        self._racks: dict[tuple[str, int], list[ReplicaId]] = {}
        for node in nodes:
            rack = (node.rack, 0 if node.rack else node.id.node)
            self._racks.setdefault(rack, []).append(node.id)
        self._load = {node.id: already.get(node.id.node, Load()).replicas for node in nodes}
        # Loads of racks are compared per node, in integers.
        scale = lcm(*(len(members) for members in self._racks.values()))
        self._weight = {rack: scale // len(members) for rack, members in self._racks.items()}
        self._rack_load = {rack: sum(self._load[member] for member in members) for rack, members in self._racks.items()}

    def choose(self, replication_factor: int) -> Assignment:
        chosen: list[ReplicaId] = []
        taken = dict.fromkeys(self._racks, 0)
        for _ in range(replication_factor):
            rack = min(
                (rack for rack, members in self._racks.items() if taken[rack] < len(members)),
                key=lambda rack: (taken[rack], self._rack_load[rack] * self._weight[rack], rack),
            )
            node = min(
                (member for member in self._racks[rack] if member not in chosen),
                key=lambda member: (self._load[member], member),
            )
            chosen.append(node)
            taken[rack] += 1
            self._rack_load[rack] += 1
            self._load[node] += 1
        return tuple(chosen)


def _prefer_leaders(chosen: Sequence[Assignment], already: Mapping[NodeId, Load]) -> list[Assignment]:
    """Put the preferred leader of each partition first, so that leaders are as even as the replicas allow."""
    leaders = {replica: already.get(replica.node, Load()).leaders for replicas in chosen for replica in replicas}
    first: list[ReplicaId] = []
    for replicas in chosen:
        leader = min(replicas, key=lambda replica: (leaders[replica], replica))
        leaders[leader] += 1
        first.append(leader)
    while _move_leader(chosen, first, leaders):
        pass
    return [
        (leader, *(replica for replica in replicas if replica != leader))
        for replicas, leader in zip(chosen, first, strict=True)
    ]


def _move_leader(chosen: Sequence[Assignment], first: list[ReplicaId], leaders: dict[ReplicaId, int]) -> bool:
    """Hand leadership along a chain of partitions from a node to one that leads at least two fewer; False: none does.

    A single partition cannot always be handed over directly (no partition may have both nodes as replicas), so this is
    the search for an augmenting path; each one found lowers the sum of squares, hence an end.
    """
    led: dict[ReplicaId, list[int]] = {}
    for position, leader in enumerate(first):
        led.setdefault(leader, []).append(position)
    for source in sorted(led, key=lambda replica: (-leaders[replica], replica)):
        came_by: dict[ReplicaId, int] = {}
        waiting = deque([source])
        while waiting:
            node = waiting.popleft()
            if leaders[node] <= leaders[source] - 2:
                _hand_over(source, node, came_by, first)
                leaders[source] -= 1
                leaders[node] += 1
                return True
            for position in led.get(node, ()):
                for replica in chosen[position]:
                    if replica != source and replica not in came_by:
                        came_by[replica] = position
                        waiting.append(replica)
    return False


def _hand_over(source: ReplicaId, target: ReplicaId, came_by: Mapping[ReplicaId, int], first: list[ReplicaId]) -> None:
    """Every node on the chain from `source` to `target` takes over the partition by which it was reached."""
    node = target
    while node != source:
        position = came_by[node]
        node, first[position] = first[position], node
