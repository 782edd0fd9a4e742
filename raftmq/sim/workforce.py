"""The workers of queue groups, and what becomes of them: they are killed, and others hired in their place; stopped for
longer than their leases last; cut off from every node. In the end all of them work until there is nothing left to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from raftmq.errors import QueueFull
from raftmq.ids import GroupId, QueueId
from raftmq.metadata.image import MetadataImage
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.group import QueueGroup
from raftmq.partition.queues.tally import Counter
from raftmq.sim import queueing
from raftmq.sim.letters import letters_in
from raftmq.sim.oracle import Told
from raftmq.sim.process import WALL_START_MS, Process
from raftmq.sim.queue_truth import judged
from raftmq.sim.queueing import LETTERS, QueuePlan
from raftmq.sim.retaining import FOR_EVER
from raftmq.sim.weather import Cut
from raftmq.sim.workload import Task, until_done

if TYPE_CHECKING:
    import asyncio

    from raftmq.sim.cluster import SimCluster
    from raftmq.sim.invariants import Final

MISHAPS = ("kill", "pause", "pause", "cut")


class Workforce:
    """Of all groups of a run."""

    def __init__(self, cluster: SimCluster, rng: Random) -> None:
        self._cluster = cluster
        self._plans = cluster.plan.queues
        self._rng = rng
        self._workers: list[tuple[Process, Task, QueuePlan, asyncio.Task[None]]] = []
        self._hired = 0
        self._is_over = False

    # -- the safety phase --------------------------------------------------------------------------------------------

    def dress(self, topic: str, rng: Random) -> dict[str, Any]:
        """What a record of `topic` has besides its value."""
        wall_ms = WALL_START_MS + self._cluster.agenda.now // 1000
        plan = next((plan for plan in self._plans if plan.topic == topic), None)
        return {} if plan is None else queueing.dressing(plan, rng, wall_ms)

    async def create(self, task: Task, topics: Awaitable[None]) -> None:
        """Make the groups of the run, once its `topics` are there."""
        await topics
        await queueing.create(task, self._plans)

    def start(self, client: Callable[[str, Callable[[Task], Awaitable[None]]], None]) -> None:
        """Everybody begins to work, and what is to befall them is drawn. ``client`` starts operators."""
        for plan in self._plans:
            partitions, pause_ms = self._cluster.plan.topics[plan.topic], self._cluster.plan.election_ms
            client(f"o{plan.group}", partial(queueing.tend, plan=plan, partitions=partitions, pause_ms=pause_ms))
            for _ in range(plan.workers):
                self._hire(plan)
            for _ in range(self._rng.randint(0, 4)):
                kind, pick = self._rng.choice(MISHAPS), self._rng.randrange(1 << 16)
                length = int(plan.settings.lease_ms * self._rng.uniform(0.5, 2.5) * 1000)
                self._cluster.agenda.after(
                    self._rng.randrange(self._cluster.plan.safety), self._befall, plan, kind, pick, length
                )

    def _hire(self, plan: QueuePlan) -> None:
        self._hired += 1
        name = f"w{self._hired}.{plan.group}"
        process, client = self._cluster.client(name)
        task = Task(name, client, self._cluster.checker.oracle, Random(f"work {name} {self._cluster.plan.seed}"))
        worker = queueing.Worker(task, plan, lambda: self._cluster.agenda.now)

        async def whole() -> None:
            async def enter() -> None:
                await client.__aenter__()

            await until_done(enter)
            await worker.work()

        if self._is_over:
            task.end()
        self._workers.append((process, task, plan, self._spawn(process, whole())))

    def _spawn(self, process: Process, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._cluster.spawn(process, work)

    def _befall(self, plan: QueuePlan, kind: str, pick: int, length: int) -> None:
        cluster, mine = self._cluster, [one for one in self._workers if one[2] is plan and one[0].is_alive]
        if self._is_over or not mine:
            return
        process = mine[pick % len(mine)][0]
        cluster.note("worker", f"{kind} {process.name} for {length}")
        cluster.checker.states[f"workers: {kind}"] += 1
        match kind:
            case "kill":
                process.kill()
                cluster.agenda.after(length, self._replace, plan)
            case "pause":
                if not process.is_paused:
                    process.pause()
                    cluster.agenda.after(length, self._oversleeps, process, plan, cluster.agenda.now)
            case _:
                self._cut_off(process, (Cut.DROP, Cut.HOLD, Cut.REFUSE)[pick % 3], length)

    def _cut_off(self, process: Process, how: Cut, length: int) -> None:
        network = self._cluster.network
        number = next(number for number, known in self._cluster.clients.items() if known is process)
        for node in sorted(self._cluster.nodes):
            if network.is_cut(number, node) is None:
                network.cut(number, node, how)
                self._cluster.agenda.after(length, partial(network.heal, number, node))

    def _replace(self, plan: QueuePlan) -> None:
        if not self._is_over:
            self._hire(plan)

    def _oversleeps(self, process: Process, plan: QueuePlan, since: int) -> None:
        """It wakes up. Did it have a message whose lease has run out meanwhile?"""
        now, history = self._cluster.agenda.now, self._cluster.checker.oracle.queues[plan.name]
        spoken = {one.token for one in history.verdicts}
        mine = [one for one in history.deliveries if one.client == process.name and since < one.until < now]
        late = [one for one in mine if (one.partition, one.offset, one.lease) not in spoken]
        self._cluster.checker.states["leases run out while a worker was stopped"] += len(late)
        self._wake(process)

    @staticmethod
    def _wake(process: Process) -> None:
        if process.is_alive and process.is_paused:
            process.resume()

    # -- the liveness phase ------------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Nothing befalls anybody any more, nobody makes a mistake, and every group has workers."""
        self._is_over = True
        for process, task, _, _ in self._workers:
            self._wake(process)
            process.post(task.end)
        for plan in self._plans:
            if not any(one[2] is plan and one[0].is_alive for one in self._workers):
                self._hire(plan)

    def unfinished(self) -> str:
        """What is still to be done; empty: nothing, but for what is parked, or waits for its time by the wall clock."""
        for plan in self._plans:
            image = self._image()
            topic = image.topics[plan.topic]
            number = self._ids()[plan.name]
            for partition in topic.partitions:
                where = f"queue {plan.name}, partition {partition.partition}"
                led = self._leading(partition.group)
                if led is None:
                    return f"{where}: nobody leads"
                machine, now_wall = led
                group = machine.queues.groups.get(number)
                if group is None:
                    return f"{where}: the partition does not know the group"
                if group.frontier != machine.next_offset:
                    return f"{where}: known up to {group.frontier} of {machine.next_offset}"
                if left := unfinished(group, now_wall):
                    return f"{where}: offsets {left[:10]} of {len(left)} are not done"
                if plan.settings.dead_letter_topic and (waiting := group.parked.unrouted(0, 10)):
                    return f"{where}: dead letters {waiting} are not copied"
        return ""

    def finish(self, limit: int) -> str:
        """Let everything be done, within so many microseconds, and let all go home. What is amiss; empty: nothing."""
        cluster = self._cluster
        if not cluster.run(limit, cluster.every_so_often(lambda: not self.unfinished())):
            return f"queues are not done: {self.unfinished()}"
        for process, _, _, working in self._workers:
            if process.is_alive:
                process.post(working.cancel)
        if not cluster.run(20_000_000, self._are_home):
            return "workers did not come to an end"
        return ""

    def _are_home(self) -> bool:
        return all(working.done() or not process.is_alive for process, _, _, working in self._workers)

    def rest(self) -> None:
        """Leaders are to trim no more for queues that are done with their records; what is due next may still come."""
        trim_ms = self._cluster.plan.retention.trim_ms
        if self._plans and trim_ms < FOR_EVER:
            for _, node in sorted(self._cluster.nodes.items()):
                assert node.assembly is not None
                node.assembly.replicas.upkeep.trim_interval = FOR_EVER
            self._cluster.run(2_000 * trim_ms)

    # -- the verdict -------------------------------------------------------------------------------------------------

    def tell(self, final: Final) -> None:
        """What became of the queues, for those who judge it."""
        if not self._plans:
            return
        plan, checker = self._cluster.plan, self._cluster.checker
        final.may_lease_end_early = any(rate > 1000 for rate in plan.clock_rates) or any(
            step.kind in ("clock_rate", "clock_jump") for step in plan.steps
        )
        drops = plan.depth is not None and plan.depth.overflow == "drop_oldest"
        forgets = plan.retention.forgets or drops
        final.queues = judged(self._plans, checker.oracle.queues, final.logs, self._ids(), forgets)
        final.depth = plan.depth
        overflows = [one.host.intake.overflows for node in self._cluster.machines for one in node.assemblies]
        final.refused = sum(sum(one.refused.values()) for one in overflows)
        final.calls_refused = self._cluster.network.refusals[QueueFull.reason]
        final.dropped = sum(sum(one.dropped.values()) for one in overflows)
        if drops:
            checker.states["records dropped for newer ones"] += final.dropped
        final.forgets = plan.retention.forgets or any(one.settings.retention != "log" for one in self._plans)
        for handed in checker.oracle.handed:
            if checker.oracle.sends[handed.values[0]].told is Told.UNKNOWN:
                counted = any(value == handed.values[0] for _, value, _ in final.read[handed.partition])
                checker.states["hand-overs in doubt that " + ("counted" if counted else "did not count")] += 1
        for partition, logs in final.logs.items():
            if partition.topic == LETTERS:
                letters_in(logs[0], final.letters)
        again = sum(len(letters) - 1 for letters in final.letters.values())
        checker.states["dead letters of a message parked again"] += again
        truths = {name: truth for one in final.queues for name, truth in one.truths.items()}
        for truth in truths.values():
            checker.states.update(truth.counts)
            for group in truth.groups.values():
                checker.states["leases run out"] += group.state.counters[Counter.LEASE_EXPIRED]

    def _ids(self) -> dict[str, QueueId]:
        """The numbers of the groups, by name."""
        image = self._image()
        names = {image.topics[topic].topic_id: topic for topic in self._cluster.plan.topics}
        return {
            f"{names[group.topic_id]}/{group.name}": QueueId(group.id)
            for _, group in sorted(image.queue_groups.items())
            if group.topic_id in names
        }

    def _image(self) -> MetadataImage:
        return next(
            node.assembly.controller.image
            for _, node in sorted(self._cluster.nodes.items())
            if node.assembly is not None
        )

    def _leading(self, group_id: GroupId) -> tuple[PartitionMachine, int] | None:
        """The state of whoever leads the partition, and its wall stamp of now."""
        for _, node in sorted(self._cluster.nodes.items()):
            group = None if node.assembly is None else node.assembly.replicas.group(group_id)
            if group is not None and group.can_serve() and isinstance(group.machine, PartitionMachine):
                return group.machine, group.stamp(node.clock.tick(), node.clock.wall_ms())[1]
        return None


def unfinished(group: QueueGroup, wall_ms: int) -> Sequence[int]:
    """Offsets that are not done, not parked, and do not wait for a wall time that has not come: for that of the record
    itself, or of one before it with the same key."""
    due = group.records.due
    held_back = {at for at in group.delayed if not due[at] & 1 and due[at] >> 1 > wall_ms}
    keys = {group.records.keys[at] for at in held_back} if group.is_ordered else set()
    return [
        at
        for at in group.open
        if at not in group.parked.offsets
        and at not in held_back
        and not (at in group.waiting and group.records.keys[at] in keys)
    ]
