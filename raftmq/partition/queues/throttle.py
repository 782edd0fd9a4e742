"""What holds a group back although records are ready: its drain rate, and its breaker. In whole numbers of log tick."""

from __future__ import annotations

from typing import NamedTuple

_RECORD = 1000
"""Tokens that a record costs; a rate of n records a second brings n of them a millisecond. Where several partitions
share the rate, a record costs so many times as much in each of them."""
BURST_MS = 100
"""What is not taken is saved up for so long."""


class Rate(NamedTuple):
    """Records a second, at least 1, of so many partitions together."""

    per_s: int
    parts: int = 1

    @property
    def record(self) -> int:
        """Tokens."""
        return _RECORD * self.parts


class Drain:
    """A bucket of tokens. All partitions together have a record's worth at first."""

    __slots__ = ("tick", "tokens")

    def __init__(self, tokens: int = _RECORD, tick: int = 0) -> None:
        self.tokens = tokens
        self.tick = tick
        """When they were counted."""

    def allowed(self, rate: Rate, log_tick: int) -> int:
        """How many records may be handed out at `log_tick`."""
        return self._at(rate, log_tick) // rate.record

    def take(self, rate: Rate, log_tick: int, count: int) -> None:
        """So many, which were allowed, are handed out."""
        self.tokens = self._at(rate, log_tick) - count * rate.record
        self.tick = log_tick

    def next_tick(self, rate: Rate) -> int:
        """The first log tick at which a record may be handed out."""
        return self.tick + max(0, -(-(rate.record - self.tokens) // rate.per_s))

    def _at(self, rate: Rate, log_tick: int) -> int:
        return min(self.tokens + (log_tick - self.tick) * rate.per_s, max(rate.record, rate.per_s * BURST_MS))


class Breaker:
    """Opens after so many failures in a row, for so long; then lets one record at a time try until one succeeds."""

    __slots__ = ("failures", "until")

    def __init__(self, failures: int = 0, until: int = 0) -> None:
        self.failures = failures
        """In a row."""
        self.until = until
        """Log tick until which nothing is handed out; 0: it never opened since the last success."""

    def succeeded(self) -> None:
        """A record was acknowledged."""
        self.failures = self.until = 0

    def failed(self, limit: int, log_tick: int, pause_ms: int) -> bool:
        """A record failed. Returns whether that has opened the breaker (`limit` 0: it never does)."""
        self.failures = min(self.failures + 1, 2**31)
        if limit == 0 or self.failures < limit or log_tick < self.until:
            return False
        self.until = log_tick + pause_ms
        return True

    def allowed(self, log_tick: int, leased: int, wanted: int) -> int:
        """How many of `wanted` records may be handed out while `leased` ones are under way."""
        if self.until == 0:
            return wanted
        if log_tick < self.until or leased:
            return 0
        return min(wanted, 1)
