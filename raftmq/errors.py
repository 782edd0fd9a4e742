"""Every error that raftmq tells anybody, in one tree. The tree *is* the table of reasons.

    RaftmqError
    ├── InvalidArgument          INVALID_ARGUMENT     the request itself is wrong; names the field
    │   └── CorruptBatch         INVALID_ARGUMENT     checksum, count or sequence content does not fit
    ├── NotFound                 NOT_FOUND
    │   ├── UnknownTopic
    │   ├── UnknownPartition
    │   ├── UnknownNode
    │   ├── UnknownGroup         a consumer group
    │   ├── UnknownOperation
    │   ├── UnknownQueueGroup
    │   ├── UnknownExchange
    │   └── UnknownBinding
    ├── AlreadyExists            ALREADY_EXISTS
    ├── Unavailable              UNAVAILABLE          later, or elsewhere, it may work
    │   ├── NoLeader
    │   ├── NotEnoughReplicas
    │   ├── NotReady             this node cannot answer yet (starting, catching up)
    │   ├── ShuttingDown
    │   └── StorageFailed        the node stops; nothing more can be said
    ├── NotLeader                FAILED_PRECONDITION  only when the client asked not to be forwarded
    ├── PreconditionFailed       FAILED_PRECONDITION  any other state that forbids the call
    │   ├── FencedProducer, OutOfOrderSequence, UnknownProducer, Unroutable (no binding fits), QueuePaused, LeaseExpired
    │   └── UnknownMember, FencedMember (its instance id is another's), StaleMember, GroupNotEmpty, ClusterTooOld
    ├── UnexpectedOffset         ABORTED              a conditional append that came too late
    ├── UnexpectedVersion        ABORTED              a conditional change that came too late
    ├── OffsetOutOfRange         OUT_OF_RANGE         with the bounds
    ├── Exhausted                RESOURCE_EXHAUSTED   with a time to wait
    │   └── Overloaded, QueueFull, QuotaExceeded, MemoryPressure, StorageFull
    ├── OverflowDropped          RESOURCE_EXHAUSTED   by the topic's own policy: not to be sent again
    ├── MessageTooLarge          RESOURCE_EXHAUSTED
    ├── DeadlineExceeded         DEADLINE_EXCEEDED    outcome says whether it was or may be applied
    ├── LeadershipLost           UNAVAILABLE          appended, then the leader changed: outcome UNKNOWN
    ├── DataLoss                 DATA_LOSS
    ├── Unimplemented            UNIMPLEMENTED
    └── InternalError            INTERNAL             a bug; carries an id, never a text from inside

An error carries an *outcome*: NOT_APPLIED (surely nothing happened), UNKNOWN (it may have happened, or may yet) or
APPLIED (it happened). A status that arrives without raftmq's trailers means UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar, Self


class Outcome(Enum):
    """What became of the request that this error answers."""

    NOT_APPLIED = "NOT_APPLIED"
    UNKNOWN = "UNKNOWN"
    APPLIED = "APPLIED"


class RaftmqError(Exception):
    """Base of all errors. Class attributes are policy, instance attributes are the case at hand.

    reason: stable, upper case, what programs compare.
    code: name of the gRPC status code.
    retriable: the same request may succeed later, unchanged.
    refresh_metadata: the caller's picture of the cluster is probably stale.
    """

    reason: ClassVar[str] = "UNKNOWN"
    code: ClassVar[str] = "UNKNOWN"
    default_outcome: ClassVar[Outcome] = Outcome.UNKNOWN
    retriable: ClassVar[bool] = False
    refresh_metadata: ClassVar[bool] = False

    by_reason: ClassVar[dict[str, type[RaftmqError]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "reason" in cls.__dict__:
            assert cls.reason not in RaftmqError.by_reason, f"two errors with the reason {cls.reason}"
            RaftmqError.by_reason[cls.reason] = cls

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome | None = None,
        field: str = "",
        retry_after_ms: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = outcome if outcome is not None else self.default_outcome
        self.field = field
        self.retry_after_ms = retry_after_ms
        self.metadata: dict[str, str] = dict(metadata or {})

    def copy(self) -> Self:
        """One of its own for each of those who wait: whoever hands an error on may amend it."""
        return type(self)(
            self.message,
            outcome=self.outcome,
            field=self.field,
            retry_after_ms=self.retry_after_ms,
            metadata=self.metadata,
        )


class InvalidArgument(RaftmqError):
    """The request is wrong whatever the state of the cluster; ``field`` is its path in the request."""

    reason = "INVALID_ARGUMENT"
    code = "INVALID_ARGUMENT"
    default_outcome = Outcome.NOT_APPLIED


class CorruptBatch(InvalidArgument):
    """A record batch whose checksum, count or size is not what its header says."""

    reason = "CORRUPT_BATCH"


class NotFound(RaftmqError):
    reason = "NOT_FOUND"
    code = "NOT_FOUND"
    default_outcome = Outcome.NOT_APPLIED


class UnknownTopic(NotFound):
    reason = "UNKNOWN_TOPIC"
    refresh_metadata = True


class UnknownPartition(NotFound):
    reason = "UNKNOWN_PARTITION"
    refresh_metadata = True


class UnknownNode(NotFound):
    reason = "UNKNOWN_NODE"


class UnknownOperation(NotFound):
    reason = "UNKNOWN_OPERATION"


class UnknownQueueGroup(NotFound):
    """The topic has no queue group of that name. Receive and SetGroup make one, nothing else does."""

    reason = "UNKNOWN_QUEUE_GROUP"


class UnknownExchange(NotFound):
    reason = "UNKNOWN_EXCHANGE"


class UnknownBinding(NotFound):
    reason = "UNKNOWN_BINDING"


class UnknownGroup(NotFound):
    reason = "UNKNOWN_GROUP"


class AlreadyExists(RaftmqError):
    reason = "ALREADY_EXISTS"
    code = "ALREADY_EXISTS"
    default_outcome = Outcome.NOT_APPLIED


class Unavailable(RaftmqError):
    """Refused for now. NOT_APPLIED unless said otherwise."""

    reason = "UNAVAILABLE"
    code = "UNAVAILABLE"
    default_outcome = Outcome.NOT_APPLIED
    retriable = True


class NoLeader(Unavailable):
    """No leader is known for the partition: an election is under way, or a quorum is missing."""

    reason = "NO_LEADER"
    refresh_metadata = True


class NotEnoughReplicas(Unavailable):
    """Fewer replicas are in sync than ``min_in_sync_replicas`` asks for."""

    reason = "NOT_ENOUGH_REPLICAS"


class NotReady(Unavailable):
    """This node cannot answer yet: it starts, waits to be admitted, or is behind."""

    reason = "NOT_READY"


class ShuttingDown(Unavailable):
    reason = "SHUTTING_DOWN"
    refresh_metadata = True


class StorageFailed(Unavailable):
    """A write or sync failed; the node stops. What was under way may or may not survive."""

    reason = "STORAGE_FAILED"
    default_outcome = Outcome.UNKNOWN
    refresh_metadata = True


class LeadershipLost(Unavailable):
    """The batch was appended here, then this node ceased to lead: another leader may have kept it or not."""

    reason = "LEADERSHIP_LOST"
    default_outcome = Outcome.UNKNOWN
    refresh_metadata = True


class NotLeader(RaftmqError):
    """Said only to clients that asked not to be forwarded; metadata has ``leader_node`` and ``leader_epoch``."""

    reason = "NOT_LEADER"
    code = "FAILED_PRECONDITION"
    default_outcome = Outcome.NOT_APPLIED
    retriable = True
    refresh_metadata = True


class PreconditionFailed(RaftmqError):
    """The state of the cluster forbids the call; the message says what would have to change."""

    reason = "PRECONDITION_FAILED"
    code = "FAILED_PRECONDITION"
    default_outcome = Outcome.NOT_APPLIED


class FencedProducer(PreconditionFailed):
    """A newer epoch of this producer id has written to the partition."""

    reason = "PRODUCER_FENCED"


class OutOfOrderSequence(PreconditionFailed):
    """The batch does not follow the last one of its producer: one in between is missing."""

    reason = "OUT_OF_ORDER_SEQUENCE"


class UnknownProducer(PreconditionFailed):
    """A sequence above zero from a producer that the partition knows nothing of (state expired or never was)."""

    reason = "UNKNOWN_PRODUCER"


class LeaseExpired(PreconditionFailed):
    """Of one message: its lease's time was up, or another verdict was given under it. Somebody else may have it."""

    reason = "LEASE_EXPIRED"


