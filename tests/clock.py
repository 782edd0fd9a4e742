"""The running loop's clock, put forward by a test instead of by waiting.

A limit that a test wants to pass is set to a minute, which no busy machine uses up by itself, and then passes at the
moment that the test chooses. gRPC's own deadlines go by the real clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LoopClock:
    """Runs as ever, and is as far ahead as it has been put. Lasts as long as the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._real = self._loop.time
        self._ahead_s = 0.0
        self._loop.time = self._time  # type: ignore[method-assign]

    def advance(self, seconds: float) -> None:
        """What was due within `seconds` is due now."""
        self._ahead_s += seconds

    def at_call(self, number: int, seconds: float) -> Callable[..., None]:
        """A function that advances the clock when it is called for the `number`-th time, whatever it is called with."""
        left = number

        def called(*_arguments: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self.advance(seconds)

        return called

    def _time(self) -> float:
        return self._real() + self._ahead_s
