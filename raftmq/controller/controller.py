"""The metadata group on one node: every node reads its own image, the group's leader decides.

A decision is a pure function from the image to events. The events go into group 0 as one entry, and only replaying them
changes the image, on every node alike. Decisions are made one at a time, and only when everything in this leader's
log is applied, so that none is ever made on an image that lacks the one before: not even when the one before ran
out of time and is committed later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from google.protobuf.message import DecodeError

from raftmq.config import ClusterConfig
from raftmq.controller.queue_groups import ENSURE_QUEUE_GROUP, QueueGroups
from raftmq.controller.replay import Replay
from raftmq.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NoLeader,
    NotLeader,
    NotReady,
    Outcome,
    RaftmqError,
    Unimplemented,
    UnknownTopic,
)
from raftmq.ids import CONTROLLER_GROUP, GroupId, NodeId, ReplicaId, Term
from raftmq.internal.v1 import storage_pb2
from raftmq.metadata import altering, decisions, events, features
from raftmq.metadata.events import Event, NodeRegistered
from raftmq.metadata.image import MetadataImage, TopicRecord
from raftmq.metadata.internal import GROUPS_PARTITIONS, create_groups_topic
from raftmq.metadata.machine import MetadataMachine
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.host import ReplicaHost
from raftmq.replica.sealing import Draft

_log = structlog.get_logger(__name__)

Decide = Callable[[MetadataImage], Sequence[Event]]
Forward = Callable[[NodeId, str, bytes, int], Awaitable[bytes]]
"""(node, method, request, remaining milliseconds) -> response. Raises RaftmqError."""

REGISTER_NODE = "raftmq.controller/RegisterNode"
ALLOCATE_PRODUCER_IDS = "raftmq.controller/AllocateProducerIds"
CREATE_GROUPS_TOPIC = "raftmq.controller/CreateGroupsTopic"
NAME_SHOWN = 100
"""Characters of a method's name that an error repeats."""


