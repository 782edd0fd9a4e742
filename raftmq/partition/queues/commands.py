"""What can be asked of the queue groups of a partition: ops, their bytes in the log, and what they are answered.

An op is a request. Leaders propose any number of them in one entry (``QueueCommand``); what becomes of each is decided
when the entry is applied, in order, by the entry's own stamps, by every replica alike. The answers stand in
``Applied.queue``, one for each op. An op that is refused has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from raftmq.ids import LeaseId, Offset, QueueId
from raftmq.partition.queues.settings import QueueSettings

SECRET_BYTES = 16
"""Of a lease: random, made by the leader, known to the worker only."""
GRANT_MAX = 10_000
"""Most records of one grant."""
REASON_BYTES_MAX = 256
ERROR_BYTES_MAX = 4096
PROCESSED_KEY_BYTES_MAX = 256


class Verdict(IntEnum):
    """What a worker says of a record. The numbers are in the log."""

    ACK = 1
    RELEASE = 2
    """Back at once, without a penalty."""
    RETRY = 3
    """It failed: again after a while, or to the end that the group's settings have for it."""
    PARK = 4
    """Kept aside, with a reason."""


# -- ops ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configure:
    """Make the group (it begins at `start`, or at what is nearest to it in the log), or change its settings.

    Answer: Done; Refused STALE where the settings here are as new or newer.
    """

    group: QueueId
    settings: QueueSettings
    start: Offset


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget the group with everything that is known of it. Answer: Done."""

    group: QueueId


@dataclass(frozen=True, slots=True)
class Special:
    """A record that is not delivered like any other."""

    offset: Offset
    priority: int = 0
    """0 to 9; the highest is delivered first."""
    deliver_at_ms: int = 0
    """Wall milliseconds: not before; 0: at once."""
    expires_at_ms: int = 0
    """Not at or after; 0: it never expires."""


@dataclass(frozen=True, slots=True)
class Introduce:
    """Records [first, next) are made known to the group.

    Answer: Introduced; Refused STALE where `first` is not exactly its frontier, or `next` is not committed.
    """

    group: QueueId
    first: Offset
    next: Offset
    keys: Sequence[int] = ()
    """64-bit hash of each record's key, 0: none; or empty: no record has one. Only groups ordered by key need them."""
    lanes: Sequence[int] = ()
    """64-bit hash of what each record's turn goes by; or empty: all 0. Only fair groups need them."""
    specials: Sequence[Special] = ()
    """By offset."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Lease up to `max` ready records to `worker`. Answer: Granted, perhaps without records."""

    group: QueueId
    worker: str
    max: int
    """1 to GRANT_MAX."""
    secret: bytes
    """SECRET_BYTES of randomness."""
    lease_ms: int = 0
    """0: as the group's settings say."""


@dataclass(frozen=True, slots=True)
class Settle:
    """`verdict` on records of one lease. Answer: Settled, with a status for each."""

    group: QueueId
    lease: LeaseId
    secret: bytes
    verdict: Verdict
    offsets: Sequence[int]
    delay_ms: int | None = None
    """Of a RETRY; None: the group's backoff."""
    reason: str = ""
    """Of a PARK, or of a RETRY that leads to one."""
    error: str = ""
    processed_keys: Sequence[bytes] = ()
    """Of an ACK: empty, or one for each offset (empty: none)."""


@dataclass(frozen=True, slots=True)
class Extend:
    """Keep a lease for `lease_ms` from now on; never shorter than before. Answer: Extended; Refused LEASE_EXPIRED."""

    group: QueueId
    lease: LeaseId
    secret: bytes
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Seek:
    """The group's state begins anew at `offset` (or what is nearest to it in the log): leases end, parked records and
    processed keys are forgotten. Settings, pause and totals stay. Answer: Sought."""

    group: QueueId
    offset: Offset


@dataclass(frozen=True, slots=True)
class Pause:
    """Grant nothing until Resume. Answer: Done."""

    group: QueueId


@dataclass(frozen=True, slots=True)
class Resume:
    """Grant again, also where the breaker has paused the group. Answer: Done."""

    group: QueueId


@dataclass(frozen=True, slots=True)
class Redrive:
    """Deliver parked records again, with their failures forgotten. Answer: Redriven."""

    group: QueueId
    offsets: Sequence[int]


