"""What queue groups are told, and tell: value objects of ``client.queues``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raftmq.errors import RaftmqError

State = Literal["ready", "leased", "delayed", "parked"]


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The rules of a group; see `raftmq.v1.QueueGroupSettings`. Times in milliseconds."""

    start: Literal["earliest", "latest"] = "earliest"
    """Where a new group begins."""
    ordered_by_key: bool = False
    """A key's next message is handed out only when the one before is acknowledged or parked. Cannot be altered."""
    lease_ms: int = 30_000
    attempts_max: int = 5
    """Failures after which a message is at its end."""
    backoff_first_ms: int = 1_000
    backoff_factor_percent: int = 200
    backoff_max_ms: int = 600_000
    backoff_jitter_percent: int = 20
    at_end: Literal["park", "drop"] = "park"
    drain_per_s: int = 0
    """Most messages handed out a second, over all partitions; 0: without limit."""
    fair_by: str = ""
    """"key", "header:NAME", or empty. Cannot be altered."""
    retention: Literal["log", "delete_on_ack", "all_groups"] = "log"
    processed_keys_max: int = 10_000
    breaker_failures: int = 0
    """So many failures in a row pause a partition for `breaker_pause_ms`; 0: never. `QueueCounts` tells of it."""
    breaker_pause_ms: int = 30_000
    paused: bool = False
    expiry_is_failure: bool = True
    redrives_max: int = 10
    dead_letter_topic: str = ""
    """Parked messages are copied to it, with headers that say why; empty: to none."""
    dead_letter_remove: bool = False
    """A message whose copy is acknowledged is parked no longer."""


@dataclass(frozen=True, slots=True)
class QueueGroupDescription:
    topic: str
    group: str
    settings: QueueSettings
    version: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many of a partition's records are in which state; see `raftmq.v1.QueueCounts`."""

    partition: int
    ready: int
    waiting: int
    leased: int
    delayed: int
    parked: int
    done: int
    unseen: int
    lowest_unfinished: int
    leases: int
    start: int
    acked: int
    retried: int
    expired_leases: int
    dropped: int
    expired: int
    skipped: int
    unrouted: int = 0
    """Parked, and not in the topic of dead letters yet."""
    breaker_open_until_ms: int | None = None
    """Until when the circuit breaker is open, in milliseconds since the Unix epoch by the clock of the partition's
    leader; None: it is not open."""
    breaker_trying: bool = False
    """It was open, and no message has been acknowledged since: they are handed out one at a time."""
    breaker_opened: int = 0
    """How often it has opened."""

    @property
    def backlog(self) -> int:
        """Everything that is not done: in whatever state, or not seen yet."""
        return self.ready + self.waiting + self.leased + self.delayed + self.parked + self.unseen


@dataclass(frozen=True, slots=True)
class PeekedMessage:
    """A record and its state; see `raftmq.v1.PeekedMessage`."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    append_time_ms: int
    """0: the record cannot be read, and has no key, value and headers here."""
    attempts: int
    failures: int
    worker: str
    remaining_ms: int | None
    reason: str
    error: str
    parked_at_ms: int | None
    redrives: int
    routed: bool = False
    """Its copy in the topic of dead letters is acknowledged."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of the parked messages of one partition that a filter chose."""

    partition: int
    matched: int
    redriven: int
    looping: int
    """Left parked: redriven as often as the group's settings allow."""
    remaining: int
    error: RaftmqError | None
    """The partition could not answer; the numbers are 0."""


@dataclass(frozen=True, slots=True)
class ProcessedKey:
    """Work that is remembered as done."""

    key: bytes
    partition: int
    offset: int
    """Of the message that was acknowledged with it."""
    processed_at_ms: int
    """When that was, in milliseconds since the Unix epoch, by the partition's clock."""
