"""The two clocks that a leader writes into its log. State machines know no other time.

*Log tick*: elapsed milliseconds of led time, continued from the last entry. It stands still while there is no
leader, so whatever is measured in it (producer expiry, leases) can only last longer than asked, never shorter.

*Wall stamp*: Unix milliseconds, never falling within a log. A leader whose clock runs away from its own monotonic
time by more than ``MAX_DRIFT_MS`` within one term is not followed: the stamp keeps to the elapsed time, and the
event is counted, so that one bad clock does not move retention or schedules by hours.
"""

from __future__ import annotations

from raftmq.ids import Tick

MAX_DRIFT_MS = 60_000


class LogClock:
    """Stamps for one leader's entries of one term, on top of the stamps of the last entry before it."""

    def __init__(self, now: Tick, wall_ms: int, last_log_tick: int, last_wall_ms: int) -> None:
        self._began = now
        self._log_tick = last_log_tick
        self._wall_began = max(wall_ms, last_wall_ms)
        self._last_wall = last_wall_ms
        self.jumps = 0
        """How often the wall clock was too far off to be believed."""

    def stamp(self, now: Tick, wall_ms: int) -> tuple[int, int]:
        """(log tick, wall stamp) of an entry made now."""
        elapsed = max(0, now - self._began)
        expected = self._wall_began + elapsed
        if abs(wall_ms - expected) > MAX_DRIFT_MS and wall_ms > self._last_wall:
            self.jumps += 1
            wall_ms = expected
        self._last_wall = max(self._last_wall, wall_ms)
        return self._log_tick + elapsed, self._last_wall
