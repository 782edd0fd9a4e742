"""Everything that clients asked for, and what they were told: the outside view of the cluster.

An operation ends in one of three ways: OK, FAILED (surely not done) or UNKNOWN. Values are unique, so that a record
that is read can be traced to the one call that sent it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from raftmq.chaos.queue_events import Queue
from raftmq.client.types import Acks, ConsumedRecord, PartitionOffsets, RecordReceipt
from raftmq.errors import OffsetOutOfRange, Outcome, RaftmqError

if TYPE_CHECKING:
    from raftmq.sim.group_history import GroupEvent


class Partition(NamedTuple):
    """Of a topic that is never deleted, so that its name says which one it is."""

    topic: str
    number: int


class Told(Enum):
    """What a client knows of its operation."""

    PENDING = "pending"
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Send:
    """One record handed to a producer."""

    value: bytes
    partition: Partition
    acks: Acks
    floor: int
    """One more than the highest offset that had been acknowledged in the partition when it was handed in."""
    told: Told = Told.PENDING
    offset: int | None = None
    epoch: int = 0
    log_index: int = 0
    replicas: tuple[int, ...] = ()
    reason: str = ""
    is_surely_stored: bool = False
    """It failed, and its producer was told that it is committed all the same."""

    @property
    def is_promised(self) -> bool:
        """It was acknowledged at a level that survives the loss of a node."""
        return self.told is Told.OK and self.acks in (Acks.ALL, Acks.QUORUM)


@dataclass(frozen=True, slots=True)
class Poll:
    """One record that a consumer was given."""

    client: str
    partition: Partition
    expected: int
    record: ConsumedRecord


@dataclass(frozen=True, slots=True)
class Bounds:
    """An answer to ListOffsets. ``floor``: what it must at least say, as of when it was asked."""

    partition: Partition
    floor: int
    answer: PartitionOffsets


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """A read that was told that what it wants is gone, with both bounds."""

    partition: Partition
    offset: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Messages that a worker acknowledged, or tried to, together with records that came of them."""

    queue: str
    partition: Partition
    claims: tuple[tuple[int, int], ...]
    """Lease and offset of each message."""
    keys: tuple[bytes, ...]
    """What the work of each is known by; or empty."""
    values: tuple[bytes, ...]
    """Of the records; no two attempts have the same."""


Operation: TypeAlias = "Send | Poll | Bounds | OutOfRange | GroupEvent"


class Oracle:
    """The history. ``heard`` is called when an operation has ended."""

    def __init__(self, heard: Callable[[Operation], None]) -> None:
        self.sends: dict[bytes, Send] = {}
        self.ends: dict[Partition, int] = {}
        """One more than the highest offset acknowledged, by partition."""
        self.watermarks: dict[Partition, int] = {}
        """Highest watermark that any client was told."""
        self.topics_created: dict[int, str] = {}
        """Name by topic id, of creations that were told to have worked."""
        self.queues: dict[str, Queue] = {}
        """What workers of queue groups were given, and said; by topic and group."""
        self.handed: list[HandedOver] = []
        self.cancelled: set[tuple[Partition, int]] = set()
        """Records that operators did not want to be delivered, whatever became of that."""
        self.counts: Counter[str] = Counter()
        self._heard = heard

    # -- records -----------------------------------------------------------------------------------------------------

    def sending(self, value: bytes, partition: Partition, acks: Acks) -> Send:
        """A record is handed in."""
        assert value not in self.sends, "values are unique"
        send = self.sends[value] = Send(value, partition, acks, self.ends.get(partition, 0))
        return send

    def sent(self, send: Send, receipt: RecordReceipt) -> None:
        """It was acknowledged."""
        send.told, send.offset, send.epoch = Told.OK, receipt.offset, receipt.leader_epoch
        send.log_index, send.replicas = receipt.batch.log_index, receipt.replicas
        self.counts["records acknowledged"] += 1
        if receipt.duplicate:
            self.counts["duplicates answered"] += 1
        if receipt.batch.attempts > 1:
            self.counts["records retried"] += 1
        self._heard(send)
        if send.is_promised and send.offset is not None:
            self.ends[send.partition] = max(self.ends.get(send.partition, 0), send.offset + 1)

    def unsent(self, send: Send, error: BaseException) -> None:
        """It was not, as far as its producer knows."""
        surely = isinstance(error, RaftmqError) and error.outcome is Outcome.NOT_APPLIED
        send.told = Told.FAILED if surely else Told.UNKNOWN
        send.is_surely_stored = isinstance(error, RaftmqError) and error.outcome is Outcome.APPLIED
        send.reason = error.reason if isinstance(error, RaftmqError) else repr(error)
        self.counts[f"records {send.told.value}"] += 1
        self.counts[f"error {send.reason}"] += 1
        self._heard(send)

    def polled(self, client: str, partition: Partition, expected: int, record: ConsumedRecord) -> None:
        """A consumer was given a record; it expected the offset `expected`."""
        self.counts["records consumed"] += 1
        self._heard(Poll(client, partition, expected, record))

    def out_of_range(self, partition: Partition, offset: int, error: OffsetOutOfRange) -> int:
        """A read at `offset` was refused. Where it may go on. Raises the error where `offset` is not too low."""
        bounds = error.metadata
        told = OutOfRange(partition, offset, int(bounds["log_start_offset"]), int(bounds["high_watermark"]))
        if told.start <= offset:
            raise error
        self.counts["reads below the log start"] += 1
        self._heard(told)
        return told.start

    # -- questions ---------------------------------------------------------------------------------------------------

    def bounds_floor(self, partition: Partition) -> int:
        """What an answer to a question that is asked now must at least say."""
        return max(self.ends.get(partition, 0), self.watermarks.get(partition, 0))

    def bounds(self, partition: Partition, floor: int, answer: PartitionOffsets) -> None:
        """A client was told bounds."""
        self.counts["bounds answered"] += 1
        self._heard(Bounds(partition, floor, answer))
        self.watermarks[partition] = max(self.watermarks.get(partition, 0), answer.high_watermark)
