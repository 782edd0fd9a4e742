"""Value objects of the client: what goes in and comes out, none of it protobuf.

What is made once per record is a NamedTuple (three times cheaper to make than a frozen dataclass), everything else a
frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from raftmq.v1 import types_pb2

Overflow = Literal["reject", "block", "drop_oldest", "sample", "drop_lowest_priority"]
"""What becomes of records for a partition that is as deep as its topic allows."""

Headers = Sequence[tuple[str, bytes]]


class Acks(Enum):
    """How far a batch must have come before its producer is answered."""

    ALL = types_pb2.ACKS_ALL
    """Committed, and durable on every replica that is in sync. The default."""
    QUORUM = types_pb2.ACKS_QUORUM
    """Committed: durable on a majority of the replicas."""
    LEADER = types_pb2.ACKS_LEADER
    """Durable on the leader only. May be lost with the leader."""
    NONE = types_pb2.ACKS_NONE
    """Not waited for. May be lost."""


class Compression(Enum):
    """What a producer does to the records of a batch. Consumers find it in the batch, and undo it."""

    NONE = types_pb2.CODEC_UNSPECIFIED
    ZSTD = types_pb2.CODEC_ZSTD
    LZ4 = types_pb2.CODEC_LZ4


class Isolation(Enum):
    """What a consumer may see. Equal until there are transactions."""

    COMMITTED = types_pb2.ISOLATION_LEVEL_UNSPECIFIED
    READ_COMMITTED = types_pb2.ISOLATION_LEVEL_READ_COMMITTED


class NewRecord(NamedTuple):
    """A record to be sent; ``None`` and empty are different keys and values."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None
    """Milliseconds since the Unix epoch; None: none is stored."""


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """Proof of an accepted batch."""

    topic: str
    partition: int
    base_offset: int | None
    """Offset of the first record. None for a duplicate so old that the offset is no longer known, and for NONE."""
    count: int
    leader_epoch: int
    log_index: int
    append_time_ms: int
    """When the leader appended it, in milliseconds since the Unix epoch, by the leader's clock."""
    replicas: tuple[int, ...]
    """Nodes on whose disks it was known to be when it was acknowledged."""
    duplicate: bool
    """It had been accepted before (a retry); the receipt tells where it went then."""
    queue_us: int
    sync_us: int
    replication_us: int
    """Where the leader's time went, in microseconds."""
    latency_us: int
    """From the batch's first record entering the producer to the answer, in microseconds of the client's clock."""
    attempts: int
    """How many times it was sent, at least 1."""


class RecordReceipt(NamedTuple):
    """Proof of an accepted record: its batch's receipt and its place in the batch."""

    batch: BatchReceipt
    position: int

    @property
    def topic(self) -> str:
        return self.batch.topic

    @property
    def partition(self) -> int:
        return self.batch.partition

    @property
    def offset(self) -> int | None:
        """None where the batch's ``base_offset`` is."""
        return None if self.batch.base_offset is None else self.batch.base_offset + self.position

    @property
    def leader_epoch(self) -> int:
        return self.batch.leader_epoch

    @property
    def timestamp_ms(self) -> int:
        """When the leader appended it, in milliseconds since the Unix epoch."""
        return self.batch.append_time_ms

    @property
    def replicas(self) -> tuple[int, ...]:
        return self.batch.replicas

    @property
    def duplicate(self) -> bool:
        return self.batch.duplicate


class ConsumedRecord(NamedTuple):
    """A record as it was read back."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int | None
    """The producer's time in milliseconds since the Unix epoch; None: it gave none."""
    append_time_ms: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class ConsumedBatch:
    """Consecutive records of one partition. Never empty."""

    topic: str
    partition: int
    records: tuple[ConsumedRecord, ...]
    next_offset: int
    """Where to go on after it."""
    high_watermark: int
    """First offset that was not visible yet when the batch was fetched: the lag is the difference."""


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """Bounds of a partition: records can be read in [log_start_offset, high_watermark)."""

    partition: int
    log_start_offset: int
    high_watermark: int
    leader_epoch: int
    offset_appended_at: int | None = None
    """First offset appended at the time asked for, or later; the high watermark where there is none yet. None: no time
    was asked for."""


@dataclass(frozen=True, slots=True)
class ProducerDescription:
    """What a partition remembers of one idempotent producer."""

    partition: int
    producer_id: int
    producer_epoch: int
    first_sequence: int
    """A batch of this sequence or a later one is told where it went if it is sent again; of earlier ones it is only
    known that they were accepted."""
    last_sequence: int
    last_offset: int
    """Of the last record."""
    last_append_time_ms: int
    """When the last batch was appended, in milliseconds since the Unix epoch, by the leader's clock."""
    expires_in_ms: int
    """It is forgotten unless it appends within so much time in which the partition has a leader."""


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    partition: int
    group_id: int
    leader: int | None
    """Node id; None: none is known."""
    leader_epoch: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    """Empty where the answering node was not told."""


