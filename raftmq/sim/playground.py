"""A simulated cluster for other people's tests: their code talks to it with the real client, and time is virtual.

    def test_every_order_is_counted_once():
        with Cluster(seed=7) as cluster:
            cluster.create_topic("orders")
            counting = cluster.spawn(count_orders(cluster.client()))
            cluster.run(place_orders(cluster.client(), 10))
            cluster.isolate(cluster.leader("orders"))
            ...
            assert cluster.wait(counting) == 10

An election takes a second of virtual time and a millisecond of yours. The same seed is the same run, for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from raftmq.client.client import Client
from raftmq.ids import CONTROLLER_GROUP, GroupId
from raftmq.sim.cluster import SimCluster
from raftmq.sim.plan import Plan
from raftmq.sim.weather import Cut, Weather

T = TypeVar("T")

ELECTION_MS = 1_000
FORM_S = 60.0


class Cluster:
    """A running cluster of `nodes`. Every invariant of the simulation is watched while it runs.

    Coroutines run on the simulated loop: ``asyncio.sleep``, timeouts and tasks work and take virtual time. Threads,
    sockets and the real clock have no place there. Methods raise TimeoutError after `limit_s` of virtual seconds.
    """

    def __init__(self, nodes: int = 3, seed: int = 0) -> None:
        plan = Plan(
            seed=seed, nodes=nodes, topics={}, replication_factor=min(3, nodes), heartbeat_ms=100,
            election_ms=ELECTION_MS, tail_bytes=1 << 20, safety=0, weather=Weather(), sync=(300, 3_000),
            through_codec=False,
        )  # fmt: skip
        self._cluster = SimCluster(plan)
        self._process = self._cluster.client_process("user")
        self._clients = 0

    def __enter__(self) -> Self:
        self._cluster.start()
        if not self._cluster.run(int(FORM_S * 1_000_000), self._is_formed):
            raise TimeoutError("the cluster did not form")
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._cluster.close()

    def _is_formed(self) -> bool:
        nodes = self._cluster.nodes
        return all(
            node.assembly is not None and len(node.assembly.controller.image.nodes) == len(nodes)
            for node in nodes.values()
        )

    # -- your code ---------------------------------------------------------------------------------------------------

    def client(self) -> Client:
        """A client that knows every node; use it in an ``async with`` block of your coroutine."""
        self._clients += 1
        return self._cluster.client_in(self._process, f"user {self._clients}")

    def run(self, work: Coroutine[Any, Any, T], limit_s: float = 60.0) -> T:
        """Run a coroutine to its end; its result."""
        return self.wait(self.spawn(work), limit_s)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a coroutine, which goes on whenever time passes."""
        return self._process.start_task(work)

    def wait(self, task: asyncio.Task[T], limit_s: float = 60.0) -> T:
        """Let time pass until a task has ended; its result."""
        if not self._cluster.run(int(limit_s * 1_000_000), task.done):
            raise TimeoutError(f"not done within {limit_s} s of virtual time")
        return task.result()

    def pass_time(self, seconds: float) -> None:
        self._cluster.run(int(seconds * 1_000_000))

    def until(self, holds: Callable[[], bool], limit_s: float = 60.0) -> None:
        """Let time pass until `holds` does."""
        if not self._cluster.run(int(limit_s * 1_000_000), holds):
            raise TimeoutError(f"it did not come to hold within {limit_s} s of virtual time")

    @property
    def now(self) -> float:
        """Virtual seconds since the cluster was switched on."""
        return self._cluster.agenda.now / 1_000_000

    def create_topic(self, name: str, partitions: int = 1) -> None:
        async def create(client: Client) -> None:
            async with client:
                await client.admin.create_topic(name, partitions=partitions)

        self.run(create(self.client()))

    # -- what happens to it ------------------------------------------------------------------------------------------

    def leader(self, topic: str = "", partition: int = 0) -> int:
        """The node that leads a partition (the controller without a topic), once there is one."""
        found: list[int] = []

        def led() -> bool:
            found[:] = [number for number in self._cluster.nodes if self._leads(number, topic, partition)]
            return len(found) == 1

        self.until(led)
        return found[0]

    def _leads(self, number: int, topic: str, partition: int) -> bool:
        process = self._cluster.nodes[number].process
        if process is None or process.assembly is None or process.is_paused:
            return False
        group = CONTROLLER_GROUP
        if topic:
            record = process.assembly.controller.image.topics.get(topic)
            if record is None:
                return False
            group = GroupId(record.partitions[partition].group)
        replica = process.assembly.replicas.group(group)
        return replica is not None and replica.can_serve()

    def isolate(self, node: int) -> None:
        """Cut a node off from the other nodes, until ``heal``. Clients still reach it."""
        for other in self._cluster.nodes:
            if other != node:
                self.cut(node, other)
                self.cut(other, node)

    def cut(self, source: int, target: int) -> None:
        """Cut one link, one way."""
        self._cluster.network.cut(source, target, Cut.DROP)

    def heal(self) -> None:
        """Every link works again."""
        self._cluster.network.heal_all()

    def kill(self, node: int) -> None:
        """SIGKILL. What was not synced is lost."""
        self._cluster.nodes[node].kill()
        self._cluster.nodes[node].store.crash()

    def restart(self, node: int) -> None:
        """Start a node that was killed."""
        self._cluster.nodes[node].boot()

    def pause(self, node: int) -> None:
        """SIGSTOP, until ``resume``."""
        process = self._cluster.nodes[node].process
        assert process is not None, f"node {node} does not run"
        process.pause()
        self._cluster.network.stopped(process)

    def resume(self, node: int) -> None:
        """SIGCONT."""
        process = self._cluster.nodes[node].process
        assert process is not None, f"node {node} does not run"
        process.resume()
