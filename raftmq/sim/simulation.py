"""One seed, from its plan to its verdict.

form the cluster, create topics ─> safety: clients and faults ─> faults off ─> liveness ─> final read, verdict
"""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from raftmq.client.client import Client
from raftmq.client.types import Acks
from raftmq.errors import OverflowDropped
from raftmq.ids import CONTROLLER_GROUP, LogIndex
from raftmq.ports import StorageError
from raftmq.raft.types import Role
from raftmq.sim import workload
from raftmq.sim.cluster import Failure, NotWell, SimCluster
from raftmq.sim.faults import Faults
from raftmq.sim.invariants import Final, Violated
from raftmq.sim.members import Members
from raftmq.sim.memberships import Memberships
from raftmq.sim.oracle import Oracle, Partition, Told
from raftmq.sim.plan import MEMBER_KINDS, Plan, draw
from raftmq.sim.process import Process
from raftmq.sim.publishing import churn_bindings, publish
from raftmq.sim.retaining import records
from raftmq.sim.thin import ThinPlan, call_anybody, call_under_ids
from raftmq.sim.workforce import Workforce
from raftmq.sim.workload import Task

FORM_MICROS = 60_000_000
STORY_EVENTS = 60
HEAL_ELECTIONS = 40
"""How many election timeouts a healed cluster may take until everything is well again."""


@dataclass(slots=True)
class Result:
    """What became of one seed. ``error`` is empty where nothing was found."""

    seed: int
    digest: str
    events: int
    virtual_ms: int
    error: str = ""
    details: str = ""
    trace: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> bool:
        return not self.error

    def story(self, events: int = STORY_EVENTS) -> str:
        """Of a failure, for people: what led to it, every node's state, what was wrong, and how to see it again."""
        return "\n".join(
            [
                *self.trace[-events:],
                "",
                self.details,
                f"seed {self.seed} FAILED: {self.error}",
                f"repeat it: raftmq sim --seed {self.seed}    fewest faults: raftmq sim --seed {self.seed} --shrink",
            ]
        )


def run_seed(seed: int, *, keep_trace: bool = False) -> Result:
    """Run the plan of a seed."""
    return run_plan(draw(seed), keep_trace=keep_trace)


def run_plan(plan: Plan, *, keep_trace: bool = False) -> Result:
    """Run a plan to its verdict. Never raises for anything that the cluster does."""
    return finish(Simulation(plan, keep_trace=keep_trace))


def finish(simulation: Simulation) -> Result:
    """Run a simulation to its verdict, and take it apart."""
    error, details = "", ""
    try:
        simulation.run()
    except (Failure, AssertionError, StorageError) as found:
        error, details = _tell(found, simulation)
    cluster = simulation.cluster
    states = cluster.checker.states + cluster.checker.oracle.counts
    states += cluster.network.transfers
    states["snapshots resumed"] += sum(node.resumed for node in cluster.machines)
    for reason, count in cluster.network.refusals.items():
        states[f"call {reason}"] = count
    states["catch-ups from disk"] = sum(node.catch_ups for node in cluster.machines)
    result = Result(
        simulation.plan.seed,
        cluster.trace.digest,
        cluster.events,
        cluster.agenda.now // 1000,
        error,
        details,
        cluster.trace.lines() if error or simulation.keeps_trace else [],
        simulation.faults.fired + simulation.members.fired,
        states,
    )
    cluster.close()
    return result


def _tell(found: BaseException, simulation: Simulation) -> tuple[str, str]:
    cause = found.__cause__ if isinstance(found, Failure) and found.__cause__ is not None else found
    text = str(cause) or type(cause).__name__
    if not isinstance(cause, (Violated, NotWell)):
        frames = traceback.extract_tb(cause.__traceback__)
        where = f" ({frames[-1].name} in {frames[-1].filename.rsplit('/', 1)[-1]})" if frames else ""
        text = f"{type(cause).__name__}: {text}{where}"
    details = "".join(traceback.format_exception(cause)) if not isinstance(cause, Violated) else ""
    return text, f"{simulation.phase}\n{simulation.cluster.describe()}\n{details}"


