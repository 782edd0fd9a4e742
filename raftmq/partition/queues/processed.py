"""Keys of work that was done, the newest of them: whoever gets the same work once more can be told so."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from raftmq.internal.v1 import queues_pb2


class Processed(NamedTuple):
    """What is known of a key."""

    number: int
    """How many keys had been remembered before it."""
    offset: int
    """Of the record that was acknowledged with it."""
    wall_ms: int
    """When that was."""


class ProcessedKeys:
    """A bounded first-in-first-out set."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        """Keys ever remembered: the number that the next one gets."""
        self._known: dict[bytes, Processed] = {}
        self._order: deque[bytes] = deque()
        self.changed: dict[int, bytes | None] = {}
        """By number; None: forgotten."""

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: bytes) -> bool:
        return key in self._known

    def get(self, key: bytes) -> Processed | None:
        """None: it is not remembered."""
        return self._known.get(key)

    def items(self) -> list[tuple[int, bytes]]:
        """(number, key), oldest first."""
        return [(self._known[key].number, key) for key in self._order]

    def encode(self, key: bytes) -> bytes:
        """The row of a key that is remembered."""
        known = self._known[key]
        return queues_pb2.QueueProcessedRow(key=key, offset=known.offset, wall_ms=known.wall_ms).SerializeToString()

    def restore(self, number: int, value: bytes) -> None:
        """Take over a row; they come by number. Raises ValueError, DecodeError."""
        row = queues_pb2.QueueProcessedRow.FromString(value)
        if row.key in self._known or not number < self.total:
            raise ValueError(f"processed key {number} was there before, or is yet to come")
        self._known[row.key] = Processed(number, row.offset, row.wall_ms)
        self._order.append(row.key)

    def remember(self, key: bytes, most: int, offset: int, wall_ms: int) -> bool:
        """The record at `offset` was processed under `key`; `most` keys at most are remembered. Returns whether it is
        new."""
        if key in self._known:
            return False
        self._known[key] = Processed(self.total, offset, wall_ms)
        self._order.append(key)
        self.changed[self.total] = key
        self.total += 1
        self.trim(most)
        return True

    def trim(self, most: int) -> None:
        """Forget the oldest of more than `most` keys."""
        while len(self._order) > most:
            forgotten = self._known.pop(self._order.popleft())
            self.changed[forgotten.number] = None

    def clear(self) -> None:
        """Forget all of them."""
        self.trim(0)
