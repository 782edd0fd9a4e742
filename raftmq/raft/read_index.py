"""Linearizable reads without a write (Raft, section 8; dissertation, section 6.4).

A leader may have been deposed without knowing it, so before it answers it must hear from a quorum *after* the
request came in. Requests wait for the next round; a round is a number in a heartbeat, and a member that answers
number n has thereby confirmed every round up to n. Numbers only rise within a term and answers carry the term,
so an answer to an older round, to a retry, or from another term can never confirm a newer request.

Nothing is asked before an entry of the leader's own term is committed: until then its commit index may be
behind what an earlier leader has already acknowledged.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from raftmq.ids import LogIndex
from raftmq.raft.ready import ReadGrant


@dataclass(frozen=True, slots=True)
class _Round:
    number: int
    index: LogIndex
    requests: tuple[int, ...]


class ReadRounds:
    """Requests that wait for a round, and rounds that wait for a quorum. One instance for one term."""

    __slots__ = ("_requests", "_rounds", "newest")

    def __init__(self) -> None:
        self.newest = 0
        self._requests: list[int] = []
        self._rounds: deque[_Round] = deque()

    @property
    def has_requests(self) -> bool:
        return bool(self._requests)

    @property
    def unconfirmed(self) -> bool:
        return bool(self._rounds)

    def request(self, request_id: int) -> None:
        self._requests.append(request_id)

    def begin(self, commit_index: LogIndex) -> int:
        """Open a round for every request so far; they may be answered from `commit_index` on."""
        self.newest += 1
        self._rounds.append(_Round(self.newest, commit_index, tuple(self._requests)))
        self._requests.clear()
        return self.newest

    def confirm(self, number: int) -> list[ReadGrant]:
        """A quorum has answered round `number` or a later one."""
        granted: list[ReadGrant] = []
        while self._rounds and self._rounds[0].number <= number:
            done = self._rounds.popleft()
            granted.extend(ReadGrant(request, done.index) for request in done.requests)
        return granted

    def abandon(self) -> list[int]:
        """Leadership is lost: every request that was not answered."""
        waiting = [request for done in self._rounds for request in done.requests] + self._requests
        self._rounds.clear()
        self._requests = []
        return waiting
