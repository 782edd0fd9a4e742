"""Who is hurt: the choice of nodes, and the ways to end and start them that all faults share."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from raftmq.ids import CONTROLLER_GROUP, GroupId
from raftmq.sim.node import SimNode
from raftmq.sim.plan import Step

if TYPE_CHECKING:
    from raftmq.sim.cluster import SimCluster


class Victims:
    """What every kind of fault builds on."""

    def __init__(self, cluster: SimCluster, rng: Random) -> None:
        self._cluster = cluster
        self._agenda = cluster.agenda
        self._network = cluster.network
        self._rng = rng
        self._mended = False

    def _later(self, delay: int, call: Callable[..., None], *args: object) -> None:
        """Unless everything has been mended by then."""
        self._agenda.after(delay, lambda: None if self._mended else call(*args))

    # -- choosing ----------------------------------------------------------------------------------------------------

    @property
    def _nodes(self) -> list[SimNode]:
        return [node for _, node in sorted(self._cluster.nodes.items())]

    def _some_node(self, pick: int) -> SimNode:
        return self._nodes[pick % len(self._nodes)]

    def _victim(self, step: Step) -> SimNode:
        """A node, or by preference the leader of some group."""
        if step.picks[1] % 3:
            leader = self._leader(step.picks[0])
            if leader is not None:
                return leader
        return self._some_node(step.picks[0])

    def _leader(self, pick: int) -> SimNode | None:
        """The leader of some group; every fourth time of the controller's."""
        led: list[tuple[GroupId, SimNode]] = []
        for node in self._nodes:
            if node.assembly is not None:
                led += [(group, node) for group in node.assembly.host.led_groups()]
        if pick % 4 == 0:
            led = [pair for pair in led if pair[0] == CONTROLLER_GROUP] or led
        return led[pick // 4 % len(led)][1] if led else None

    def _minority(self, pick: int) -> list[SimNode]:
        nodes = self._nodes
        size = max(1, (len(nodes) - 1) // 2)
        start = pick % len(nodes)
        return [nodes[(start + step) % len(nodes)] for step in range(size)]

    def _boot(self, node: SimNode) -> None:
        if node.process is None and self._cluster.nodes.get(node.number) is node:
            node.boot()

    def _stop(self, node: SimNode, step: Step, *, power: bool) -> bool:
        if node.process is None:
            return False
        node.kill(silently=power and bool(step.picks[2] & 1))
        if power:
            node.store.crash(self._rng if step.picks[2] & 2 else None)
        else:
            node.store.kill()
        self._later(step.length, self._boot, node)
        return True