class QueuePaused(PreconditionFailed):
    """Somebody paused the group: no messages; verdicts are taken. (Messages that a breaker keeps back are no error.)"""

    reason = "QUEUE_PAUSED"
    retriable = True


class UnknownMember(PreconditionFailed):
    """The consumer is no member of the group (any more): what it read belongs to others. Stop, then join anew."""

    reason = "UNKNOWN_MEMBER"


class FencedMember(PreconditionFailed):
    reason = "FENCED_MEMBER"


class StaleMember(PreconditionFailed):
    reason = "STALE_MEMBER"


class GroupNotEmpty(PreconditionFailed):
    reason = "GROUP_NOT_EMPTY"


class ClusterTooOld(PreconditionFailed):
    reason = "CLUSTER_TOO_OLD"


class Unroutable(PreconditionFailed):
    """A mandatory record that reaches no topic: no binding of its exchange fits, nor one of the alternates."""

    reason = "UNROUTABLE"


class UnexpectedOffset(RaftmqError):
    """The partition does not end where the caller expected; metadata has ``log_end_offset``. Look, then decide anew."""

    reason = "UNEXPECTED_OFFSET"
    code = "ABORTED"
    default_outcome = Outcome.NOT_APPLIED


class UnexpectedVersion(RaftmqError):
    """Somebody else has changed it since the caller looked; metadata has the present ``version``."""

    reason = "UNEXPECTED_VERSION"
    code = "ABORTED"
    default_outcome = Outcome.NOT_APPLIED


