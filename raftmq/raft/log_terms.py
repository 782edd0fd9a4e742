"""The log as the core knows it: which term each index has. No entries, no sizes, no payloads.

Terms never fall along a log, so a handful of *runs* (term, first index) says all there is:

    index   start-1 | start ...                         last
    term        2   |   2   2   2   4   4   4   4   7   7
    runs              (2, start)  (4, start+3)    (7, start+7)

The entry before ``start`` is gone, but its term is kept: the first append after a compaction is checked
against it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from raftmq.ids import LogIndex, Term


class LogTerms:
    """Term runs over ``start`` .. ``last``; empty when ``last == start - 1``."""

    __slots__ = ("_firsts", "_terms", "last", "start", "start_term")

    def __init__(
        self,
        start: LogIndex = LogIndex(1),
        start_term: Term = Term(0),
        last: LogIndex = LogIndex(0),
        runs: Iterable[tuple[Term, LogIndex]] = (),
    ) -> None:
        self.start = start
        self.start_term = start_term
        self.last = last
        # Invariant: both ascend strictly, _firsts[0] == start, and both are empty iff the log is.
        self._terms = [term for term, _ in runs]
        self._firsts = [first for _, first in runs]
        assert last >= start - 1, f"log ends at {last}, before its start {start}"
        assert bool(self._firsts) == (last >= start), "runs must cover exactly the log"
        assert not self._firsts or (self._firsts[0] == start and self._firsts[-1] <= last)
        assert all(a < b for a, b in zip(self._firsts, self._firsts[1:], strict=False))
        assert all(a < b for a, b in zip([start_term - 1, *self._terms], self._terms, strict=False))

    @property
    def last_term(self) -> Term:
        return self._terms[-1] if self._terms else self.start_term

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of the entry at `index`, from ``start - 1`` to ``last``; None outside."""
        if index == self.start - 1:
            return self.start_term
        if not self.start <= index <= self.last:
            return None
        return self._terms[bisect_right(self._firsts, index) - 1]

    def matches(self, index: LogIndex, term: Term) -> bool:
        """Whether the entry at `index` is here and has `term`: then both logs agree up to it (Raft, 5.3)."""
        return self.term_at(index) == term

    def is_up_to_date(self, last_index: LogIndex, last_term: Term) -> bool:
        """Whether a log that ends so is at least as up to date as this one (Raft, section 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last)

    def append(self, index: LogIndex, term: Term) -> None:
        """Add the entry at `index`, which must be the next one, and whose term must not be lower."""
        assert index == self.last + 1, f"append at {index} after {self.last}"
        assert term >= self.last_term, f"term {term} after {self.last_term}"
        if not self._terms or term > self._terms[-1]:
            self._terms.append(term)
            self._firsts.append(index)
        self.last = index

    def truncate(self, index: LogIndex) -> None:
        """Remove every entry at or after `index` (which must be in the log)."""
        assert self.start <= index <= self.last, f"truncate {index} of {self.start}..{self.last}"
        self.last = LogIndex(index - 1)
        while self._firsts and self._firsts[-1] > self.last:
            self._firsts.pop()
            self._terms.pop()

    def compact(self, start: LogIndex) -> None:
        """Forget every entry below `start`; at most ``last + 1``. Does nothing when they are gone already."""
        if start <= self.start:
            return
        before = self.term_at(LogIndex(start - 1))
        assert before is not None, f"compact to {start} of {self.start}..{self.last}"
        kept = bisect_right(self._firsts, start) - 1
        self.start, self.start_term = start, before
        if start > self.last:
            self._firsts, self._terms = [], []
            return
        del self._firsts[:kept], self._terms[:kept]
        self._firsts[0] = start

    def reset(self, index: LogIndex, term: Term) -> None:
        """Start over, empty, after a snapshot that ends with (`index`, `term`)."""
        self.start, self.start_term, self.last = LogIndex(index + 1), term, index
        self._firsts, self._terms = [], []

    def runs_between(self, first: LogIndex, last: LogIndex) -> tuple[tuple[Term, LogIndex], ...]:
        """The runs that cover `first` .. `last`; the first of them is cut to begin at `first`."""
        if last < first:
            return ()
        assert self.start <= first <= last <= self.last, f"{first}..{last} of {self.start}..{self.last}"
        low = bisect_right(self._firsts, first) - 1
        high = bisect_right(self._firsts, last)
        firsts = [first, *self._firsts[low + 1 : high]]
        return tuple(zip(self._terms[low:high], firsts, strict=True))

    def conflict_hint(self, index: LogIndex, term: Term) -> tuple[LogIndex, Term]:
        """The largest index at or below `index` where a log with `term` at `index` may still agree with this one.

        Terms never fall along a log, so the other log has nothing above `term` at or below `index`: wherever
        this log has a higher term there, the two differ, and whole runs are skipped at once (Raft, end of
        section 5.3). What is before ``start`` is committed, so the search ends at ``start - 1``.
        """
        at = min(index, self.last)
        run = bisect_right(self._firsts, at) - 1
        while run >= 0 and self._terms[run] > term:
            at = LogIndex(self._firsts[run] - 1)
            run -= 1
        at = LogIndex(max(at, self.start - 1))
        found = self.term_at(at)
        assert found is not None
        return at, found