class Simulation:
    """See the module docstring."""

    def __init__(self, plan: Plan, *, keep_trace: bool = False) -> None:
        self.plan = plan
        self.phase = "forming"
        self.keeps_trace = keep_trace
        self.began: Callable[[], object] = lambda: None
        """Called when the safety phase begins: for faults that are not in the plan."""
        self.cluster = SimCluster(plan, keep_trace=keep_trace)
        self.faults = Faults(self.cluster, Random(f"faults {plan.seed}"))
        self.members = Members(self.cluster, Random(f"members {plan.seed}"))
        self.workforce = Workforce(self.cluster, Random(f"workers {plan.seed}"))
        self.cluster.storage_failed = self.faults.storage_failed
        self.memberships = None if plan.group is None else Memberships(self.cluster, plan.group)
        self._tasks: list[tuple[Process, Task]] = []
        self._running: list[asyncio.Task[None]] = []
        self._asking: list[tuple[Process, asyncio.Task[None]]] = []
        """Clients whose calls may end without an answer: nobody counts on what they asked."""

    def run(self) -> None:
        self._form()
        self._safety()
        self._liveness()

    # -- phases ------------------------------------------------------------------------------------------------------

    def _form(self) -> None:
        cluster = self.cluster
        cluster.start()
        process, client = cluster.client("setup")
        plan = self.plan
        task = self._task(process, client, "setup", 0)
        work = workload.create(task, plan.topics, plan.replication_factor, plan.min_in_sync, plan.retention, plan.depth)
        created = cluster.spawn(process, self.workforce.create(task, work))
        if not cluster.run(FORM_MICROS, created.done):
            raise NotWell("no cluster was formed, or its topics were not created")
        if self.memberships is not None:
            self.memberships.prime(FORM_MICROS)

    def _safety(self) -> None:
        self.phase = "safety"
        plan, cluster = self.plan, self.cluster
        number = 0
        for producer in plan.producers:
            dress = partial(self.workforce.dress, producer.topic)
            self._client(
                f"p{number}",
                lambda task, producer=producer, dress=dress: workload.produce(task, producer, dress),  # type: ignore[misc]
            )
            number += 1
        for thin in plan.thin:
            self._thin(f"t{number}", thin, call_anybody)
            number += 1
        for thin in plan.named:
            self._thin(f"m{number}", thin, call_under_ids)
            number += 1
        for published in plan.published:
            self._client(
                f"x{number}",
                lambda task, published=published: publish(task, published, plan.topics),  # type: ignore[misc]
            )
            number += 1
        if plan.published:
            self._client(
                "binder", lambda task: churn_bindings(task, sorted(plan.topics), plan.election_ms / 5), asks=True
            )
        for topic, partitions in sorted(plan.topics.items()):
            for partition in range(partitions):
                for _ in range(plan.consumers if partition == 0 else min(1, plan.consumers)):
                    self._client(
                        f"c{number}",
                        lambda task, topic=topic, partition=partition: workload.consume(  # type: ignore[misc]
                            task, topic, partition, 400 if plan.seed % 2 else 100_000, plan.reader_pause_ms
                        ),
                        asks=True,
                    )
                    number += 1
            self._client(
                f"b{number}",
                lambda task, topic=topic, partitions=partitions: workload.ask_bounds(task, topic, partitions),  # type: ignore[misc]
                asks=True,
            )
            number += 1
        self.workforce.start(self._client)
        if plan.named:
            self._client(
                "alter", lambda task: workload.alter_topics(task, sorted(plan.topics), plan.election_ms), asks=True
            )
        if plan.churn:
            for name in ("m0", "m1"):
                self._client(name, lambda task: workload.churn_topics(task, plan.election_ms), asks=True)
        cluster.network.weather.call_loss = plan.weather.call_loss
        self.faults.schedule([step for step in plan.steps if step.kind not in MEMBER_KINDS])
        self.members.schedule([step for step in plan.steps if step.kind in MEMBER_KINDS])
        if self.memberships is not None:
            self.memberships.start()
        self.began()
        cluster.run(plan.safety)

    def _liveness(self) -> None:
        self.phase = "liveness"
        plan, cluster = self.plan, self.cluster
        self.faults.mend()
        self.members.mend()
        if self.memberships is not None:
            self.memberships.mend()
        self.workforce.mend()
        for process, task in self._tasks:
            process.post(task.end)
        limit = HEAL_ELECTIONS * plan.election_ms * 1000 + 5_000_000
        if not cluster.run(limit, self._is_well_every_so_often()):
            raise NotWell(f"not well {limit // 1000} ms after the faults were over: {self._unwell()}")
        for process, asking in self._asking:
            process.post(asking.cancel)  # a consumer waits for records for as long as it is not told to stop
        longest = max(producer.delivery_ms for producer in plan.producers) * 1000 + 20_000_000
        if not cluster.run(longest, lambda: all(task.done() for task in self._running)):
            raise NotWell("clients did not come to an end")
        self._write_anew()
        if not cluster.run(limit, self._is_well_every_so_often()):
            raise NotWell(f"not well after the last write: {self._unwell()}")
        if self.memberships is not None:
            self.memberships.end(limit + 20_000_000)
        if amiss := self.workforce.finish(limit):
            raise NotWell(amiss)
        self._judge()

    def _is_well_every_so_often(self) -> Callable[[], bool]:
        return self.cluster.every_so_often(lambda: not self._unwell())

    def _unwell(self) -> str:
        """Why the cluster is not as it should be; empty if it is."""
        ends: dict[int, tuple[bytes, int]] = {}
        leaders: dict[int, int] = {}
        groups: set[int] = {CONTROLLER_GROUP}
        versions = set()
        for number, node in sorted(self.cluster.nodes.items()):
            assembly = node.assembly
            if assembly is None:
                return f"node {number} does not run"
            image = assembly.controller.image
            versions.add(image.version)
            if sorted(image.nodes) != sorted(self.cluster.nodes) or any(n.fenced for n in image.nodes.values()):
                return f"node {number} knows of a node that is fenced, or does not know one"
            groups |= set(image.groups)
            for group_id, group in assembly.replicas.groups.items():
                raft = group.node
                if raft.role is Role.LEADER and group.can_serve():
                    leaders[group_id] = number
                where = f"group {group_id} on node {number}"
                if raft.status().suspect:
                    return f"{where} is suspect"
                if not raft.last_index == raft.persisted_index == raft.commit_index == group.machine.applied_index:
                    return (
                        f"{where}: last {raft.last_index} persisted {raft.persisted_index} commit {raft.commit_index}"
                    )
                end = group.end_chain, raft.last_index
                if ends.setdefault(group_id, end) != end:
                    return f"{where} differs from another replica"
        if unwell := self.members.unwell():
            return unwell
        if len(versions) > 1:
            return f"nodes have metadata of versions {sorted(versions)}"
        missing = sorted(groups - leaders.keys())
        return f"groups {missing} have no leader" if missing else ""

    def _write_anew(self) -> None:
        process, client = self.cluster.client("last")
        task = self._task(process, client, "last", 7)

        async def write() -> None:
            async with client:
                for topic, partitions in sorted(self.plan.topics.items()):
                    async with client.producer(topic, acks=Acks.ALL) as producer:
                        for partition in range(partitions):
                            value = f"last:{topic}:{partition}".encode()
                            send = task.oracle.sending(value, Partition(topic, partition), Acks.ALL)
                            while send.told is Told.PENDING:
                                try:
                                    task.oracle.sent(send, await producer.send(value, partition=partition))
                                except OverflowDropped:
                                    await asyncio.sleep(0.05)  # until workers have made room

        written = self.cluster.spawn(process, write())
        if not self.cluster.run(20_000_000, written.done):
            raise NotWell("a fresh write is not acknowledged")

    # -- the verdict -------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        self.phase = "final read"
        cluster, oracle = self.cluster, self.cluster.checker.oracle
        final = Final([node for _, node in sorted(cluster.nodes.items())], oracle)
        process, client = cluster.client("final")

        async def read() -> None:
            async with client:
                for topic, partitions in sorted(self.plan.topics.items()):
                    for number in range(partitions):
                        final.read[Partition(topic, number)] = await workload.read_whole(client, topic, number)

        for node in final.nodes:
            assert node.assembly is not None
            node.assembly.replicas.upkeep.retention = {}  # what is read now is judged as a whole
        self.workforce.rest()
        if not cluster.run(60_000_000, self._is_well_every_so_often()):  # a trim may be under way still
            raise NotWell(f"not well before the final read: {self._unwell()}")
        done = cluster.spawn(process, read())
        if not cluster.run(60_000_000, done.done):
            raise NotWell("the final read does not end")
        if not cluster.run(
            60_000_000, self._is_well_every_so_often()
        ):  # settings may have been on their way to a leader
            raise NotWell(f"not well after the final read: {self._unwell()}")
        self._read_logs(final)
        self.workforce.tell(final)
        cluster.checker.full()
        pending = [send for send in oracle.sends.values() if send.told is Told.PENDING]
        if pending:
            raise NotWell(f"{len(pending)} sends were never answered, the first is {pending[0].value!r}")
        for invariant in cluster.checker.invariants:
            invariant.final(final)

    def _read_logs(self, final: Final) -> None:
        """What is on the disks, and before it what was removed from them: properties are about all of it."""
        for node in final.nodes:
            assembly = node.assembly
            assert assembly is not None
            image = assembly.controller.image
            for topic in sorted(self.plan.topics):
                for partition in image.topics[topic].partitions:
                    group = assembly.replicas.group(partition.group)
                    if group is not None:
                        key = Partition(topic, partition.partition)
                        history = self.cluster.checker.histories.of(group.id)
                        start, last = group.row.raft_start, group.node.last_index
                        stored = node.store.read_entries(group.generation, start, last, 1 << 40)
                        removed = [history.entry(LogIndex(index)) for index in range(1, start)]
                        final.logs.setdefault(key, []).append(removed + stored)
                        final.starts[key] = group.machine.log_start_offset
        for key, start_offset in final.starts.items():
            read = final.read[key]
            before = min([start_offset, *(offset for offset, _, _ in read[:1])])  # read, then removed: it was read
            final.read[key] = [record for record in records(final.logs[key][0]) if record[0] < before] + read

    # -- clients -----------------------------------------------------------------------------------------------------

    def _task(self, process: Process, client: Client, name: str, salt: int) -> Task:
        oracle: Oracle = self.cluster.checker.oracle
        task = Task(name, client, oracle, Random(f"work {name} {salt} {self.plan.seed}"))
        self._tasks.append((process, task))
        return task

    def _thin(self, name: str, plan: ThinPlan, call: Callable[..., Coroutine[Any, Any, None]]) -> None:
        process, client = self.cluster.client(name)
        channels = self.cluster.channels_in(process)
        task = self._task(process, client, name, 2)
        self._running.append(self.cluster.spawn(process, call(task, plan, channels)))

    def _client(self, name: str, work: Callable[[Task], Awaitable[None]], *, asks: bool = False) -> None:
        process, client = self.cluster.client(name)
        task = self._task(process, client, name, 1)

        async def whole() -> None:
            async def enter() -> None:
                await client.__aenter__()

            await workload.until_done(enter)
            await work(task)

        spawned = self.cluster.spawn(process, whole())
        self._running.append(spawned)
        if asks:
            self._asking.append((process, spawned))
