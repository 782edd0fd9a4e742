"""The cluster that is measured: three nodes of its own in a fresh directory, or one that runs already."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from raftmq.cli import listeners, output
from raftmq.cli.bench.result import Check
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.runtime import DEFAULT_CONFIG, Target
from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Client, TopicDescription
from raftmq.config import Address, ClusterConfig, NodeEntry, load
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

HOST = "127.0.0.1"
NODES = 3
PORTS_PER_NODE = 3
FIRST_PORT, LAST_PORT = 20_000, 30_000
"""Below what systems give to outgoing connections: a killed node must find its port free when it comes back."""
SETTLE_SECONDS = 180.0
POLL_SECONDS = 0.05


class Stage:
    """A cluster, a client of it, and what may be done to it."""

    def __init__(self, client: Client, addresses: str, nodes: LocalCluster | None, *, own: bool) -> None:
        self.client = client
        self.addresses = addresses
        self.keep = False
        """Whether logs and data of an own cluster are left for a look."""
        self._nodes = nodes
        self._own = own

    @property
    def is_own(self) -> bool:
        return self._own

    def require_own(self) -> None:
        """Raises CommandError where `own` would."""
        assert self.own is not None

    @property
    def own(self) -> LocalCluster:
        """The nodes, if they are the benchmark's own and may be killed. Raises CommandError."""
        if self._nodes is None or not self._own:
            raise CommandError(
                "this benchmark kills nodes, and does so only to nodes of its own",
                hint="add --cluster",
                code=ExitCode.USAGE,
            )
        return self._nodes

    @property
    def processes(self) -> Mapping[str, int]:
        """Name and pid of each node that runs on this machine."""
        if self._nodes is None:
            return {}
        pids = ((node, self._nodes.pid(node)) for node in self._nodes.nodes)
        return {f"node {node}": pid for node, pid in pids if pid is not None}

    async def create_topic(self, purpose: str, partitions: int, keep: int = 0) -> TopicDescription:
        """A topic of a new name, all of whose partitions have a leader, and keep `keep` bytes each; 0: all."""
        name = f"bench-{purpose}-{secrets.token_hex(3)}"
        within_ms = int(SETTLE_SECONDS * 1000)
        try:
            await self.client.admin.create_topic(
                name, partitions=partitions, retention_bytes=keep, timeout_ms=within_ms
            )
        except RaftmqError as error:
            if not error.retriable:
                raise  # else it may be there, and its leaders may only be late
        return await self.wait_leaders(name)

    async def wait_leaders(self, topic: str, without: NodeId | None = None) -> TopicDescription:
        """Returns when every partition has a leader, and none of them is `without`. Raises CommandError."""

        def led(description: TopicDescription) -> bool:
            return all(p.leader is not None and p.leader != without for p in description.partitions)

        return await self._until(topic, led, "has partitions without a leader")

    async def wait_in_sync(self, topic: str) -> TopicDescription:
        """Returns when every replica of every partition is in sync. Raises CommandError."""

        def whole(description: TopicDescription) -> bool:
            return all(p.leader is not None and set(p.in_sync) == set(p.replicas) for p in description.partitions)

        return await self._until(topic, whole, "has replicas that are not in sync")

    async def _until(self, topic: str, settled: Callable[[TopicDescription], bool], complaint: str) -> TopicDescription:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        while True:
            try:
                description = await self.client.admin.describe_topic(topic, timeout_ms=2_000)
            except RaftmqError as error:
                if loop.time() > deadline:
                    raise
                complaint = error.message
            else:
                if settled(description):
                    return description
            if loop.time() > deadline:
                raise CommandError(f"topic {topic} {complaint} after {SETTLE_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    async def leaders(self, topic: TopicDescription) -> Mapping[int, str]:
        """Partition -> address of its leader."""
        addresses = await self.addresses_of_nodes()
        return {p.partition: addresses[p.leader] for p in topic.partitions if p.leader is not None}

    async def addresses_of_nodes(self) -> Mapping[int, str]:
        return {node.node_id: f"{node.host}:{node.port}" for node in await self.client.cluster.nodes()}

    async def drop_topic(self, topic: str) -> None:
        """Delete it where the cluster outlives the benchmark."""
        if not self._own:
            await self.client.admin.delete_topic(topic)

    async def high_watermarks(self, topic: str) -> dict[int, int]:
        return {one.partition: one.high_watermark for one in await self.client.list_offsets(topic)}

    async def epochs(self, topic: str) -> int:
        """Sum of the partitions' leader epochs: it grows by one at least with every election that has a winner."""
        return sum(one.leader_epoch for one in await self.client.list_offsets(topic))

    async def terms(self) -> dict[int, int]:
        """Group -> the highest term that a replica of it is in: of all topics, the controller and the coordinators."""
        found: dict[int, int] = {}
        for node in await self.client.cluster.nodes():
            for replica in await self.client.cluster.list_replicas(node.node_id):
                found[replica.group_id] = max(replica.term, found.get(replica.group_id, 0))
        return found


async def counted(stage: Stage, topic: str, acknowledged: int, unknown: int) -> Check:
    """Whether the topic, empty before, holds what was acknowledged, and no more than that and what may be there."""
    there = sum((await stage.high_watermarks(topic)).values())
    passed = acknowledged <= there <= acknowledged + unknown
    doubtful = f", {unknown:,} of unknown outcome" if unknown else ""
    return Check("counted", passed, f"{acknowledged:,} acknowledged{doubtful}; the topic holds {there:,}")


@asynccontextmanager
async def on_stage(target: Target, directory: Path | None) -> AsyncIterator[Stage]:
    """The cluster of `target`; or, with a directory, one of its own in a new directory below that.

    Of its own cluster nothing is left if the block ends well. Raises CommandError, ConfigError, RaftmqError.
    """
    if directory is None:
        async with target.client() as client:
            # Where the nodes of the configuration run on this machine, they can be looked at.
            nodes = None if target.bootstrap else LocalCluster(load(target.config), config_file=target.config)
            yield Stage(client, target.addresses, nodes, own=False)
        return
    place = await asyncio.to_thread(_new_place, directory)
    cluster = LocalCluster(configuration(target.config, place))
    try:
        await cluster.start_all()
        await cluster.wait_ready()
        async with Target(cluster.bootstrap, target.config).client() as client:
            stage = Stage(client, cluster.bootstrap, cluster, own=True)
            yield stage
    except BaseException:
        output.notice(f"logs and data are left in {place}")
        raise
    finally:
        await _kill(cluster)
    if stage.keep:
        output.notice(f"logs and data are left in {place}")
    else:
        await asyncio.to_thread(shutil.rmtree, place)


def _new_place(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="run-", dir=directory)).resolve()


