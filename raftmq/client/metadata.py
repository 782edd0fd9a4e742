"""The client's picture of the cluster: nodes, topics, leaders. Any node can draw it, and it may always be stale.

Stale pictures cost a forwarded call, never correctness: every node forwards. What makes the picture better is merged
by two numbers that only grow: the metadata version (topics, nodes) and each partition's leader epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from raftmq.client import convert
from raftmq.client.connection import Address, ConnectionPool, NodeChannel
from raftmq.client.types import NodeDescription, TopicDescription
from raftmq.errors import Outcome, PreconditionFailed, RaftmqError, Unavailable, UnknownNode, UnknownTopic
from raftmq.v1 import broker_pb2

REQUEST_TIMEOUT_MS = 3_000


@dataclass(frozen=True, slots=True)
class Leader:
    node_id: int | None
    """None: none known."""
    epoch: int


class ClusterImage:
    """What has been heard so far. No IO."""

    def __init__(self) -> None:
        self.cluster_id = ""
        self.version = 0
        self.nodes: dict[int, NodeDescription] = {}
        self.topics: dict[str, TopicDescription] = {}
        self._leaders: dict[tuple[str, int], Leader] = {}

    def merge(self, answer: broker_pb2.GetMetadataResponse) -> None:
        """Take what is newer in `answer`. Raises PreconditionFailed where it is another cluster's."""
        self.check_cluster(answer.header.cluster_id)
        if answer.metadata_version >= self.version:
            self.version = answer.metadata_version
            self.nodes = {n.node_id: convert.node(n) for n in answer.nodes}
            topics = {t.name: convert.topic(t) for t in answer.topics}
            self._forget_recreated(topics)
            self.topics = topics
        for topic in answer.topics:
            known = self.topics.get(topic.name)
            if known is None or known.topic_id != topic.topic_id:
                continue
            for p in topic.partitions:
                self.note_leader(topic.name, p.partition, p.leader_node_id or None, p.leader_epoch)

    def check_cluster(self, cluster_id: str) -> None:
        """Raises PreconditionFailed when a reply comes from another cluster than all replies before."""
        if not self.cluster_id:
            self.cluster_id = cluster_id
        elif cluster_id and cluster_id != self.cluster_id:
            raise PreconditionFailed(
                f"this client talks to cluster {self.cluster_id}, but a node of cluster {cluster_id} answered",
                outcome=Outcome.UNKNOWN,
            )

    def note_leader(self, topic: str, partition: int, node_id: int | None, epoch: int) -> None:
        """Older epochs are ignored; within an epoch a known leader is not forgotten."""
        known = self._leaders.get((topic, partition))
        if known is None or epoch > known.epoch or (epoch == known.epoch and known.node_id is None):
            self._leaders[topic, partition] = Leader(node_id, epoch)

    def leader(self, topic: str, partition: int) -> Leader:
        return self._leaders.get((topic, partition), Leader(None, 0))

    def _forget_recreated(self, topics: dict[str, TopicDescription]) -> None:
        """A topic made anew counts its leader epochs from the start: those of its namesake mean nothing."""
        for name, old in self.topics.items():
            new = topics.get(name)
            if new is None or new.topic_id != old.topic_id:
                for p in old.partitions:
                    self._leaders.pop((name, p.partition), None)


class MetadataCache:
    """Keeps a `ClusterImage` fresh. At most one refresh is under way; who asks meanwhile shares its result."""

    def __init__(self, pool: ConnectionPool, bootstrap: Sequence[Address]) -> None:
        self.image = ClusterImage()
        self._pool = pool
        self._bootstrap = tuple(bootstrap)
        self._refreshing: asyncio.Task[None] | None = None
        self._turn = 0

    def channels(self) -> list[NodeChannel]:
        """Every node known, each once, starting with another one every time; those that just failed come last."""
        nodes = [self._pool.advertised(n.host, n.port) for _, n in sorted(self.image.nodes.items())]
        if nodes:
            self._turn = (self._turn + 1) % len(nodes)
            nodes = nodes[self._turn :] + nodes[: self._turn]
        nodes += [self._pool.at(address) for address in self._bootstrap]
        return sorted(dict.fromkeys(nodes), key=lambda channel: channel.avoided)

    def node(self, node_id: int) -> NodeChannel:
        """The channel to one node. Raises UnknownNode."""
        node = self.image.nodes.get(node_id)
        if node is None:
            raise UnknownNode(f"no node {node_id} in this cluster: there are {sorted(self.image.nodes)}")
        return self._pool.advertised(node.host, node.port)

    async def refresh(self) -> None:
        """Ask any node. Raises the last node's error when none answers."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(), name="raftmq-metadata")
            self._refreshing.add_done_callback(self._refreshed)
        # Shielded: one caller that gives up must not take the answer from the others.
        await asyncio.shield(self._refreshing)

    async def topic(self, name: str) -> TopicDescription:
        """Raises UnknownTopic only when every node that answers says so: some may be behind the one that created it."""
        if name not in self.image.topics:
            await self.refresh()
        for channel in self.channels():
            if name in self.image.topics:
                break
            try:
                await self._ask(channel)
            except Unavailable:
                continue
        if name not in self.image.topics:
            raise UnknownTopic(f"no topic {name!r}", field="topic")
        return self.image.topics[name]

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def _refresh(self) -> None:
        last_error: RaftmqError = Unavailable("no node is known", outcome=Outcome.NOT_APPLIED)
        for channel in self.channels():
            try:
                await self._ask(channel)
            except RaftmqError as error:
                last_error = error
            else:
                return
        raise last_error

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # Marks it as seen: those who still wait get it from the shield.

    async def _ask(self, channel: NodeChannel) -> None:
        answer = await channel.call(
            channel.broker.GetMetadata, broker_pb2.GetMetadataRequest(), timeout_ms=REQUEST_TIMEOUT_MS
        )
        self.image.merge(answer)
