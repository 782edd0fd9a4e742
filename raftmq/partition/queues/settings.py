"""How a queue group delivers: what the log says of it, and what follows for a failed record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from raftmq.internal.v1 import queues_pb2


class Ordering(IntEnum):
    """Which records wait for which. The numbers are in the log."""

    NONE = 0
    KEY = 1
    """A key's next record is handed out only when the one before is acknowledged or parked."""


class AtEnd(IntEnum):
    """What becomes of a record that has failed too often. The numbers are in the log."""

    PARK = 0
    DROP = 1


class QueueRetention(IntEnum):
    """What a group asks of the log. The numbers are in the log."""

    KEEP = 0
    """Nothing: the topic's retention takes records that nobody has taken, and they are counted as skipped."""
    DELETE_ON_ACK = 1
    """What is not final in this group stays; what is final in all such groups may go at once."""
    ALL_GROUPS = 2
    """The same for every group of the topic, whatever it says itself."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a record that failed is kept back: ``first_ms`` after its first failure, ``factor_percent`` of the time
    before after each further one, up to ``max_ms``; then up to ``jitter_percent`` of it is taken off."""

    first_ms: int = 1000
    factor_percent: int = 200
    max_ms: int = 10 * 60 * 1000
    jitter_percent: int = 20

    def delay_ms(self, failures: int, salt: int) -> int:
        """After so many failures (at least 1). `salt` decides on the jitter; the same one decides alike everywhere."""
        delay = self.first_ms
        for _ in range(failures - 1):
            if delay >= self.max_ms or self.factor_percent <= 100:
                break
            delay = delay * self.factor_percent // 100
        delay = min(delay, self.max_ms)
        return delay - delay * self.jitter_percent * _mixed(salt) // (100 << 16)


def _mixed(salt: int) -> int:
    """16 bits that look random (the multiplier of SplitMix64)."""
    salt = (salt ^ (salt >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFF_FFFF_FFFF_FFFF
    return ((salt ^ (salt >> 27)) * 0x94D049BB133111EB & 0xFFFF_FFFF_FFFF_FFFF) >> 48


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """All of it is decided on by whoever configures the group; a partition only follows."""

    version: int = 1
    """Grows with every change: an older one is refused."""
    ordering: Ordering = Ordering.NONE
    lease_ms: int = 30_000
    """Of a grant that does not say how long; at least 1."""
    attempts_max: int = 10
    """Failures after which a record is at its end. 0: it never is."""
    at_end: AtEnd = AtEnd.PARK
    backoff: Backoff = Backoff()
    expiry_is_failure: bool = True
    """A lease that runs out counts as a failure of its records, not only as a hand-out."""
    drain_per_s: int = 0
    """Records handed out a second. 0: as fast as they are taken."""
    is_fair: bool = False
    """Records carry lanes (``Introduce.lanes``), which are served in turn."""
    retention: QueueRetention = QueueRetention.KEEP
    processed_keys_max: int = 10_000
    """Keys remembered as processed, the newest."""
    breaker_failures: int = 0
    """So many failures in a row pause the group. 0: never."""
    breaker_pause_ms: int = 10_000
    redrives_max: int = 0
    """Redrives of one record. 0: without limit."""
    drain_parts: int = 1
    """So many partitions, 1 and more, share `drain_per_s` evenly. Grows with the topic, within a version."""

    @property
    def age(self) -> tuple[int, int]:
        """What is newer compares as greater."""
        return self.version, self.drain_parts

    def to_proto(self) -> queues_pb2.QueueSettings:
        return queues_pb2.QueueSettings(
            version=self.version,
            ordering=self.ordering,
            lease_ms=self.lease_ms,
            attempts_max=self.attempts_max,
            at_end=self.at_end,
            backoff_first_ms=self.backoff.first_ms,
            backoff_factor_percent=self.backoff.factor_percent,
            backoff_max_ms=self.backoff.max_ms,
            backoff_jitter_percent=self.backoff.jitter_percent,
            expiry_is_no_failure=not self.expiry_is_failure,
            drain_per_s=self.drain_per_s,
            is_fair=self.is_fair,
            retention=self.retention,
            processed_keys_max=self.processed_keys_max,
            breaker_failures=self.breaker_failures,
            breaker_pause_ms=self.breaker_pause_ms,
            redrives_max=self.redrives_max,
            drain_parts=self.drain_parts if self.drain_parts > 1 else 0,
        )

    @classmethod
    def from_proto(cls, message: queues_pb2.QueueSettings) -> QueueSettings:
        """Raises ValueError where a number means nothing."""
        if message.lease_ms == 0 or message.version == 0 or message.backoff_jitter_percent > 100:
            raise ValueError("settings of a queue group that mean nothing")
        return cls(
            message.version,
            Ordering(message.ordering),
            message.lease_ms,
            message.attempts_max,
            AtEnd(message.at_end),
            Backoff(
                message.backoff_first_ms,
                message.backoff_factor_percent,
                message.backoff_max_ms,
                message.backoff_jitter_percent,
            ),
            not message.expiry_is_no_failure,
            message.drain_per_s,
            message.is_fair,
            QueueRetention(message.retention),
            message.processed_keys_max,
            message.breaker_failures,
            message.breaker_pause_ms,
            message.redrives_max,
            message.drain_parts or 1,
        )
