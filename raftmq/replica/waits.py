"""Producers that wait for their acknowledgement, and the conditions that end a wait.

    LEADER   the leader's own disk holds the entry
    QUORUM   the entry is committed and applied
    ALL      QUORUM, and every replica in sync holds it durably

A wait ends exactly once: by its condition, by its deadline, or because leadership was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count

from raftmq.errors import DeadlineExceeded, LeadershipLost, Outcome, RaftmqError
from raftmq.ids import LogIndex, NodeId, Offset, Term, Tick


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
    persisted_at: Tick | None = None
    committed: bool = False
    ended: bool = False

    def end(self, answer: Ack | RaftmqError) -> None:
        if not self.ended:
            self.ended = True
            self.done(answer)

    def expired(self) -> DeadlineExceeded:
        """What is known when the time is over."""
        if self.committed:
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

    def __len__(self) -> int:
        return sum(len(heap) for heap in self._heaps.values())

    @property
    def waits_for_all(self) -> bool:
        return bool(self._heaps[Acks.ALL])

    def add(self, wait: Wait) -> None:
        number = next(self._order)
        heappush(self._heaps[wait.acks], (wait.index, number, wait))
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

    def mark(self, persisted: LogIndex, applied: LogIndex, now: Tick) -> None:
        """Note how far waits for ALL have come, for their receipts and for what an expiry can say."""
        for index, _, wait in self._heaps[Acks.ALL]:
            wait.committed = wait.committed or index <= applied
            if wait.persisted_at is None and index <= persisted:
                wait.persisted_at = now

    def expire(self, now: Tick) -> None:
        """End every wait whose deadline has passed."""
        while self._deadlines and self._deadlines[0][0] <= now:
            wait = heappop(self._deadlines)[2]
            if not wait.ended:
                wait.end(wait.expired())

    def lose_leadership(self, hint: str) -> None:
        """End every wait: another leader may keep the entry or not."""
        for heap in self._heaps.values():
            for _, _, wait in heap:
                error: RaftmqError = LeadershipLost(
                    f"leadership was lost before the batch was acknowledged ({hint})",
                    outcome=Outcome.APPLIED if wait.committed else Outcome.UNKNOWN,
                )
                wait.end(error)
            heap.clear()
        self._deadlines.clear()
