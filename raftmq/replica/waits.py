"""Producers that wait for their acknowledgement, and the conditions that end a wait.

    LEADER   the leader's own disk holds the entry
    QUORUM   the entry is committed and applied
    ALL      QUORUM, and every replica in sync holds it durably

A wait ends exactly once: by its condition, by its deadline, or because leadership was lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from heapq import heapify, heappop, heappush
from itertools import count

from raftmq.errors import DeadlineExceeded, LeadershipLost, Outcome, RaftmqError
from raftmq.ids import LogIndex, NodeId, Offset, Term, Tick

PERSISTED_NOTES = 4096


class Acks(IntEnum):
    """How far an entry must have come before its producer is answered. Numbers as in ``raftmq.v1.Acks``."""

    ALL = 1
    QUORUM = 2
    LEADER = 3
    NONE = 4


@dataclass(frozen=True, slots=True)
class Ack:
    """A positive answer. ``base_offset`` None: a duplicate so old that its offset is no longer known."""

    base_offset: Offset | None
    count: int
    term: Term
    index: LogIndex
    wall_ms: int
    replicas: tuple[NodeId, ...]
    duplicate: bool
    queue_ms: int
    sync_ms: int
    replication_ms: int


@dataclass(slots=True)
class Wait:
    """One producer's wait. ``done`` is called once, with the answer or the error."""

    index: LogIndex
    term: Term
    base_offset: Offset | None
    count: int
    acks: Acks
    deadline: Tick
    done: Callable[[Ack | RaftmqError], None]
    proposed_at: Tick
    duplicate: bool = False
    wall_ms: int = 0
    queue_ms: int = 0
    """How long the records waited for the append."""
    ended: bool = False

    def end(self, answer: Ack | RaftmqError) -> None:
        if not self.ended:
            self.ended = True
            self.done(answer)

    def expired(self, applied: LogIndex) -> DeadlineExceeded:
        """What is known when the time is over and everything up to `applied` is committed."""
        if self.index <= applied:
            where = "" if self.base_offset is None else f" at offset {self.base_offset}"
            return DeadlineExceeded(
                f"committed{where}, but not every in-sync replica confirmed it in time",
                outcome=Outcome.APPLIED,
                metadata={} if self.base_offset is None else {"base_offset": str(self.base_offset)},
            )
        return DeadlineExceeded(
            f"appended at log index {self.index}, but not committed in time: it may still be",
            outcome=Outcome.UNKNOWN,
            metadata={"log_index": str(self.index)},
        )


class AckWaits:
    """All waits of one group on its leader."""

    def __init__(self) -> None:
        self._order = count()
        self._heaps: dict[Acks, list[tuple[LogIndex, int, Wait]]] = {
            Acks.LEADER: [],
            Acks.QUORUM: [],
            Acks.ALL: [],
        }
        self._deadlines: list[tuple[Tick, int, Wait]] = []
        self._persisted: deque[tuple[LogIndex, Tick]] = deque(maxlen=PERSISTED_NOTES)
        """(index, when the leader's disk had it), newest last: for what receipts say of the time taken."""

    def __len__(self) -> int:
        return sum(len(heap) for heap in self._heaps.values())

    @property
    def waits_for_all(self) -> bool:
        return bool(self._heaps[Acks.ALL])

    def add(self, wait: Wait) -> None:
        number = next(self._order)
        heappush(self._heaps[wait.acks], (wait.index, number, wait))
        if len(self._deadlines) > 64 and len(self._deadlines) > 4 * len(self):
            # Most have long been answered: deadlines are far away, and answers are not.
            self._deadlines = [item for item in self._deadlines if not item[2].ended]
            heapify(self._deadlines)
        heappush(self._deadlines, (wait.deadline, number, wait))

    def deadline(self) -> Tick | None:
        """When the next wait runs out of time."""
        while self._deadlines and self._deadlines[0][2].ended:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def reached(self, acks: Acks, index: LogIndex) -> list[Wait]:
        """Take out the waits at this level up to `index`, in log order; the caller ends them."""
        heap = self._heaps[acks]
        taken: list[Wait] = []
        while heap and heap[0][0] <= index:
            wait = heappop(heap)[2]
            if not wait.ended:
                taken.append(wait)
        return taken

    def persisted(self, index: LogIndex, now: Tick) -> None:
        """The leader's disk holds everything up to `index`."""
        if not self._persisted or self._persisted[-1][0] < index:
            self._persisted.append((index, now))

    def persisted_at(self, index: LogIndex, now: Tick) -> Tick:
        """When the leader's disk had `index`; `now` if it is not known any more or not yet."""
        position = bisect_left(self._persisted, index, key=lambda note: note[0])
        return self._persisted[position][1] if position < len(self._persisted) else now

    def expire(self, now: Tick, applied: LogIndex) -> None:
        """End every wait whose deadline has passed."""
        while self._deadlines and self._deadlines[0][0] <= now:
            wait = heappop(self._deadlines)[2]
            if not wait.ended:
                wait.end(wait.expired(applied))

    def lose_leadership(self, hint: str, applied: LogIndex) -> None:
        """End every wait. What is beyond `applied` another leader may keep or not; the rest is committed."""
        for heap in self._heaps.values():
            for _, _, wait in heap:
                error: RaftmqError = LeadershipLost(
                    f"leadership was lost before the batch was acknowledged ({hint})",
                    outcome=Outcome.APPLIED if wait.index <= applied else Outcome.UNKNOWN,
                )
                wait.end(error)
            heap.clear()
        self._deadlines.clear()