class OffsetOutOfRange(RaftmqError):
    """Metadata has ``log_start_offset`` and ``high_watermark``."""

    reason = "OFFSET_OUT_OF_RANGE"
    code = "OUT_OF_RANGE"
    default_outcome = Outcome.NOT_APPLIED


class Exhausted(RaftmqError):
    """Base of what there is no room for now, and may be later. Says how long to wait."""

    code = "RESOURCE_EXHAUSTED"
    default_outcome = Outcome.NOT_APPLIED
    retriable = True


class Overloaded(Exhausted):
    reason = "OVERLOADED"


class QueueFull(Exhausted):
    """The partition is as deep as its topic allows. Metadata has ``measure`` (records, bytes or age_ms), ``depth``,
    ``limit``, and the topic's policy as ``overflow``."""

    reason = "QUEUE_FULL"


class OverflowDropped(RaftmqError):
    """The partition is full, and its topic's policy gives up this batch, for it is not in the sample or of too low a
    priority. Metadata as of QueueFull. To send it again would only be another draw: that it is lost is meant."""

    reason = "OVERFLOW_DROPPED"
    code = "RESOURCE_EXHAUSTED"
    default_outcome = Outcome.NOT_APPLIED


class QuotaExceeded(Exhausted):
    """The client asks for more than its quota allows. Metadata has the ``client``, and the ``quota`` by its name."""

    reason = "QUOTA_EXCEEDED"


class MemoryPressure(Exhausted):
    """The node has no memory for the call. Metadata has what calls ``used``, are ``allowed``, and the ``limit``."""

    reason = "MEMORY_PRESSURE"


class StorageFull(Exhausted):
    """The disk of the leader, the ``node`` of the metadata, is almost full: it takes records again once there is room.
    Reading and deleting go on. Leadership goes to a replica with more room if there is one in sync."""

    reason = "STORAGE_FULL"
    refresh_metadata = True


class MessageTooLarge(RaftmqError):
    reason = "MESSAGE_TOO_LARGE"
    code = "RESOURCE_EXHAUSTED"
    default_outcome = Outcome.NOT_APPLIED


class DeadlineExceeded(RaftmqError):
    """The time ran out. With APPLIED, metadata has the receipt's ``base_offset``."""

    reason = "DEADLINE_EXCEEDED"
    code = "DEADLINE_EXCEEDED"
    retriable = True


class DataLoss(RaftmqError):
    """Stored bytes fail their checksum."""

    reason = "DATA_LOSS"
    code = "DATA_LOSS"


class Unimplemented(RaftmqError):
    reason = "UNIMPLEMENTED"
    code = "UNIMPLEMENTED"
    default_outcome = Outcome.NOT_APPLIED


class InternalError(RaftmqError):
    """A bug in raftmq. The text names an id that stands in the node's log beside the details."""

    reason = "INTERNAL"
    code = "INTERNAL"