class Controller:
    """See the module docstring. ``forward`` reaches the same class on another node, by ``handle``."""

    def __init__(self, config: ClusterConfig, cluster_id: str, host: ReplicaHost, forward: Forward) -> None:
        self._config = config
        self._cluster_id = cluster_id
        self._host = host
        self._forward = forward
        self._policy = decisions.TopicPolicy(
            partitions=config.defaults.partitions,
            replication_factor=config.replication_factor,
            min_in_sync_replicas=config.defaults.min_in_sync_replicas or 0,
            max_batch_bytes=config.limits.max_batch_bytes,
            topics_total_max=config.limits.max_topics,
            partitions_total_max=config.limits.max_partitions,
        )
        self._replay = Replay(host.replicas)
        self.queue_groups = QueueGroups(self)
        self.groups_partitions = GROUPS_PARTITIONS
        self._deciding = asyncio.Lock()
        self._news = asyncio.Event()
        self._producer_ids: range = range(0)
        self._allocating = asyncio.Lock()

    # -- reads -----------------------------------------------------------------------------------------------------

    @property
    def image(self) -> MetadataImage:
        """As of the last entry applied on this node; the empty image before there is one."""
        group = self._host.replicas.group(CONTROLLER_GROUP)
        return group.machine.image if group is not None and isinstance(group.machine, MetadataMachine) else _EMPTY

    def is_current(self) -> bool:
        """The image is of the present, as far as this node can know: what it does not show does not exist, or is news.
        Otherwise it is still being replayed, and what it does not show may well exist."""
        return self._replay.is_current()

    def was_current(self) -> bool:
        """The image has been current once: it holds at least what was committed when this process began."""
        return self._replay.was_current()

    @property
    def cluster_id(self) -> str:
        return self._cluster_id

    @property
    def cluster_name(self) -> str:
        return self._config.cluster

    @property
    def node_id(self) -> NodeId:
        return self._host.replicas.me.node

    def controller(self) -> tuple[NodeId, Term] | None:
        """The group's leader as far as this node knows."""
        return self._host.leader_of(CONTROLLER_GROUP)

    def node_silence_ms(self, node: NodeId) -> int:
        return self._host.replicas.silence(node)

    def tell_news(self) -> None:
        """Something that somebody here may wait for has changed."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Wait until something has changed."""
        await self._news.wait()

    # -- decisions -------------------------------------------------------------------------------------------------

    async def decide(self, decide: Decide, timeout_ms: int) -> Sequence[Event]:
        """Make a decision and replicate it; returns its events, which this node has applied.

        Raises NotLeader, DeadlineExceeded (NOT_APPLIED while it was not proposed yet, else UNKNOWN), ClusterTooOld and
        NotReady where not all nodes understand it, and whatever the decision itself refuses with.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        try:
            async with asyncio.timeout_at(deadline):
                await self._deciding.acquire()
        except TimeoutError:
            raise _too_late() from None
        try:
            await self._caught_up(deadline)
            decided = decide(self.image)
            if decided:
                permitted = features.allowed(self.image, self._members(), decided)
                draft = Draft(events.VERSION, 0, events.encode(permitted))
                await self._host.command(CONTROLLER_GROUP, draft, max(1, int((deadline - loop.time()) * 1000)))
            return decided
        finally:
            self._deciding.release()

    async def _caught_up(self, deadline: float) -> None:
        """Return when this node leads and has applied its whole log. Raises NotLeader, DeadlineExceeded."""
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    group = self._leading()
                    if group.can_serve() and group.machine.applied_index == group.node.last_index:
                        return
                    await self._news.wait()
        except TimeoutError:
            raise _too_late() from None

    def _leading(self) -> ReplicaGroup:
        group = self._host.replicas.group(CONTROLLER_GROUP)
        if group is None or not group.is_leader:
            raise NotLeader("this node does not lead the controller")
        return group

    # -- topics ----------------------------------------------------------------------------------------------------

    async def create_topic(
        self, spec: decisions.CreateTopic, timeout_ms: int, *, validate_only: bool = False
    ) -> TopicRecord:
        """Create, and wait until every partition has a leader. Raises as ``decide``, and what is wrong with `spec`.

        ``validate_only``: decide, but create nothing; the record is what would be created.
        """
        self._leading()
        self._expect_nodes(spec.replication_factor or self._policy.replication_factor)
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        if validate_only:
            return self.replayed(decisions.create_topic(self.image, spec, self._policy)).topics[spec.name]
        await self.decide(lambda image: decisions.create_topic(image, spec, self._policy), timeout_ms)
        topic = self.image.topics.get(spec.name)
        if topic is None:
            raise UnknownTopic(f"topic {spec.name} was created, and deleted at once", outcome=Outcome.APPLIED)
        await self._led(topic, deadline)
        return topic

    def _expect_nodes(self, wanted: int) -> None:
        """Raises NotReady while nodes that the configuration names have yet to register for the first time."""
        registered = len(self.image.nodes)
        if registered < wanted <= len(self._config.nodes):
            raise NotReady(f"{registered} of {len(self._config.nodes)} nodes have registered so far: try again")

    def replayed(self, decided: Sequence[Event]) -> MetadataImage:
        """The image as it would be after `decided`."""
        image = self.image
        for event in features.allowed(image, self._members(), decided):
            image = image.replay(event)
        return image

    def _members(self) -> list[ReplicaId]:
        """Replicas of this very group: the node of each reads what is decided."""
        group = self._host.replicas.group(CONTROLLER_GROUP)
        return [] if group is None else sorted(group.node.membership.all)

    def version_standing(self) -> features.Standing:
        """How far the cluster version is, and what holds it back, as far as this node knows."""
        return features.standing(self.image, self._members())

    async def raise_version(self, timeout_ms: int) -> None:
        """Have the cluster use the newest version that all its nodes understand. Raises as ``decide``."""
        if features.raised(self.image, self._members()):
            await self.decide(lambda image: features.raised(image, self._members()), timeout_ms)

    async def _led(self, topic: TopicRecord, deadline: float) -> None:
        """Wait until each partition's leader has told who is in sync."""
        groups = [partition.group for partition in topic.partitions]
        try:
            async with asyncio.timeout_at(deadline):
                while missing := [group for group in groups if not self._host.in_sync(group)]:
                    await self._news.wait()
        except TimeoutError:
            which = ", ".join(str(groups.index(group)) for group in missing[:10])
            raise DeadlineExceeded(
                f"topic {topic.name} is created, but partitions {which} have no leader yet", outcome=Outcome.APPLIED
            ) from None

    async def alter_topic(
        self, wish: altering.AlterTopic, timeout_ms: int, *, validate_only: bool = False
    ) -> TopicRecord:
        """Give a topic other settings; returns it as it is then. Raises as ``decide``, and what is wrong with
        `wish`."""
        self._leading()
        if validate_only:
            return self.replayed(altering.alter_topic(self.image, wish, self._policy)).topics[wish.name]
        await self.decide(lambda image: altering.alter_topic(image, wish, self._policy), timeout_ms)
        topic = self.image.topics.get(wish.name)
        if topic is None:
            raise UnknownTopic(f"topic {wish.name} was altered, and deleted at once", outcome=Outcome.APPLIED)
        return topic

    async def delete_topic(self, name: str, timeout_ms: int) -> None:
        """Raises as ``decide``, and UnknownTopic."""
        await self.decide(lambda image: decisions.delete_topic(image, name), timeout_ms)

    # -- what nodes ask of the leader --------------------------------------------------------------------------------

    async def handle(self, method: str, request: bytes, timeout_ms: int) -> bytes:
        """Answer another node's controller. Raises RaftmqError."""
        try:
            return await self._handle(method, request, timeout_ms)
        except DecodeError:
            raise InvalidArgument(f"the bytes are no request of {method}") from None

    async def _handle(self, method: str, request: bytes, timeout_ms: int) -> bytes:
        if method == REGISTER_NODE:
            wish = events.registration_from_proto(storage_pb2.NodeRegistered.FromString(request))
            await self.decide(lambda image: decisions.register_node(image, wish), timeout_ms)
            return b""
        if method == ALLOCATE_PRODUCER_IDS:
            asked = storage_pb2.ProducerIdsAllocated.FromString(request)
            block = await self._allocate(NodeId(asked.node), timeout_ms)
            return block.SerializeToString()
        if method == ENSURE_QUEUE_GROUP:
            return await self.queue_groups.answer(request, timeout_ms)
        if method == CREATE_GROUPS_TOPIC:
            self._leading()
            replicas = self._config.replication_factor
            self._expect_nodes(replicas)
            await self.decide(lambda image: create_groups_topic(image, replicas, self.groups_partitions), timeout_ms)
            return b""
        raise Unimplemented(f"{method[:NAME_SHOWN]} is not known here")

    async def ask_leader(self, method: str, request: bytes, timeout_ms: int) -> bytes:
        """Have the controller's leader answer, wherever it is. Raises NoLeader where none is known."""
        leader = self.controller()
        if leader is None:
            raise NoLeader("the controller has no leader: an election is under way, or a quorum is missing")
        if leader[0] == self.node_id:
            return await self.handle(method, request, timeout_ms)
        return await self._forward(leader[0], method, request, timeout_ms)

    async def register(self, wish: NodeRegistered, timeout_ms: int) -> None:
        """Say who and where this node is."""
        await self.ask_leader(REGISTER_NODE, events.registration_to_proto(wish).SerializeToString(), timeout_ms)

    async def ensure_groups_topic(self, timeout_ms: int) -> None:
        """Have the topic of consumer groups created if it is not there."""
        await self.patiently(CREATE_GROUPS_TOPIC, b"", timeout_ms)

    async def allocate_producer_ids(self, count: int, timeout_ms: int) -> int:
        """The first of `count` ids that were never given before: from this node's block, or from a new one."""
        assert 0 < count <= decisions.PRODUCER_ID_BLOCK
        async with self._allocating:
            block = self._producer_ids
            if len(block) < count:
                request = storage_pb2.ProducerIdsAllocated(node=self.node_id).SerializeToString()
                answer = await self.patiently(ALLOCATE_PRODUCER_IDS, request, timeout_ms)
                new = storage_pb2.ProducerIdsAllocated.FromString(answer)
                block = range(new.first, new.first + new.count)
            left = block[count:]
            # The longer rest is kept: a few large wishes do not use up the ids of many small ones.
            if len(left) > len(self._producer_ids) or block is self._producer_ids:
                self._producer_ids = left
            return block[0]

    async def patiently(self, method: str, request: bytes, timeout_ms: int) -> bytes:
        """Ask again while there is no leader: an election takes a second or two."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        while True:
            remaining_ms = int((deadline - loop.time()) * 1000)
            try:
                return await self.ask_leader(method, request, max(1, remaining_ms))
            except RaftmqError as error:
                if not error.retriable or remaining_ms <= _PAUSE_MS:
                    raise
            await asyncio.sleep(_PAUSE_MS / 1000)

    async def _allocate(self, node: NodeId, timeout_ms: int) -> storage_pb2.ProducerIdsAllocated:
        if node not in self.image.nodes:
            raise NotReady(f"node {node} has yet to register: try again")
        decided = await self.decide(lambda image: decisions.allocate_producer_ids(image, node), timeout_ms)
        (block,) = decided
        assert isinstance(block, events.ProducerIdsAllocated)
        return storage_pb2.ProducerIdsAllocated(node=node, first=block.first, count=block.count)

    # -- liveness ----------------------------------------------------------------------------------------------------

    async def fence(self, fence: list[NodeId], unfence: list[NodeId], timeout_ms: int) -> None:
        """Write down which sessions lapsed and which came back."""

        def decided(image: MetadataImage) -> list[Event]:
            return [
                *(event for node in fence for event in decisions.fence_node(image, node)),
                *(event for node in unfence for event in decisions.unfence_node(image, node)),
            ]

        await self.decide(decided, timeout_ms)

    def leaders(self) -> dict[GroupId, NodeId]:
        """Who leads which partition, as far as this node was told."""
        known = {group: self._host.leader_of(group) for group in self.image.groups}
        return {group: leader[0] for group, leader in known.items() if leader is not None}


_EMPTY = MetadataImage()
_PAUSE_MS = 50


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the controller has no quorum, or is catching up", outcome=Outcome.NOT_APPLIED)
