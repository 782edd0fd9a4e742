"""Small scopes, wholly: every graph of broken links between three nodes, and every point at which a node can crash: in
a short workload, and while a node that was away too long fetches and installs a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

from raftmq.client.types import Acks
from raftmq.ids import CONTROLLER_GROUP
from raftmq.sim.plan import Plan, Step
from raftmq.sim.retaining import RetentionPlan
from raftmq.sim.simulation import Result, Simulation, finish
from raftmq.sim.weather import Cut, Weather
from raftmq.sim.workload import ProducerPlan

PAIRS = tuple((a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b)
ELECTION_MS = 200


def small_plan(seed: int) -> Plan:
    """Three nodes, one partition, one producer, no faults but those of the scope."""
    producer = ProducerPlan(
        topic="t0", partitions=1, acks=Acks.ALL, idempotent=True, in_flight=3, pause_ms=20.0, burst=3,
        delivery_ms=2_000, request_ms=400,
    )  # fmt: skip
    return Plan(
        seed=seed, nodes=3, topics={"t0": 1}, replication_factor=3, heartbeat_ms=20, election_ms=ELECTION_MS,
        tail_bytes=1 << 20, safety=4 * ELECTION_MS * 1000, weather=Weather(), sync=(300, 3_000), through_codec=False,
        producers=[producer], consumers=1,
    )  # fmt: skip


def link_graphs(seed: int = 0, how: Cut = Cut.DROP) -> Iterator[tuple[str, Result]]:
    """All 64 sets of links cut, each for the whole safety phase."""
    for cuts in product((False, True), repeat=len(PAIRS)):
        pairs = [pair for pair, is_cut in zip(PAIRS, cuts, strict=True) if is_cut]
        simulation = Simulation(small_plan(seed))
        simulation.began = lambda pairs=pairs, simulation=simulation: [  # type: ignore[misc]
            simulation.cluster.network.cut(a, b, how) for a, b in pairs
        ]
        yield " ".join(f"{a}>{b}" for a, b in pairs) or "none", finish(simulation)


def crash_points(node: int, power: bool, seed: int = 0, every: int = 1) -> Iterator[tuple[str, Result]]:
    """Node `node` dies at each turn that it takes in a short workload (or each `every`-th), and comes back."""
    plan = replace(small_plan(seed), safety=ELECTION_MS * 1000)
    return _crashes(plan, node, power, every, lambda simulation: True)


def install_points(node: int, power: bool, seed: int = 0, every: int = 1) -> Iterator[tuple[str, Result]]:
    """Node `node` dies at each turn (or each `every`-th) that it takes while node 3, which was away until the others
    had trimmed what it lacks, is being brought back by a snapshot: from the end of its absence until its log begins
    where theirs do. Node 3 is the one that installs; one of the others sends, both go on trimming."""
    away = Step(50_000, "isolate", int(2.5 * ELECTION_MS * 1000), (2, 0, 0))
    plan = replace(
        small_plan(seed), safety=8 * ELECTION_MS * 1000, steps=[away],
        retention=RetentionPlan(size_bytes=200, trim_ms=20, part_bytes=1, bytes_per_s=4_000),
    )  # fmt: skip
    return _crashes(plan, node, power, every, _is_returning)


def _is_returning(simulation: Simulation) -> bool:
    """Node 3 is reached again, and lacks what the others no longer have."""
    nodes = simulation.cluster.nodes
    if simulation.cluster.network.cuts or any(node.assembly is None for node in nodes.values()):
        return False
    starts: list[int] = []
    lasts: list[int] = []
    for _, node in sorted(nodes.items()):
        assert node.assembly is not None
        for number, group in node.assembly.replicas.groups.items():
            if number != CONTROLLER_GROUP:
                starts.append(group.row.raft_start)
                lasts.append(group.node.last_index)
    return len(starts) == len(nodes) and lasts[-1] + 1 < max(starts[:-1])


def _crashes(
    plan: Plan, node: int, power: bool, every: int, counts: Callable[[Simulation], bool]
) -> Iterator[tuple[str, Result]]:
    at = 0
    while True:
        simulation = Simulation(plan)
        crash = _CrashAt(simulation, node, at, power, counts)
        simulation.began = crash.arm
        result = finish(simulation)
        if not crash.happened:
            return
        yield f"node {node} {'power' if power else 'kill'} at turn {at}", result
        at += every


class _CrashAt:
    """Kills a node after so many of its turns, of those that count."""

    def __init__(
        self, simulation: Simulation, node: int, at: int, power: bool, counts: Callable[[Simulation], bool]
    ) -> None:
        self.happened = False
        self._simulation = simulation
        self._node = simulation.cluster.nodes[node]
        self._left = at
        self._power = power
        self._counts = counts

    def arm(self) -> None:
        """From now on turns count, until the safety phase is over."""
        cluster = self._simulation.cluster
        checker, turned = cluster.checker, cluster.checker.turned

        def counting(process, groups):  # type: ignore[no-untyped-def]
            turned(process, groups)
            if process is self._node.process and not self.happened and self._simulation.phase == "safety":
                self._left -= self._counts(self._simulation)
                if self._left < 0:
                    self.happened = True
                    # Not in the middle of the turn that is being looked at: right after it.
                    cluster.agenda.after(0, self._crash)

        checker.turned = counting  # type: ignore[method-assign]

    def _crash(self) -> None:
        if self._node.process is not None:
            self._node.kill()
            if self._power:
                self._node.store.crash()
            else:
                self._node.store.kill()
            self._simulation.cluster.agenda.after(100_000, self._boot)

    def _boot(self) -> None:
        if self._node.process is None:
            self._node.boot()
