from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from raftmq.broker.deadlines import CALL_MAX_MS, CallContext, answer_within_ms, duration_ms
from raftmq.errors import InvalidArgument


@pytest.mark.parametrize(
    ("remaining_ms", "work_ms"),
    [
        (None, CALL_MAX_MS),
        (10_000, 9_000),  # 10 %
        (500, 450),  # both
        (400, 350),  # 50 ms
        (100, 50),
        (60, 30),  # half: the margin would leave next to nothing
        (1, 0),
        (0, 0),
        (-5, 0),
        (10**12, CALL_MAX_MS - CALL_MAX_MS // 10),
        (float("inf"), CALL_MAX_MS - CALL_MAX_MS // 10),
    ],
)
def test_the_answer_leaves_before_the_deadline(remaining_ms: float | None, work_ms: int) -> None:
    assert answer_within_ms(remaining_ms) == work_ms


@pytest.mark.parametrize(
    ("duration", "milliseconds"),
    [
        (Duration(seconds=1), 1000),
        (Duration(nanos=1_999_999), 1),
        (Duration(seconds=2**62), 60_000),
        (Duration(seconds=59, nanos=999_999_999), 59_999),
    ],
)
def test_durations_are_clamped(duration: Duration, milliseconds: int) -> None:
    assert duration_ms(duration, "timeout", low=1, high=60_000) == milliseconds


@pytest.mark.parametrize("duration", [Duration(), Duration(seconds=-1), Duration(nanos=999_999), Duration(nanos=-1)])
def test_durations_below_the_least_are_refused(duration: Duration) -> None:
    with pytest.raises(InvalidArgument) as caught:
        duration_ms(duration, "timeout", low=1, high=60_000)
    assert caught.value.field == "timeout"


async def test_a_context_narrows_and_never_widens() -> None:
    context = CallContext.starting(60_000)
    assert 1 <= context.within(10) <= 10
    assert context.within(10**9) <= 60_000
    assert context.narrowed(10**9) is context
    narrow = context.narrowed(1_000)
    assert narrow.remaining_ms <= 1_000
    assert narrow.deadline < context.deadline


async def test_a_context_without_time_says_so_but_grants_a_moment() -> None:
    context = CallContext.starting(0, forwarded=True)
    assert context.remaining_ms == 0
    assert context.within(500) == 1
    assert context.narrowed(5).forwarded
