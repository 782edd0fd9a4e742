"""What happened, in order: a rolling hash over every event, and the last of them in words.

Two runs of one seed have the same hash, in one process or two, under any hash seed of Python.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

KEPT = 400
"""Events kept in words. What led to a failure is near its end."""


class Trace:
    """``note`` is called for every event. ``everything``: keep all of them in words."""

    def __init__(self, everything: bool = False) -> None:
        self._hash = blake2b(digest_size=8)
        self._lines: deque[tuple[int, str, str]] = deque(maxlen=None if everything else KEPT)

    def note(self, micros: int, who: str, what: str) -> None:
        """`who` did `what` at this virtual time, in microseconds."""
        self._hash.update(f"{micros} {who} {what}\n".encode())
        self._lines.append((micros, who, what))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over everything noted so far."""
        return self._hash.hexdigest()

    def lines(self, last: int | None = None) -> list[str]:
        """The newest events that were kept, for people."""
        kept = list(self._lines)
        if last is not None:
            kept = kept[-last:]
        return [f"{micros / 1000:12.3f} ms  {who:<10} {what}" for micros, who, what in kept]
