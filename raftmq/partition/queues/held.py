"""Records kept beside the log, because a queue still needs them and the log is to be trimmed."""

from __future__ import annotations


class Held:
    """By offset; the queue groups of a partition share them."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.bytes = 0
        """Of all of them."""
        self.changed: set[int] = set()
        self.closed: set[int] = set()
        """Offsets that a group has closed: perhaps nobody needs them any more."""

    def __contains__(self, offset: int) -> bool:
        return offset in self.records

    def put(self, offset: int, record: bytes) -> None:
        """Keep a record, which was not held."""
        self.records[offset] = record
        self.bytes += len(record)
        self.changed.add(offset)

    def free(self, offset: int) -> None:
        """Nobody needs it any more."""
        self.bytes -= len(self.records.pop(offset))
        self.changed.add(offset)
