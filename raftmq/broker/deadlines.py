"""When a call must be answered: a little early, since a status that is sent at the deadline itself does not arrive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from raftmq.errors import InvalidArgument
from raftmq.records.batch import TIMESTAMP_MAX_MS

MARGIN_MS = 50
"""Least time kept for the answer's way back."""
CALL_MAX_MS = 300_000
"""Longest that any call may take, whatever its deadline says; also what a call without a deadline gets."""

TIMESTAMP_SECONDS_MIN = -62_135_596_800
TIMESTAMP_SECONDS_MAX = 253_402_300_799
"""What google.protobuf.Timestamp allows."""


def answer_within_ms(remaining_ms: float | None) -> int:
    """How long a call may work, given what its caller will still wait: less 50 ms or 10 %, whichever is more.

    Of a time so short that the margin would eat most of it, half is used. None: the caller named no deadline.
    """
    if remaining_ms is None:
        return CALL_MAX_MS
    remaining_ms = min(remaining_ms, CALL_MAX_MS)
    margin = min(max(MARGIN_MS, remaining_ms / 10), remaining_ms / 2)
    return max(0, int(remaining_ms - margin))


def duration_ms(value: Duration, field: str, *, low: int, high: int) -> int:
    """`value` in whole milliseconds, clamped to `high`. Raises InvalidArgument below `low`."""
    milliseconds = value.seconds * 1000 + value.nanos // 1_000_000
    if milliseconds < low:
        raise InvalidArgument(f"{milliseconds} ms is less than {low} ms", field=field)
    return min(milliseconds, high)


def timestamp_ms(value: Timestamp, field: str) -> int:
    """`value` in milliseconds since the Unix epoch, rounded up, at most TIMESTAMP_MAX_MS; 0 for what lies before it.

    Raises InvalidArgument.
    """
    if not 0 <= value.nanos < 1_000_000_000 or not TIMESTAMP_SECONDS_MIN <= value.seconds <= TIMESTAMP_SECONDS_MAX:
        raise InvalidArgument("is no time of the years 1 to 9999", field=field)
    return min(max(0, value.seconds * 1000 + -(-value.nanos // 1_000_000)), TIMESTAMP_MAX_MS)


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a handler knows of its call besides the request."""

    deadline: float
    """By the event loop's clock, in seconds: answer by then. The margin is already taken off."""
    forwarded: bool = False
    """The call came from another node, which is the one hop it may take."""
    patient: bool = True
    """It may wait for a leader. One that others stand behind must not: they would overtake it."""

    @classmethod
    def starting(cls, work_ms: int, *, forwarded: bool = False, patient: bool = True) -> CallContext:
        """A call that begins now and may work for `work_ms`."""
        return cls(asyncio.get_running_loop().time() + work_ms / 1000, forwarded, patient)

    @property
    def remaining_ms(self) -> int:
        """What is left, at least 0."""
        return max(0, int((self.deadline - asyncio.get_running_loop().time()) * 1000))

    def within(self, limit_ms: int) -> int:
        """`limit_ms`, or what is left if that is less; at least 1."""
        return max(1, min(limit_ms, self.remaining_ms))

    def narrowed(self, limit_ms: int) -> CallContext:
        """The same call, which may now take at most `limit_ms` more."""
        latest = asyncio.get_running_loop().time() + limit_ms / 1000
        return self if latest >= self.deadline else CallContext(latest, self.forwarded, self.patient)
