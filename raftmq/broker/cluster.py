"""What the broker asks of the rest of the node: ports towards the controller, the replicas and the other nodes.

Protocols, so that the services can be tested without a cluster, and so that nothing below has to know of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from raftmq.errors import RaftmqError
from raftmq.ids import GroupId, NodeId, Offset, Term
from raftmq.metadata.altering import AlterTopic
from raftmq.metadata.decisions import CreateTopic
from raftmq.metadata.depth import NO_LIMIT, DepthLimit
from raftmq.metadata.events import Event
from raftmq.metadata.features import Standing
from raftmq.metadata.image import MetadataImage, TopicRecord
from raftmq.metadata.operation import OperationRecord
from raftmq.metadata.queue_groups import QueueGroupRecord, SetQueueGroup
from raftmq.partition.queues.commands import QueueAnswer, QueueOp, Status
from raftmq.partition.queues.processed import Processed
from raftmq.ports import DiskLevel
from raftmq.records.batch import CheckedBatch
from raftmq.records.loose import LooseRecords
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.host import Bounds, Fetched
from raftmq.replica.produce import Leadership
from raftmq.replica.queues.calls import Claim, Depth, Handover, Received, Ruling, Wish
from raftmq.replica.queues.looking import Pace, ParkedFilter, Peeked, Place, RedriveCount
from raftmq.replica.waits import Ack, Acks

Decide = Callable[[MetadataImage], Sequence[Event]]
"""A pure decision: see ``raftmq.metadata.decisions``."""


class ClusterView(Protocol):
    """The cluster as this node's controller knows it. Reads are local and may be behind; decisions are the leader's."""

    @property
    def image(self) -> MetadataImage:
        """Topics, nodes and assignments as of the last entry applied here."""

    def is_current(self) -> bool:
        """False while the image is being replayed, or the controller has no leader: what it does not show may exist."""

    def was_current(self) -> bool:
        """The image has been current once since the start of this process: it may be behind, but not by a restart."""

    @property
    def cluster_id(self) -> str: ...
    @property
    def cluster_name(self) -> str: ...
    @property
    def node_id(self) -> NodeId: ...

    def controller(self) -> tuple[NodeId, Term] | None:
        """The controller's leader as far as this node knows."""

    def version_standing(self) -> Standing:
        """How far the cluster version is, and what holds it back, as far as this node knows."""

    async def create_topic(self, spec: CreateTopic, timeout_ms: int, *, validate_only: bool = False) -> TopicRecord:
        """Return when the topic is committed and every partition has a leader.

        `validate_only`: decide, but create nothing; the record is what would be created.

        Raises NotLeader (nothing done) where this node is not the controller's leader, InvalidArgument naming the
        field of the request, AlreadyExists, DeadlineExceeded saying what is still missing.
        """

    async def alter_topic(self, wish: AlterTopic, timeout_ms: int, *, validate_only: bool = False) -> TopicRecord:
        """Return the topic with its new settings once they are committed; `validate_only`: as it would be.

        Raises NotLeader (nothing done), UnknownTopic, InvalidArgument naming the field, UnexpectedVersion,
        DeadlineExceeded.
        """

    async def delete_topic(self, name: str, timeout_ms: int) -> None:
        """Raises NotLeader, UnknownTopic, DeadlineExceeded."""

    async def ensure_groups_topic(self, timeout_ms: int) -> None:
        """Have the topic of consumer groups created if it is not there. Works on any node. Raises NoLeader,
        NotEnoughReplicas, DeadlineExceeded."""

    async def allocate_producer_ids(self, count: int, timeout_ms: int) -> int:
        """The first of `count` producer ids in a row that were never given before, at most a block of them. Works on
        any node. Raises NoLeader, DeadlineExceeded."""

    async def decide(self, decide: Decide, timeout_ms: int) -> Sequence[Event]:
        """Decide on the present image, and return what was decided once it is committed and applied here.

        Raises NotLeader (nothing done), DeadlineExceeded, and whatever `decide` refuses with.
        """

    def node_silence_ms(self, node: NodeId) -> int:
        """Milliseconds since this node heard `node` last; 0 for itself."""

    @property
    def queue_groups(self) -> QueueGroups: ...


class QueueGroups(Protocol):
    """Queue groups as a whole: what ``raftmq.controller.queue_groups.QueueGroups`` offers. NotLeader is raised where
    this node is not the controller's leader, but for ``known`` and ``ensure``."""

    def known(self, topic: str, name: str) -> QueueGroupRecord | None: ...
    async def ensure(self, topic: str, name: str, timeout_ms: int) -> QueueGroupRecord: ...
    async def set(self, wish: SetQueueGroup, timeout_ms: int, *, validate_only: bool = False) -> QueueGroupRecord: ...
    async def delete(self, topic: str, name: str, timeout_ms: int) -> None: ...


