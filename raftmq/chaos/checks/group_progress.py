"""O2. Committed offsets only grow, unless they are reset: neither what is told, nor what is accepted, falls in the
order of time.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome

Fact = tuple[int, int, int]
"""When it began to be true at the latest, when it was asked for, and the offset."""


def check(history: History) -> Findings:
    found = Findings()
    for group in history.groups.values():
        for partition in group.partitions:
            told = [(read.invoked, read.returned, offset) for read, offset in group.reads_of(partition)]
            accepted = [
                (one.invoked, one.returned, one.offset) for one in group.commits_of(partition, Outcome.OK)
            ]  # fmt: skip
            _falls(f"{group.name}, {partition}: told", told, found)
            _falls(f"{group.name}, {partition}: committed", accepted, found)
    return found


def _falls(what: str, facts: Iterable[Fact], found: Findings) -> None:
    facts = sorted(facts)
    by_return = sorted(facts, key=lambda one: one[1])
    highest, done = -1, 0
    for invoked, _, offset in facts:
        while by_return[done][1] < invoked:
            highest = max(highest, by_return[done][2])
            done += 1
        found.examined += 1
        if offset < highest:
            found.add(f"{what} {offset} at {seconds(invoked)}, after {highest}")
