"""What callers ask of a partition's queues, and what they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raftmq.ids import Offset
from raftmq.metadata.depth import DepthLimit
from raftmq.partition.queues.check import Depth as Places
from raftmq.partition.queues.commands import Verdict as Verdict
from raftmq.records.batch import CheckedBatch
from raftmq.replica.waits import Acks
from raftmq.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class Wish:
    """What a worker is ready to take."""

    worker: str
    messages: int
    """At most; at least 1."""
    bytes: int
    """Of records, softly: the message that exceeds it is the last."""
    lease_ms: int


class Delivery(NamedTuple):
    """A message in a worker's hands."""

    lease: int
    offset: Offset
    record: types_pb2.Record
    attempt: int
    failures: int
    wall_ms: int
    """When it was appended."""


@dataclass(frozen=True, slots=True)
class Received:
    """What one call got. No deliveries: there was nothing in time."""

    secret: bytes
    """Of the lease: whoever knows it may settle."""
    lease_ms: int
    waited_ms: int
    """Before the lease was asked for."""
    deliveries: list[Delivery]


class Claim(NamedTuple):
    """What a delivery token says: this message, under this lease."""

    lease: int
    offset: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict on some messages."""

    verdict: Verdict
    delay_ms: int | None = None
    """Of RETRY; None: as the group's back-off says."""
    reason: str = ""
    """Of PARK."""
    error: str = ""
    """Of RETRY and PARK: what went wrong, for people."""
    processed_keys: tuple[bytes, ...] = ()
    """Of ACK: one for each message, remembered in the same step; empty: none."""


@dataclass(frozen=True, slots=True)
class Handover:
    """Messages that are acknowledged, and what is appended in the same entry."""

    claims: Sequence[Claim]
    """At least one."""
    processed_keys: Sequence[bytes]
    """One for each claim (empty: none), or empty."""
    batch: CheckedBatch
    acks: Acks
    min_in_sync: int
    limit: DepthLimit
    """How deep the partition may be."""


class Depth(NamedTuple):
    """Where the records of a group are."""

    places: Places | None
    """Of those that the group knows; None: the partition has not heard of the group yet."""
    unseen: int
    """Records that it does not know yet."""
    breaker_until_ms: int | None = None
    """By the wall clock: until when the breaker is open, or was, with no success since; None: it is closed."""
    is_trying: bool = False
    """It was open: one at a time is handed out."""


def by_lease(claims: Sequence[Claim]) -> dict[tuple[int, bytes], list[int]]:
    """Positions of `claims`, by lease and secret."""
    leases: dict[tuple[int, bytes], list[int]] = {}
    for position, (lease, _, secret) in enumerate(claims):
        leases.setdefault((lease, secret), []).append(position)
    return leases
