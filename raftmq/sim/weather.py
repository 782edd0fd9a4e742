"""How a simulated network behaves: the ways to cut a link, and the odds of each message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Cut(Enum):
    """How a link is cut. See the module docstring."""

    DROP = "drop"
    HOLD = "hold"
    REFUSE = "refuse"


@dataclass(slots=True)
class Weather:
    """How the network is. Times in microseconds; odds are per message."""

    latency: tuple[int, int] = (100, 1_500)
    call_loss: float = 0.0
    """Requests, and answers, that vanish."""
    lost: float = 0.0
    doubled: float = 0.0
    overtaken: float = 0.0
    stale: float = 0.0
    """Delivered again, up to ``stale_micros`` later, whatever has happened to the stream since."""
    stale_micros: int = 3_000_000

    @property
    def is_unruly(self) -> bool:
        return bool(self.lost or self.doubled or self.overtaken or self.stale)

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.call_loss = self.lost = self.doubled = self.overtaken = self.stale = 0.0