@dataclass(frozen=True, slots=True)
class Routed:
    """Parked records stand in a topic of dead letters, too; `remove`: and are final here. Those that are not parked are
    passed over. Answer: Done."""

    group: QueueId
    offsets: Sequence[int]
    remove: bool
    parked_ticks: Sequence[int] = ()
    """For each of them the log tick at which it was parked: one that has been parked again since is another letter, and
    passed over. Empty: whatever letter it is. (The wall stamp may stand still, so that it names nothing.)"""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Do not deliver a record that is not due yet, nor later.

    Answer: Done; Refused NOT_INTRODUCED, or NOT_WAITING where it is due, handed out or final.
    """

    group: QueueId
    offset: Offset


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep a record beside the log, for as long as it is open in any group: then the log need not keep it.

    Answer: Done; Refused NOT_NEEDED where no group has it open, or the log has lost it already.
    """

    offset: Offset
    record: bytes = field(repr=False)
    """Whatever the leader needs to deliver it."""


QueueOp = (
    Configure | Remove | Introduce | Grant | Settle | Extend | Seek | Pause | Resume | Redrive | Routed | Cancel | Hold
)


def bytes_at_most(op: QueueOp) -> int:
    """What `op` adds to an entry, roughly and rather too much, without encoding it."""
    match op:
        case Settle():
            texts = 4 * (len(op.reason) + len(op.error))
            return 64 + 10 * len(op.offsets) + texts + sum(len(key) + 3 for key in op.processed_keys)
        case Introduce():
            return 64 + 10 * (len(op.keys) + len(op.lanes)) + 48 * len(op.specials)
        case Hold():
            return 32 + len(op.record)
        case Redrive():
            return 32 + 10 * len(op.offsets)
        case Routed():
            return 32 + 10 * (len(op.offsets) + len(op.parked_ticks))
        case Grant():
            return 64 + 4 * len(op.worker)
        case _:
            return 256


@dataclass(frozen=True, slots=True)
class QueueCommand:
    """The body of one entry."""

    ops: tuple[QueueOp, ...]


# -- answers -----------------------------------------------------------------------------------------------------------


class Refusal(IntEnum):
    """Why nothing came of an op."""

    UNKNOWN_GROUP = 1
    STALE = 2
    LEASE_EXPIRED = 3
    NOT_INTRODUCED = 4
    NOT_WAITING = 5
    NOT_NEEDED = 6


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing has changed."""

    reason: Refusal


@dataclass(frozen=True, slots=True)
class Done:
    """As asked."""


@dataclass(frozen=True, slots=True)
class Introduced:
    frontier: Offset


@dataclass(frozen=True, slots=True)
class Granted:
    """`offsets` in the order in which they are to be delivered; empty: nothing was ready, and there is no lease."""

    lease: LeaseId
    """0 without records."""
    deadline: int
    """Log tick at which it runs out."""
    offsets: Sequence[int]
    again: Mapping[int, tuple[int, int]]
    """Offsets that were handed out before: (attempt, failures)."""

    def attempt(self, offset: int) -> int:
        """Which hand-out of this record it is, from 1."""
        return self.again.get(offset, (1, 0))[0]

    def failures(self, offset: int) -> int:
        """How often this record has failed so far."""
        return self.again.get(offset, (1, 0))[1]


class Status(IntEnum):
    """What came of a verdict on one record."""

    OK = 1
    DUPLICATE = 2
    """This lease has said the same before: nothing was done, and all is well."""
    LEASE_EXPIRED = 3
    """The lease has run out, is not known, or has said something else before. Nothing was done."""
    PARKED = 4
    """A retry of a record that has failed too often."""
    DROPPED = 5
    """The same, in a group that asked for it."""
    ALREADY_PROCESSED = 6
    """Acknowledged; but its key had been remembered as processed before."""


@dataclass(frozen=True, slots=True)
class Settled:
    statuses: Sequence[Status]
    """In the order of the op's offsets."""


@dataclass(frozen=True, slots=True)
class Extended:
    deadline: int
    """Log tick."""


@dataclass(frozen=True, slots=True)
class Sought:
    offset: Offset


@dataclass(frozen=True, slots=True)
class Redriven:
    offsets: Sequence[int]
    not_parked: Sequence[int]
    looping: Sequence[int]
    """Redriven so often that the group's settings forbid it."""


QueueAnswer = Done | Refused | Introduced | Granted | Settled | Extended | Sought | Redriven
DONE = Done()
