"""L10. Asking for a partition's end is linearizable: the answer covers every record that had been acknowledged, and
every record that a consumer had been given, before the question; and no answer is lower than one that came before the
question.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome

Fact = tuple[int, int, int, str]
"""When it became known, partition, the least end that follows from it, how it is told."""


def check(history: History) -> Findings:
    """A sweep over time: at each question, the highest end that had become known before it."""
    found = Findings()
    facts = heapq.merge(_acknowledged(history), _read(history), _told(history))
    coming = next(facts, None)
    least: dict[int, Fact] = {}
    for question in sorted(history.latest):
        while coming is not None and coming[0] < question.invoked:
            known = least.get(coming[1])
            if known is None or coming[2] > known[2]:
                least[coming[1]] = coming
            coming = next(facts, None)
        found.examined += 1
        fact = least.get(question.partition)
        if fact is not None and question.high_watermark < fact[2]:
            found.add(
                f"{history.name(question.partition)}: asked at {seconds(question.invoked)}, the end was said to be "
                f"{question.high_watermark}, but an end of {fact[2]} had been {fact[3]} at {seconds(fact[0])}"
            )
    return found


def _acknowledged(history: History) -> Iterator[Fact]:
    sends = history.sends
    rows = (row for row, outcome in enumerate(sends.outcome) if outcome == Outcome.OK and sends.offset[row] >= 0)
    for row in sorted(rows, key=sends.returned.__getitem__):
        yield sends.returned[row], sends.partition[row], sends.offset[row] + 1, "acknowledged"


def _read(history: History) -> Iterator[Fact]:
    polls = history.polls
    for time, partition, offset in zip(polls.time, polls.partition, polls.offset, strict=True):
        yield time, partition, offset + 1, "read"


def _told(history: History) -> Iterator[Fact]:
    for one in sorted(history.latest, key=lambda one: one.returned):
        yield one.returned, one.partition, one.high_watermark, "told"
