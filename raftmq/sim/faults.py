"""What goes wrong. Every fault begins at its step and mends itself when its time is over; ``mend`` ends all of them.

The promise has limits, and faults stay within them: disks lose what they synced one at a time, only where the loss goes
back behind the tail marker (less cannot be noticed by anybody), and only while no replica is suspect already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from raftmq.errors import RaftmqError
from raftmq.ids import GroupId
from raftmq.replica.installing import SnapshotOrder
from raftmq.sim.disk import DiskSpeed
from raftmq.sim.disk_faults import DiskFaults
from raftmq.sim.node import SimNode
from raftmq.sim.plan import KINDS, Step
from raftmq.sim.weather import Cut

if TYPE_CHECKING:
    from raftmq.sim.cluster import SimCluster

_CUTS = (Cut.DROP, Cut.HOLD, Cut.REFUSE, Cut.DROP)


class Faults(DiskFaults):
    """Executes steps. ``fired`` counts those that had an effect, by kind."""

    def __init__(self, cluster: SimCluster, rng: Random) -> None:
        super().__init__(cluster, rng)
        self.fired: Counter[str] = Counter()
        self._fast = cluster.network.weather.latency
        self._loss = cluster.plan.weather.call_loss
        self._does: dict[str, Callable[[Step], bool]] = {kind: getattr(self, f"_{kind}") for kind in KINDS}

    def schedule(self, steps: Sequence[Step]) -> None:
        """Let `steps` happen, from now on."""
        for step in steps:
            self._agenda.after(step.at, self._begin, step)

    def _begin(self, step: Step) -> None:
        if not self._mended and self._does[step.kind](step):
            self.fired[step.kind] += 1
            self._cluster.note("fault", f"{step.kind} {step.length} {step.picks}")

    def mend(self) -> None:
        """Faults are over: links whole, clocks right, every process running."""
        self._mended = True
        self._network.heal_all()
        self._network.weather.latency = self._fast
        unruly = self._network.weather.is_unruly
        self._network.weather.calm()
        for node in self._nodes:
            node.speed.hung = False
            node.speed.sync = self._cluster.plan.sync
            node.speed.read = DiskSpeed().read
            node.store.corrupt_next_read(None)
            node.clock.set_rate(node.clock_rate)
            if node.is_halted:
                # Its log could not be read. It is whole again when it is read anew, as after a bad cable.
                node.kill()
                node.store.kill()
            if node.process is None:
                self._boot(node)
            elif node.process.is_paused:
                node.process.resume()
            elif node.process is not None:
                node.process.rearm()
            if node.process is not None and node.process.links is not None:
                node.process.post(node.process.links.hurry_all)
        if unruly:
            self._network.reset_all()

    # -- processes ---------------------------------------------------------------------------------------------------

    def _kill(self, step: Step) -> bool:
        return self._stop(self._victim(step), step, power=False)

    def _power(self, step: Step) -> bool:
        return self._stop(self._victim(step), step, power=True)

    def _kill_many(self, step: Step) -> bool:
        return self._many(step, power=False)

    def _power_many(self, step: Step) -> bool:
        return self._many(step, power=True)

    def _many(self, step: Step, *, power: bool) -> bool:
        """A majority, or all."""
        count = len(self._nodes) if step.picks[1] & 1 else len(self._nodes) // 2 + 1
        start = step.picks[0] % len(self._nodes)
        nodes = [self._nodes[(start + offset) % len(self._nodes)] for offset in range(count)]
        stopped = [self._stop(node, step, power=power) for node in nodes]
        return any(stopped)

    def _crash_loop(self, step: Step) -> bool:
        """Again and again, also while it recovers."""
        node = self._some_node(step.picks[0])
        gap = step.length // 8 + 5_000

        def once(left: int) -> None:
            short = Step(0, "power", gap // 2, step.picks)
            self._stop(node, short, power=bool(step.picks[1] & 1))
            if left:
                self._later(gap, once, left - 1)

        once(4)
        return True

    def _pause(self, step: Step) -> bool:
        return self._freeze(self._victim(step), step)

    def _pause_many(self, step: Step) -> bool:
        frozen = [self._freeze(node, step) for node in self._nodes]
        return any(frozen)

    def _freeze(self, node: SimNode, step: Step) -> bool:
        process = node.process
        if process is None or process.is_paused:
            return False
        process.pause()
        self._network.stopped(process)
        self._later(step.length, lambda: process.resume() if process.is_alive else None)
        return True

    # -- links -------------------------------------------------------------------------------------------------------

    def _cut(self, pairs: Sequence[tuple[int, int]], step: Step) -> bool:
        how = _CUTS[step.picks[2] % len(_CUTS)]
        pairs = [pair for pair in pairs if pair[0] != pair[1] and self._network.is_cut(*pair) is None]
        for source, target in pairs:
            self._network.cut(source, target, how)
        for source, target in pairs:
            self._later(step.length, self._network.heal, source, target)
        return bool(pairs)

    def _split(self, left: Sequence[SimNode], step: Step) -> bool:
        numbers = {node.number for node in left}
        others = [node.number for node in self._nodes if node.number not in numbers]
        return self._cut([pair for a in sorted(numbers) for b in others for pair in ((a, b), (b, a))], step)

    def _isolate(self, step: Step) -> bool:
        """Its clock may be slow, too: then it goes on leading while the others have elected somebody else."""
        victim = self._victim(step)
        if step.picks[0] & 3 == 3:
            self._run_clock(victim, 500, step.length)
        return self._split([victim], step)

    def _deposed(self, step: Step) -> bool:
        """A leader that is cut off from its peers, not from clients, and whose clock hardly moves: it goes on
        believing that it leads while the others have long elected somebody else."""
        leader = self._leader(step.picks[0] | 1)
        if leader is None:
            return False
        election = self._cluster.plan.election_ms * 1000
        step = replace(step, length=election * 3 + step.picks[1] % (election * 4))
        self._run_clock(leader, 50, step.length)
        return self._split([leader], step)

    def _halves(self, step: Step) -> bool:
        return self._split(self._minority(step.picks[0]), step)

    def _one_way(self, step: Step) -> bool:
        """Nobody hears the victim, or it hears nobody."""
        victim = self._victim(step).number
        others = [node.number for node in self._nodes]
        if step.picks[0] & 8:
            return self._cut([(victim, other) for other in others], step)
        return self._cut([(other, victim) for other in others], step)

    def _one_link(self, step: Step) -> bool:
        a, b = self._some_node(step.picks[0]).number, self._some_node(step.picks[1]).number
        return self._cut([(a, b)] if step.picks[0] & 16 else [(a, b), (b, a)], step)

    def _bridge(self, step: Step) -> bool:
        """Two sides that see each other only through one node."""
        nodes = self._nodes
        bridge = step.picks[0] % len(nodes)
        rest = [node.number for position, node in enumerate(nodes) if position != bridge]
        left, right = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        return self._cut([pair for a in left for b in right for pair in ((a, b), (b, a))], step)

    def _ring(self, step: Step) -> bool:
        """Each node misses another one: every node sees a different majority."""
        numbers = [node.number for node in self._nodes]
        return self._cut([(a, numbers[(i + 1) % len(numbers)]) for i, a in enumerate(numbers)], step)

    def _flapping(self, step: Step) -> bool:
        """A link that goes and comes in the rhythm of elections."""
        a, b = self._some_node(step.picks[0]).number, self._some_node(step.picks[0] + 1).number
        period = max(20_000, self._cluster.plan.election_ms * (200 + step.picks[1] % 1200))

        def flap(left: int) -> None:
            self._cut([(a, b), (b, a)], Step(0, "flap", period // 2, step.picks))
            if left:
                self._later(period, flap, left - 1)

        flap(4)
        return a != b

    def _cut_client(self, step: Step) -> bool:
        """A client does not reach a node, which it may take for the leader."""
        clients = sorted(self._cluster.clients)
        if not clients:
            return False
        return self._cut([(clients[step.picks[0] % len(clients)], self._victim(step).number)], step)

    def _slow_network(self, step: Step) -> bool:
        weather = self._network.weather
        weather.latency = (1_000, 5_000 + step.picks[0] % (self._cluster.plan.election_ms * 600))

        def fast() -> None:
            weather.latency = self._fast

        self._later(step.length, fast)
        return True

    def _lossy_calls(self, step: Step) -> bool:
        weather = self._network.weather
        weather.call_loss = 0.3

        def better() -> None:
            weather.call_loss = self._loss

        self._later(step.length, better)
        return True

    # -- clocks, leaders ---------------------------------------------------------------------------------------------

    def _clock_rate(self, step: Step) -> bool:
        self._run_clock(self._victim(step), 500 + step.picks[2] % 1500, step.length)
        return True

    def _run_clock(self, node: SimNode, per_mille: int, length: int) -> None:
        """Let a clock run at another rate for a while."""

        def run_at(rate: int) -> None:
            node.clock.set_rate(rate)
            if node.process is not None:
                node.process.rearm()

        run_at(per_mille)
        self._later(length, run_at, node.clock_rate)

    def _clock_jump(self, step: Step) -> bool:
        """The monotonic clock leaps forward, as after a suspended machine: everything is due at once."""
        node = self._victim(step)
        node.clock.jump(self._cluster.plan.election_ms * (100 + step.picks[1] % 3_000))
        if node.process is not None:
            node.process.rearm()
        return True

    def _wall_jump(self, step: Step) -> bool:
        delta = (step.picks[1] - 32_768) * 220
        self._victim(step).clock.jump_wall(delta)
        return True

    def _orphaned_install(self, step: Step) -> bool:
        """When a snapshot is ordered next, its leader soon leads no more: it hands over, dies, or is cut off."""
        assemblies = [node.assembly for node in self._nodes if node.assembly is not None]

        def ordered(order: SnapshotOrder) -> None:
            for assembly in assemblies:
                assembly.ordered = lambda order: None
            self._later(1 + step.length // 8, self._orphan, step, order.group)

        for assembly in assemblies:
            assembly.ordered = ordered
        return bool(assemblies)

    def _orphan(self, step: Step, group: GroupId) -> None:
        leaders = [node for node in self._nodes if node.assembly is not None and node.assembly.host.leads(group)]
        for leader in leaders:
            if step.picks[0] % 6 < 4:
                self._hand_over(leader, group)
            elif step.picks[0] % 6 == 4:
                self._stop(leader, replace(step, length=step.length + 100_000), power=False)
            else:
                self._split([leader], replace(step, length=3_000 * self._cluster.plan.election_ms))

    def _transfer(self, step: Step) -> bool:
        node = self._leader(step.picks[0])
        if node is None or node.assembly is None:
            return False
        led = node.assembly.host.led_groups()
        return self._hand_over(node, led[step.picks[1] % len(led)])

    def _hand_over(self, node: SimNode, group: GroupId) -> bool:
        if node.assembly is None or node.process is None or node.process.is_paused:
            return False
        assembly = node.assembly

        def transfer() -> None:
            try:
                assembly.host.transfer(group, None)
            except RaftmqError as error:
                self._cluster.note("fault", f"transfer refused {error.reason}")

        node.process.post(transfer)
        return True
