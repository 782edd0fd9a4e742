"""Records that are kept aside, each with the reason for it."""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.ids import WallMs
from raftmq.internal.v1 import queues_pb2
from raftmq.partition.queues.offset_set import WIDTH as PAGE
from raftmq.partition.queues.offset_set import OffsetSet
from raftmq.partition.queues.records import SHIFT, WIDTH, Column


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    """Why and when. Hand-outs and failures stand among the group's records."""

    reason: str
    error: str
    log_tick: int
    wall_ms: WallMs
    is_routed: bool = False
    """It stands in a topic of dead letters, too."""


class Parked:
    """The parked records of a group. Many have the same cause: each text is kept once, with how many have it."""

    def __init__(self) -> None:
        self.offsets = OffsetSet()
        self.routed = OffsetSet()
        """Those of them that stand in a topic of dead letters, too."""
        self.changed: set[int] = set()
        self._cause = Column("I")
        self._log_tick = Column("Q")
        self._wall_ms = Column("Q")
        self._numbers: dict[tuple[str, str], int] = {}
        self._uses: dict[int, int] = {}
        self._texts: dict[int, tuple[str, str]] = {}
        self._next = 1

    def get(self, offset: int) -> ParkedRecord | None:
        if offset not in self.offsets:
            return None
        reason, error = self._texts[self._cause[offset]]
        return ParkedRecord(reason, error, self._log_tick[offset], WallMs(self._wall_ms[offset]), offset in self.routed)

    def add(self, offset: int, record: ParkedRecord) -> None:
        """It is parked, and was not."""
        text = (record.reason, record.error)
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = self._next
            self._texts[number] = text
            self._next += 1
        self._uses[number] = self._uses.get(number, 0) + 1
        self.offsets.add(offset)
        if record.is_routed:
            self.routed.add(offset)
        self._cause[offset], self._log_tick[offset], self._wall_ms[offset] = number, record.log_tick, record.wall_ms
        self.changed.add(offset)

    def mark_routed(self, offset: int) -> bool:
        """One that is parked stands in a topic of dead letters, too. Returns whether that is new."""
        if offset in self.routed:
            return False
        self.routed.add(offset)
        self.changed.add(offset)
        return True

    def unrouted(self, first: int, most: int) -> list[int]:
        """Up to `most` of those that stand in no topic of dead letters, from an offset on, ascending."""
        found: list[int] = []
        for page in self.offsets.pages():
            base = page * PAGE
            bits = (self.offsets.page(page) & ~self.routed.page(page)) >> max(0, first - base) << max(0, first - base)
            while bits and len(found) < most:
                found.append(base + (bits & -bits).bit_length() - 1)
                bits &= bits - 1
        return found

    def remove(self, offset: int) -> None:
        """It is parked no longer."""
        self.offsets.discard(offset)
        self.routed.discard(offset)
        self.changed.add(offset)
        number = self._cause[offset]
        self._uses[number] -= 1
        if not self._uses[number]:
            del self._uses[number], self._numbers[self._texts.pop(number)]
        page = offset >> SHIFT
        if not self.offsets.part(page << SHIFT, WIDTH):
            for column in (self._cause, self._log_tick, self._wall_ms):
                column.pages.pop(page, None)

    def encode(self, offset: int) -> bytes | None:
        """The row of a record; None: it is not parked."""
        record = self.get(offset)
        if record is None:
            return None
        return queues_pb2.QueueParkedRow(
            reason=record.reason,
            error=record.error,
            log_tick=record.log_tick,
            wall_ms=record.wall_ms,
            routed=record.is_routed,
        ).SerializeToString()

    @staticmethod
    def decode(value: bytes) -> ParkedRecord:
        """Raises DecodeError."""
        row = queues_pb2.QueueParkedRow.FromString(value)
        return ParkedRecord(row.reason, row.error, row.log_tick, WallMs(row.wall_ms), row.routed)