def configuration(pattern: Path, place: Path) -> ClusterConfig:
    """Three nodes on free ports, with the timeouts and limits of `pattern`, which may be missing if nobody named it."""
    ports = free_ports(NODES * PORTS_PER_NODE)
    nodes = tuple(
        NodeEntry(
            id=number,
            host=HOST,
            client_port=ports.pop(),
            peer_port=ports.pop(),
            http_port=ports.pop(),
            data=place / f"n{number}",
            rack=f"rack-{number}",
        )
        for number in range(1, NODES + 1)
    )
    if pattern == DEFAULT_CONFIG and not pattern.exists():
        return ClusterConfig(cluster="bench", nodes=nodes)
    given = load(pattern)
    return ClusterConfig(cluster="bench", nodes=nodes, timeouts=given.timeouts, limits=given.limits)


def free_ports(count: int) -> list[int]:
    """Different TCP ports on which nobody listens now, from a place that depends on this process's id."""
    span = LAST_PORT - FIRST_PORT
    begin = os.getpid() * count % span
    ports: list[int] = []
    for step in range(span):
        port = FIRST_PORT + (begin + step) % span
        if listeners.is_free(Address(HOST, port)):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise CommandError(f"there are no {count} free ports between {FIRST_PORT} and {LAST_PORT}")


async def _kill(cluster: LocalCluster) -> None:
    """Nobody needs an orderly end of nodes whose data goes with them."""
    for node in cluster.nodes:
        await cluster.kill(node)