@dataclass(frozen=True, slots=True)
class TopicDescription:
    name: str
    topic_id: int
    partitions: tuple[PartitionDescription, ...]
    replication_factor: int
    min_in_sync_replicas: int
    max_batch_bytes: int
    retention_ms: int = 0
    """Older records may be removed; 0: kept for ever."""
    retention_bytes: int = 0
    """A partition's oldest records may be removed while so many bytes of newer ones stay; 0: without limit."""
    message_id_window_ms: int = 0
    message_id_window_count: int = 0
    """How long, and how many at most, each partition remembers message ids."""
    max_depth_records: int = 0
    max_depth_bytes: int = 0
    max_depth_age_ms: int = 0
    """How deep each partition may be, by any of the three; 0: without limit."""
    overflow: Overflow = "reject"
    sample_one_in: int = 0
    """Of ``sample``: of so many batches one is taken."""
    version: int = 0
    """From 1; grows whenever the settings are altered."""


@dataclass(frozen=True, slots=True)
class QuotaDescription:
    """What a client may do in a second, over all nodes; 0: without limit."""

    client_id: str
    """Empty: each client that has no quota of its own."""
    produce_bytes_per_s: int
    fetch_bytes_per_s: int
    requests_per_s: int


@dataclass(frozen=True, slots=True)
class NodeDescription:
    node_id: int
    host: str
    port: int
    rack: str
    fenced: bool
    """Its session with the controller lapsed, or it has none."""

    def __str__(self) -> str:
        return f"node {self.node_id} at {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClusterNodeDescription:
    info: NodeDescription
    boot_count: int
    last_heard_ms: int
    """Time since the controller last heard of it."""
    led_partitions: int
    replicas: int
    controller_voter: bool
    disk: str = ""
    """Room on its disk: "ample", "low" (it takes no records as a leader), "full" (nor as a follower); "" if the node
    that was asked does not know."""
    leaving: bool = False
    """It is drained, or being drained."""
    max_cluster_version: int = 0
    """The newest cluster version that it understands; 0: the node that was asked is too old to tell."""


@dataclass(frozen=True, slots=True)
class ClusterVersion:
    """What nodes may write for each other to read. It rises by itself once all nodes understand more."""

    version: int
    newest: int
    """That any node understands."""
    behind: tuple[int, ...] = ()
    """Nodes that understand less than that, and hold it back until they are upgraded or removed."""
    unheard: tuple[int, ...] = ()
    """Nodes that have yet to say how far they understand."""


@dataclass(frozen=True, slots=True)
class OperationDescription:
    """A change of who holds what in the cluster, which takes time."""

    operation_id: int
    """0: it was only checked."""
    kind: str
    """add_node, drain_node, remove_node, move_replica or repair_node."""
    state: str
    """running, cancelling, done or cancelled."""
    node_id: int
    """The node that it is about; of a move the one that the replica leaves."""
    topic: str
    """Of a move, with `partition` and `to_node_id`; empty where the topic was deleted meanwhile."""
    partition: int
    to_node_id: int
    moves: int
    """Replicas that were to be moved when it began, and `moves_left` of them."""
    moves_left: int
    reason: str
    """What it waits for now; why it ended as it did, where `state` does not say it all."""
    started_ms: int
    """Since the Unix epoch."""
    ended_ms: int | None
    """None: it is not over."""

    @property
    def is_over(self) -> bool:
        return self.ended_ms is not None


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    cluster_id: str
    name: str
    nodes: tuple[ClusterNodeDescription, ...]
    controller: int | None
    """Node id of the controller's leader; None: none is known."""
    controller_epoch: int
    topics: tuple[TopicDescription, ...]
    version: ClusterVersion | None = None
    """None: the node that was asked is too old to tell."""


@dataclass(frozen=True, slots=True)
class ReplicaDescription:
    """What a node knows of one replica that it holds. The controller's group has the empty topic name."""

    topic: str
    partition: int
    group_id: int
    role: str
    """follower, pre_candidate, candidate or leader."""
    term: int
    leader: int | None
    last_index: int
    persisted_index: int
    commit_index: int
    applied_index: int
    log_start_offset: int
    log_end_offset: int
    high_watermark: int
    suspect: bool
    """It may have lost synced data at its last start, and does not vote until it has caught up."""
    in_sync: tuple[int, ...]
    lag: Mapping[int, int]
    """Entries that each member is behind. Both of these are told by leaders only."""
    chain_hash: bytes
    chain_index: int


@dataclass(frozen=True, slots=True)
class ServerDescription:
    node_id: int
    version: str
    api_level: int
    boot_count: int
    max_message_bytes: int
    max_batch_bytes: int
