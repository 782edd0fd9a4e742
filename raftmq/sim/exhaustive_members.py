"""A replica moves, and something happens at every turn of it: a node dies, or somebody cancels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial

from raftmq.errors import RaftmqError
from raftmq.ids import CONTROLLER_GROUP
from raftmq.sim.exhaustive import ELECTION_MS, small_plan
from raftmq.sim.node import SimNode
from raftmq.sim.simulation import Result, Simulation, finish

Happens = Callable[[Simulation, SimNode], None]
TIMEOUT_MS = 5_000


def die(simulation: Simulation, node: SimNode) -> None:
    """Power is cut; it is back a moment later."""
    if node.process is not None:
        node.kill()
        node.store.crash()
        simulation.cluster.agenda.after(100_000, _boot, node)


def cancel(simulation: Simulation, _node: SimNode) -> None:
    """Somebody cancels the move, if it is not over."""
    for node in simulation.cluster.nodes.values():
        if node.assembly is not None and node.assembly.host.leads(CONTROLLER_GROUP) and node.process is not None:
            work = partial(node.assembly.operations.cancel, 1, TIMEOUT_MS)
            simulation.cluster.spawn(node.process, _quietly(work))
            return


def moves(happens: Happens, node: int, seed: int = 0, every: int = 1) -> Iterator[tuple[str, Result]]:
    """Partition 0 moves from its first replica to the node without one; `happens` at each (or each `every`-th) turn of
    `node` from then on, for as long as the move takes."""
    at = 0
    while True:
        plan = replace(small_plan(seed), nodes=4, safety=10 * ELECTION_MS * 1000)
        simulation = Simulation(plan)
        point = _Point(simulation, simulation.cluster.nodes[node], at, happens)
        simulation.began = point.arm
        result = finish(simulation)
        if not point.happened:
            return
        yield f"{happens.__name__} at turn {at} of node {node}", result
        at += every


class _Point:
    """Lets it happen after so many turns of a node while the move is under way."""

    def __init__(self, simulation: Simulation, node: SimNode, at: int, happens: Happens) -> None:
        self.happened = False
        self._simulation = simulation
        self._node = node
        self._left = at
        self._happens = happens

    def arm(self) -> None:
        cluster = self._simulation.cluster
        checker, turned = cluster.checker, cluster.checker.turned
        self._move()

        def counting(process, groups):  # type: ignore[no-untyped-def]
            turned(process, groups)
            if process is self._node.process and not self.happened and self._is_moving():
                self._left -= 1
                if self._left < 0:
                    self.happened = True
                    cluster.agenda.after(0, self._happens, self._simulation, self._node)

        checker.turned = counting  # type: ignore[method-assign]

    def _is_moving(self) -> bool:
        assembly = self._node.assembly
        return self._simulation.phase == "safety" and assembly is not None and bool(assembly.controller.image.running())

    def _move(self) -> None:
        cluster = self._simulation.cluster
        leading = next(
            node for node in cluster.nodes.values() if node.assembly and node.assembly.host.leads(CONTROLLER_GROUP)
        )
        assert leading.assembly is not None
        assert leading.process is not None
        image = leading.assembly.controller.image
        held = [replica.node for replica in image.topics["t0"].partitions[0].replicas]
        (free,) = set(image.nodes) - set(held)
        work = partial(leading.assembly.operations.move_replica, "t0", 0, held[0], free, TIMEOUT_MS)
        cluster.spawn(leading.process, _quietly(work))


async def _quietly(work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except RaftmqError:
        return  # refused, or the controller's leader is another one by now


def _boot(node: SimNode) -> None:
    if node.process is None:
        node.boot()
