"""What faults may touch: the processes, the proxies, the shims, and who leads what."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from raftmq.chaos.frames import Frames
from raftmq.chaos.nodes import Launcher, Processes
from raftmq.chaos.observer import Observer
from raftmq.chaos.plans import One, Some
from raftmq.chaos.proxies import Proxies
from raftmq.chaos.shim import Shim
from raftmq.chaos.topology import Topology
from raftmq.client import Client
from raftmq.ids import NodeId

TOPIC = "records"
"""The topic of the load."""


@dataclass(frozen=True)
class Means:
    """What this machine cannot do, each with the reason; empty where it can. Known before any node is started."""

    why_no_proxies: str = ""
    why_no_shims: str = ""
    why_no_disks: str = ""
    """Nodes' directories on small file systems of their own."""


@dataclass
class Arena:
    """One run's world. ``proxies`` is None where there are none; ``shims`` and ``frames`` are empty unless a fault
    needs them.
    """

    folder: Path
    topology: Topology
    processes: Processes
    launcher: Launcher
    observer: Observer
    admin: Client
    """Goes past the proxies."""
    proxies: Proxies | None
    shims: Mapping[NodeId, Shim]
    frames: Mapping[NodeId, Frames]
    means: Means
    rng: random.Random
    python: str
    given_up: set[NodeId] = field(default_factory=set)
    """Nodes that a fault has damaged so that they refuse to run: nobody expects them back."""

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        return self.topology.nodes

    def choose(self, target: One | Some) -> tuple[NodeId, ...]:
        """The nodes that a target means now. Where nobody leads, any node stands for the leader."""
        if isinstance(target, int):
            return (NodeId(target),)
        if target == "all":
            return self.nodes
        leader = self._leader(TOPIC)
        others = tuple(node for node in self.nodes if node != leader)
        if target == "leader":
            return (leader,)
        if target == "controller":
            return (self._leader(""),)
        if target == "follower":
            return (self.rng.choice(others),)
        if target == "majority":
            count = len(self.nodes) // 2 + 1
            return tuple(sorted([leader, *self.rng.sample(others, count - 1)]))
        return (self.rng.choice(self.nodes),)

    def _leader(self, topic: str) -> NodeId:
        return self.observer.leader(topic, 0) or self.rng.choice(self.nodes)
