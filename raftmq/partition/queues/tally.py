"""What a group has done so far, counted."""

from __future__ import annotations

from enum import IntEnum


class Counter(IntEnum):
    """Positions in ``QueueGroupRow.counters``: never change or reuse one."""

    HANDED_OUT = 0
    ACKED = 1
    RELEASED = 2
    RETRIED = 3
    LEASE_EXPIRED = 4
    """Records whose lease ran out."""
    PARKED = 5
    REDRIVEN = 6
    DROPPED = 7
    """At their end, in a group that asked for it."""
    EXPIRED = 8
    """Not delivered before their time was over."""
    CANCELLED = 9
    SKIPPED = 10
    """Taken by the topic's retention before anybody had them."""
    BREAKER_OPENED = 11
    ROUTED = 12
    """Copied to a topic of dead letters."""