class Queues(Protocol):
    """Queues of partitions that this node leads: what ``raftmq.replica.queues.host.QueueHost`` offers. NotLeader is
    raised where another node (or nobody) leads the partition."""

    async def receive(self, group_id: GroupId, group: QueueGroupRecord, wish: Wish, wait_ms: int) -> Received: ...
    async def settle(
        self, group_id: GroupId, group: QueueGroupRecord, claims: Sequence[Claim], ruling: Ruling, timeout_ms: int
    ) -> list[Status]: ...
    async def hand_over(
        self, group_id: GroupId, group: QueueGroupRecord, handover: Handover, timeout_ms: int
    ) -> Ack | list[int]: ...
    async def processed(
        self, group_id: GroupId, group: QueueGroupRecord, keys: Sequence[bytes], timeout_ms: int
    ) -> list[tuple[int, Processed]]: ...
    async def extend(
        self, group_id: GroupId, group: QueueGroupRecord, claims: Sequence[Claim], lease_ms: int, timeout_ms: int
    ) -> list[Status]: ...
    async def depth(self, group_id: GroupId, group: QueueGroupRecord) -> Depth: ...
    async def peek(
        self, group_id: GroupId, group: QueueGroupRecord, place: Place, offset: int, most: int
    ) -> tuple[list[Peeked], Offset | None]: ...
    async def unrouted(self, group_id: GroupId, group: QueueGroupRecord, offset: int, most: int) -> list[Peeked]: ...
    async def redrive(
        self, group_id: GroupId, group: QueueGroupRecord, wanted: ParkedFilter, pace: Pace, timeout_ms: int
    ) -> RedriveCount: ...
    async def cancel(self, group_id: GroupId, group: QueueGroupRecord, offset: Offset, timeout_ms: int) -> bool: ...
    async def ask(self, group_id: GroupId, group: QueueGroupRecord, op: QueueOp, timeout_ms: int) -> QueueAnswer: ...


class Operations(Protocol):
    """Changes of who holds what, that take time: see ``raftmq.controller.operations``. To be asked of the controller's
    leader; NotLeader elsewhere. With `validate_only` nothing is begun."""

    async def add_node(
        self, node: NodeId, peer_host: str, peer_port: int, timeout_ms: int, *, validate_only: bool = False
    ) -> OperationRecord: ...
    async def drain_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord: ...
    async def remove_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord: ...
    async def move_replica(
        self,
        topic: str,
        partition: int,
        source: NodeId,
        target: NodeId,
        timeout_ms: int,
        *,
        validate_only: bool = False,
    ) -> OperationRecord: ...
    async def repair_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord: ...
    async def cancel(self, operation: int, timeout_ms: int) -> OperationRecord: ...

    def get(self, operation: int) -> OperationRecord:
        """Raises UnknownOperation."""

    def waits(self, operation: OperationRecord) -> str:
        """What it waits for now, or why it ended as it did."""


class Replicas(Protocol):
    """The replicas on this node, for those who describe them."""

    @property
    def groups(self) -> Mapping[GroupId, ReplicaGroup]: ...
    def group(self, group_id: GroupId) -> ReplicaGroup | None: ...
    def leadership(self, group_id: GroupId) -> Leadership | None: ...


class Host(Protocol):
    """The records of the partitions that this node leads: what ``raftmq.replica.host.ReplicaHost`` offers.

    NotLeader is raised where another node (or nobody) leads the group: the caller routes.
    """

    @property
    def replicas(self) -> Replicas: ...

    def disk_of(self, node: NodeId) -> DiskLevel: ...
    def leads(self, group_id: GroupId) -> bool: ...
    def leader_of(self, group_id: GroupId) -> tuple[NodeId, Term] | None: ...
    def in_sync(self, group_id: GroupId) -> tuple[NodeId, ...]: ...

    async def produce(
        self,
        group_id: GroupId,
        batch: CheckedBatch,
        acks: Acks,
        min_in_sync: int,
        timeout_ms: int,
        expected: Offset | None = None,
        limit: DepthLimit = NO_LIMIT,
    ) -> Ack: ...

    async def gather(
        self, group_id: GroupId, records: LooseRecords, acks: Acks, min_in_sync: int, timeout_ms: int, max_bytes: int
    ) -> Ack: ...

    def begin_gather(
        self,
        group_id: GroupId,
        records: LooseRecords,
        acks: Acks,
        min_in_sync: int,
        timeout_ms: int,
        max_bytes: int,
        done: Callable[[Ack | RaftmqError], None],
    ) -> bool: ...

    async def reached(self, group_id: GroupId, offset: Offset, wait_ms: int) -> None: ...

    async def fetch(
        self, group_id: GroupId, offset: Offset, max_bytes: int, min_bytes: int, max_wait_ms: int
    ) -> Fetched: ...

    def follows(self, group_id: GroupId) -> bool: ...

    async def fetch_replica(
        self, group_id: GroupId, offset: Offset, max_bytes: int, min_bytes: int, max_wait_ms: int, min_offset: Offset
    ) -> Fetched: ...

    async def bounds(self, group_id: GroupId, timeout_ms: int) -> Bounds: ...
    async def offset_at(self, group_id: GroupId, wall_ms: int) -> Offset: ...
    def transfer(self, group_id: GroupId, to: NodeId | None) -> NodeId: ...


class Forward(Protocol):
    """Hands a call to another node's ``Peer.Forward`` and returns the serialised response.

    Raises the other node's RaftmqError; ConnectionError where surely nothing was sent; grpc.RpcError for the rest.
    """

    async def __call__(self, node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes: ...
