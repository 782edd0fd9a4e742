"""What of this replica's log is on disk, told by marks that come back late.

Every Ready is handed out with a mark: the term it was issued in and the last index of the log after it. When
its batch is durable the mark comes back. By then the log may have changed:

    Ready A   term 3, entries ..10         mark (3, 10)   written, sync under way
    truncate from 8, append 8' 9' 10'                     by another leader
    mark (3, 10) comes back                               10 is durable; 10' is not

Taking the mark at its word would call 10' durable, and a leader that counts itself (or a checker that trusts
it) would be wrong. Comparing the term at the index is not enough either: a later leader may bring back an
entry with the very index and term that were cut before (A, B, A), which is in the log but not yet on disk
again. So the marks that are under way are kept, and a truncation lowers every one of them: a mark then claims
exactly what has been in the log, untouched, ever since it was issued.

Marks come back in the order of the Readies, and two of them may look alike: (3, 10) before the truncation and
(3, 10) after it. So each one counts, even of a Ready that had nothing to write, and the oldest that fits is
meant. A host that leaves out the marks of Readies that had nothing to write says so: otherwise an older mark than
the one meant may be found, which claims less, and an idle replica would take that for the truth until the next
entry. A mark that is not under way says nothing new and is ignored.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from raftmq.ids import LogIndex, Term


@dataclass(slots=True)
class _Mark:
    term: Term
    index: LogIndex
    durable_to: LogIndex
    """What the mark is worth. Invariant: <= index, and never touched by a truncation since."""
    count: int = 1
    """How many Readies in a row had this very mark (an idle group must not gather marks)."""


class Durability:
    """The persisted index and the newest durable term, from the marks that came back."""

    __slots__ = ("_under_way", "index", "term")

    def __init__(self, term: Term, index: LogIndex) -> None:
        self.term = term
        self.index = index
        self._under_way: deque[_Mark] = deque()

    @property
    def under_way(self) -> int:
        """How many different marks are under way."""
        return len(self._under_way)

    def issue(self, term: Term, last: LogIndex) -> None:
        """A Ready goes out with this mark."""
        newest = self._under_way[-1] if self._under_way else None
        if newest is not None and (newest.term, newest.index, newest.durable_to) == (term, last, last):
            newest.count += 1
        else:
            self._under_way.append(_Mark(term, last, last))

    def withdraw(self) -> None:
        """The mark that was issued last will not come back."""
        newest = self._under_way[-1]
        newest.count -= 1
        if newest.count == 0:
            self._under_way.pop()

    def truncated(self, index: LogIndex) -> None:
        """Entries at or after `index` have left the log: no mark issued so far speaks for them any more."""
        kept = LogIndex(index - 1)
        self.index = min(self.index, kept)
        for mark in self._under_way:
            mark.durable_to = min(mark.durable_to, kept)

    def persisted(self, term: Term, index: LogIndex) -> bool:
        """A mark came back. Returns whether it was one that is under way (the oldest such one is meant)."""
        position = next((n for n, m in enumerate(self._under_way) if (m.term, m.index) == (term, index)), None)
        if position is None:
            return False
        for _ in range(position):
            self._under_way.popleft()
        mark = self._under_way[0]
        mark.count -= 1
        if mark.count == 0:
            self._under_way.popleft()
        self.term = max(self.term, mark.term)
        self.index = max(self.index, mark.durable_to)
        return True

    def snapshot(self, index: LogIndex) -> None:
        """Everything up to `index` is durable by other means."""
        self.index = max(self.index, index)
