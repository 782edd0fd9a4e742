"""Whole nodes under virtual time: the simulator's cluster without its faults and clients."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from raftmq.assembly import Assembly
from raftmq.controller.controller import Controller
from raftmq.ids import CONTROLLER_GROUP, GroupId, StoreId
from raftmq.metadata.decisions import CreateTopic
from raftmq.metadata.image import MetadataImage, TopicRecord
from raftmq.replica.group import ReplicaGroup
from raftmq.sim.cluster import SimCluster
from raftmq.sim.node import NodeProcess
from raftmq.sim.plan import Plan
from raftmq.sim.weather import Cut, Weather
from raftmq.storage.memory import MemoryStore

T = TypeVar("T")

SECOND = 1_000_000
ELECTION_MS = 500


class Nodes(SimCluster):
    """Times are seconds of virtual time."""

    def __init__(self, nodes: int = 3, seed: int = 1) -> None:
        super().__init__(
            Plan(
                seed=seed,
                nodes=nodes,
                topics={},
                replication_factor=min(3, nodes),
                heartbeat_ms=50,
                election_ms=ELECTION_MS,
                tail_bytes=1 << 20,
                safety=0,
                weather=Weather(latency=(100, 500)),
                sync=(300, 1_000),
                through_codec=False,
            )
        )

    def until(self, holds: Callable[[], bool], seconds: float = 30) -> None:
        assert self.run(int(seconds * SECOND), holds), self.describe()

    def pass_time(self, seconds: float) -> None:
        self.run(int(seconds * SECOND))

    def settle(self) -> None:
        """Run until every node that is up knows a controller that knows every node."""

        def settled() -> bool:
            return all(
                node.assembly is not None
                and len(self.image(number).nodes) == len(self.nodes)
                and self.at(number).controller() is not None
                for number, node in self.nodes.items()
                if node.process is not None
            )

        self.until(settled)

    # -- looking -------------------------------------------------------------------------------------------------------

    def up(self) -> list[int]:
        """Nodes that run and belong to a cluster."""
        return [number for number, node in self.nodes.items() if node.assembly is not None]

    def process(self, number: int) -> NodeProcess:
        process = self.nodes[number].process
        assert process is not None, f"node {number} is down"
        return process

    def assembly(self, number: int) -> Assembly:
        assembly = self.process(number).assembly
        assert assembly is not None, f"node {number} is in no cluster"
        return assembly

    def at(self, number: int) -> Controller:
        return self.assembly(number).controller

    def image(self, number: int) -> MetadataImage:
        return self.at(number).image

    def group(self, number: int, group: int = CONTROLLER_GROUP) -> ReplicaGroup:
        found = self.assembly(number).replicas.group(GroupId(group))
        assert found is not None, f"node {number} has no replica of group {group}"
        return found

    def leader(self, group: int = CONTROLLER_GROUP) -> int:
        """Run until exactly one node leads the group and serves; its number."""

        def serving() -> list[int]:
            return [
                number
                for number in self.up()
                if (found := self.assembly(number).replicas.group(GroupId(group))) is not None and found.can_serve()
            ]

        self.until(lambda: len(serving()) == 1)
        return serving()[0]

    def others(self, number: int) -> list[int]:
        return [other for other in self.nodes if other != number]

    # -- doing ---------------------------------------------------------------------------------------------------------

    def do(self, number: int, work: Coroutine[Any, Any, T], seconds: float = 60) -> T:
        """Run a coroutine on a node to its end."""
        return self.finish(self.process(number), work, seconds)

    def create_topic(self, name: str, partitions: int = 1, replicas: int = 3) -> TopicRecord:
        leader = self.leader()
        spec = CreateTopic(name, partitions=partitions, replication_factor=replicas)
        return self.do(leader, self.at(leader).create_topic(spec, 20_000))

    def cut_off(self, number: int) -> None:
        for other in self.others(number):
            self.network.cut(number, other, Cut.DROP)
            self.network.cut(other, number, Cut.DROP)

    def stop(self, number: int) -> None:
        """Kill the process, and cut the power: only what was synced stays."""
        self.nodes[number].kill()
        self.nodes[number].store.crash()

    def restart(self, number: int) -> None:
        self.stop(number)
        self.nodes[number].boot()

    def replace_disk(self, number: int, store: int) -> None:
        """The node comes back with an empty disk."""
        node = self.nodes[number]
        node.kill()
        node.store = MemoryStore(node=node.number, store_id=StoreId(store))
        node.store.kill()  # as every disk is before its node boots
        node.boot()


NodesT = TypeVar("NodesT", bound=Nodes)


@contextmanager
def formed(cluster: NodesT) -> Iterator[NodesT]:
    """Until it has formed, and its nodes have registered."""
    try:
        cluster.start()
        cluster.until(lambda: all(node.process is not None for node in cluster.nodes.values()))
        cluster.settle()
        yield cluster
    finally:
        cluster.close()


def running(nodes: int = 3, seed: int = 1) -> AbstractContextManager[Nodes]:
    """A cluster that has formed."""
    return formed(Nodes(nodes, seed))
