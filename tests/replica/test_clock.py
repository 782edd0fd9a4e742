"""The clocks in the log."""

from raftmq.ids import Tick
from raftmq.replica.clock import MAX_DRIFT_MS, LogClock


def test_log_tick_continues_from_the_last_entry_and_counts_led_time_only() -> None:
    clock = LogClock(now=Tick(5_000), wall_ms=1_000_000, last_log_tick=70, last_wall_ms=900_000)
    assert clock.stamp(Tick(5_000), 1_000_000) == (70, 1_000_000)
    assert clock.stamp(Tick(5_250), 1_000_250) == (320, 1_000_250)


def test_wall_stamp_never_falls() -> None:
    clock = LogClock(now=Tick(0), wall_ms=50, last_log_tick=0, last_wall_ms=1_000)
    assert clock.stamp(Tick(10), 60) == (10, 1_000)
    assert clock.stamp(Tick(20), 2_000) == (20, 2_000)
    assert clock.stamp(Tick(30), 1_500) == (30, 2_000)


def test_a_wall_clock_that_runs_away_is_not_followed_and_is_counted() -> None:
    clock = LogClock(now=Tick(0), wall_ms=1_000_000, last_log_tick=0, last_wall_ms=0)
    _, wall = clock.stamp(Tick(100), 1_000_000 + 2 * MAX_DRIFT_MS)
    assert wall == 1_000_100
    assert clock.jumps == 1
    _, wall = clock.stamp(Tick(200), 1_000_205)
    assert wall == 1_000_205
    assert clock.jumps == 1
