"""Small requests that become one entry: a leader gathers what arrives while an earlier entry of its kind is on its way.

    requests ──add──> gathering ──take──> one batch, one entry ──> a wait for each request, at its own level

An entry costs every node a write, every peer a message, and everybody an answer, however small it is. So records that
come without a batch, a sequence or an id of their own do not get an entry each: while one gathered entry is not
committed, the next is filled. A lone caller never waits; sixty-four of them share what a handful of entries cost.

Many callers keep the leader so busy with their calls that few of them have got through when the entry before theirs is
committed. Then an entry waits on while they keep coming, up to twice as long as the one before took to its commit: it
costs the leader as much as the calls of eight of them. Those who shared the entry before are answered at one moment and
most likely come again: the first of them does not get an entry to itself, and once as many are here, nobody else is
waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftmq.errors import DeadlineExceeded, Outcome, RaftmqError
from raftmq.ids import Tick
from raftmq.records.loose import HEADER_BYTES, LooseRecords
from raftmq.replica.waits import Ack, Acks

COUNT_MAX = 10_000
"""Most records that are gathered into one entry; one request alone may hold more."""

PAUSE_FROM = 4
"""Requests; fewer wait for nobody."""
PAUSE_STEP_MIN = 2
PAUSE_MAX = 20
"""Ticks that an entry waits at most, once it could be appended, however long the one before took."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one caller wants appended. ``done`` is called once, with the answer or the error."""

    records: LooseRecords
    acks: Acks
    min_in_sync: int
    arrived: Tick
    deadline: Tick
    done: Callable[[Ack | RaftmqError], None]


class Gathering:
    """The requests of one group that are not proposed yet, in the order in which they came."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._count = self._bytes = 0
        self.is_urgent = False
        """Somebody waits for the leader's own disk at most: there is no commit to be waited for first."""
        self.deadline: Tick | None = None
        """When the first of the requests runs out of time."""
        self.look_at: Tick | None = None
        """When to see whether more have come, while the entry waits for them."""
        self._pause_ends = Tick(0)
        self._seen = 0
        self._enough = COUNT_MAX
        """So many requests wait for nobody else."""

    def __len__(self) -> int:
        return len(self._requests)

    def fits(self, records: LooseRecords, max_bytes: int) -> bool:
        """`records` may be added: the batch stays within `max_bytes`, its header included. A request is never split."""
        return not self._requests or (
            self._count + records.count <= COUNT_MAX and self._bytes + records.size + HEADER_BYTES <= max_bytes
        )

    def add(self, request: Request) -> bool:
        """Returns whether ``deadline`` has moved."""
        self._requests.append(request)
        self._count += request.records.count
        self._bytes += request.records.size
        self.is_urgent = self.is_urgent or request.acks in (Acks.LEADER, Acks.NONE)
        is_first = self.deadline is None or request.deadline < self.deadline
        if is_first:
            self.deadline = request.deadline
        return is_first

    def take(self) -> list[Request]:
        """Everything; nothing is left."""
        requests, self._requests = self._requests, []
        self._count = self._bytes = 0
        self.is_urgent, self.deadline, self.look_at = False, None, None
        return requests

    @property
    def is_waiting(self) -> bool:
        """Nothing is to be done before ``look_at``."""
        return self.look_at is not None and not self.is_urgent and len(self._requests) < self._enough

    def waits_for_more(self, now: Tick, took: int, before: int) -> bool:
        """Nothing else stands in the way of these requests, but others are coming. Ask again at ``look_at``.

        `took`: how many ticks the entry before needed for its commit; another request must come in half of that.
        `before`: how many requests shared it, if it has been committed only just now.
        """
        count = len(self._requests)
        if self.look_at is None:
            self._pause_ends = Tick(now + min(2 * took, PAUSE_MAX))
            self._enough = before if before >= PAUSE_FROM else COUNT_MAX
        if self.is_urgent or count >= self._enough or max(count, before) < PAUSE_FROM:
            return False
        if self.look_at is not None:
            if now < self.look_at:
                return True
            if count == self._seen or now >= self._pause_ends:
                return False
        self._seen, self.look_at = count, Tick(min(now + max(took // 2, PAUSE_STEP_MIN), self._pause_ends))
        return now < self._pause_ends

    def expire(self, now: Tick) -> None:
        """Answer every request whose deadline has passed: nothing was appended."""
        if self.deadline is None or self.deadline > now:
            return
        for request in self.take():
            if request.deadline > now:
                self.add(request)
            else:
                request.done(
                    DeadlineExceeded(
                        "not appended: an earlier entry was not committed in time", outcome=Outcome.NOT_APPLIED
                    )
                )
