"""The consumer group of one run: when its members come and go, and what becomes of it in the end.

Once the faults are over whoever is there stays (and somebody joins, if nobody is), until every partition has one owner
that lives, and everything is committed.
"""

from __future__ import annotations

import asyncio
from random import Random

from raftmq.errors import RaftmqError, UnknownGroup
from raftmq.groups.types import TopicPartition
from raftmq.sim.cluster import NotWell, SimCluster
from raftmq.sim.group_history import NOTHING, GroupEvent, GroupHistory
from raftmq.sim.group_member import Circle, Member, enter
from raftmq.sim.group_plan import GroupPlan, Life
from raftmq.sim.loop import SimLoop
from raftmq.sim.oracle import Partition
from raftmq.sim.process import Process
from raftmq.sim.workload import Task, until_done


class Memberships:
    """All members of the group of one run."""

    def __init__(self, cluster: SimCluster, plan: GroupPlan) -> None:
        self.plan = plan
        self.cluster = cluster
        checker = cluster.checker
        self.history = GroupHistory(
            plan.name, self._heard, checker.oracle.counts, cluster.note, plan.is_timely, plan.commit == "before"
        )
        self._circle = Circle(cluster, plan, self.history)
        self.members: list[Member] = []
        self._told: set[str] = set()
        """Members that are to leave; one that is stopped does not know yet."""
        self._asking: tuple[Process, Task, asyncio.Task[None]] | None = None

    @property
    def partitions(self) -> list[Partition]:
        return [
            Partition(topic, number)
            for topic, count in sorted(self.cluster.plan.topics.items())
            for number in range(count)
        ]

    def _heard(self, event: GroupEvent) -> None:
        """What is found in the middle of a library's own task must not end with that task."""
        try:
            self.cluster.checker.ended(event)
        except AssertionError as violated:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimLoop)
            loop.failures.append(violated)
            raise

    # -- the run -----------------------------------------------------------------------------------------------------

    def prime(self, limit: int) -> None:
        """Somebody joins and leaves, so that the group has a coordinator; unless that is to happen under faults."""
        if not self.plan.is_primed:
            return
        first = Member(self._circle, Life(0, 0, "leave"), "g-first")
        if not self.cluster.run(limit, self.cluster.spawn(first.process, first.visit()).done):
            raise NotWell("the first member of a group came to no end")

    def start(self) -> None:
        """Faults begin."""
        for number, life in enumerate(self.plan.lives):
            self.cluster.agenda.after(life.at, self._begin, life, f"g{number}")
        process, client = self.cluster.client("g-asks")
        task = Task("g-asks", client, self.cluster.checker.oracle, Random(f"asks {self.cluster.plan.seed}"))
        self._asking = process, task, self.cluster.spawn(process, self._ask(task))

    def _begin(self, life: Life, name: str) -> None:
        if self._circle.is_over:
            return
        member = Member(self._circle, life, name)
        self.members.append(member)
        self.cluster.note("members", f"{name} begins")
        member.start()
        after = self.cluster.agenda.after
        if life.nap[1]:
            after(max(0, life.nap[0] - life.at), self._nap, member, life.nap[1])
        if life.end != "stay":
            after(life.length, self._end, member)

    def _nap(self, member: Member, length: int) -> None:
        if not self._circle.is_over and member.is_alive:
            self.history.counts["members stopped for a while"] += 1
            member.process.pause()
            self.cluster.agenda.after(length, lambda: member.process.resume() if member.process.is_paused else None)

    def _end(self, member: Member) -> None:
        if self._circle.is_over or not member.is_alive:
            return
        self.cluster.note("members", f"{member.name} {member.life.end}")
        if member.life.end == "kill":
            self.history.counts["members killed"] += 1
            member.process.kill()
            self.history.went(member.name, member.life.instance)
        else:
            self._told.add(member.name)
            member.process.post(member.leave)

    def mend(self) -> None:
        """Faults are over: whoever lives stays. Those who fight over an instance id may all be gone in the end."""
        self._circle.is_over = True
        for member in self.members:
            if member.is_alive and member.process.is_paused:
                member.process.resume()
        staying = [one for one in self.members if one.is_alive and not one.is_leaving and one.name not in self._told]
        if not any(not one.life.instance for one in staying):
            last = Member(self._circle, Life(0, 0, "stay"), "g-last")
            self.members.append(last)
            last.start()

    def end(self, limit: int) -> None:
        """Wait until the group is well, and let everybody leave; either within `limit` microseconds."""
        asked = [-1]

        def is_well() -> bool:
            now = self.cluster.agenda.now // 20_000
            if now == asked[0]:
                return False
            asked[0] = now
            return not self.unwell()

        if not self.cluster.run(limit, is_well):
            raise NotWell(f"the group is not well: {self.unwell()}")
        self._leave()
        if not self.cluster.run(limit, lambda: self._has_ended):
            raise NotWell("members came to no end")

    def _leave(self) -> None:
        for member in self.members:
            if member.is_alive:
                member.process.post(member.leave)
        if self._asking is not None:
            process, task, _ = self._asking
            process.post(task.end)

    @property
    def _has_ended(self) -> bool:
        asks = self._asking is None or self._asking[2].done()
        return asks and not any(member.is_alive for member in self.members)

    # -- questions ---------------------------------------------------------------------------------------------------

    async def _ask(self, task: Task) -> None:
        await until_done(lambda: enter(task.client))
        while not task.stopping():
            await task.rest(task.rng.uniform(0.05, 0.4))
            floors = dict(self.history.floors)
            try:
                found = await task.client.groups.committed(self.plan.name, timeout_ms=3_000)
            except UnknownGroup:
                # Not held against anybody: a node that is cut off, and has not heard of the topic of groups, says so.
                self.history.counts["groups denied"] += 1
                continue
            except RaftmqError as error:
                self.history.counts[f"committed {error.reason}"] += 1
                continue
            self.history.read(floors, {key: found.get((key.topic, key.number), NOTHING) for key in self.partitions})

    # -- the end -----------------------------------------------------------------------------------------------------

    def unwell(self) -> str:
        """Why the group is not as it should be, with the faults over; empty if it is."""
        nodes = [node for _, node in sorted(self.cluster.nodes.items()) if node.assembly is not None]
        assemblies = [node.assembly for node in nodes if node.assembly is not None]
        groups = [one for each in assemblies for one in each.coordinator.led_groups() if one.name == self.plan.name]
        if len(groups) != 1:
            return f"{len(groups)} nodes coordinate the group"
        [group] = groups
        living = {
            member.consumer.member_id: member.consumer
            for member in self.members
            if member.is_alive and member.consumer is not None
        }
        if strangers := sorted(group.members.keys() - living.keys()):
            return f"{strangers} are members, and do not live"
        image = assemblies[0].controller.image
        for key in self.partitions:
            topic = image.topics[key.topic]
            place = TopicPartition(topic.topic_id, key.number)
            owner = group.owners.get(place)
            reads = sorted(name for name, one in living.items() if tuple(key) in one.assignment)
            if owner is None or reads != [owner.member_id]:
                return f"{key} is owned by {owner}, and read by {reads}"
            at = topic.partitions[key.number].group
            ends = [each.replicas.groups[at].machine.next_offset for each in assemblies if each.host.leads(at)]
            known = group.offsets.get(place)
            if len(ends) != 1 or (0 if known is None else known.position.offset) != ends[0]:
                return f"{key}: {known} is committed, of {ends}"
        return ""
