"""Keys of work that was done, the newest of them: whoever gets the same work once more can be told so."""

from __future__ import annotations

from collections import deque


class ProcessedKeys:
    """A bounded first-in-first-out set. Each key has a number: how many had been remembered before it."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        """Keys ever remembered: the number that the next one gets."""
        self._numbers: dict[bytes, int] = {}
        self._order: deque[bytes] = deque()
        self.changed: dict[int, bytes | None] = {}
        """By number; None: forgotten."""

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._numbers

    def items(self) -> list[tuple[int, bytes]]:
        """(number, key), oldest first."""
        return [(self._numbers[key], key) for key in self._order]

    def restore(self, number: int, key: bytes) -> None:
        """Take over a row; they come by number. Raises ValueError."""
        if key in self._numbers or not number < self.total:
            raise ValueError(f"processed key {number} was there before, or is yet to come")
        self._numbers[key] = number
        self._order.append(key)

    def remember(self, key: bytes, most: int) -> bool:
        """`key` was processed, and `most` keys at most are remembered. Returns whether it is new."""
        if key in self._numbers:
            return False
        self._numbers[key] = self.total
        self._order.append(key)
        self.changed[self.total] = key
        self.total += 1
        self.trim(most)
        return True

    def trim(self, most: int) -> None:
        """Forget the oldest of more than `most` keys."""
        while len(self._order) > most:
            number = self._numbers.pop(self._order.popleft())
            self.changed[number] = None

    def clear(self) -> None:
        """Forget all of them."""
        self.trim(0)
