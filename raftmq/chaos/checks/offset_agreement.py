"""L1. One offset, one record: whoever learnt what lies at an offset of a partition (the producer that was told its
offset, a consumer, the last reading) learnt the same.
"""

from __future__ import annotations

from array import array

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History, Outcome

_NOTHING = -2
_AHEAD_MAX = 1_000_000


def check(history: History) -> Findings:
    found = Findings()
    known = [_Known() for _ in history.partitions.names]
    for partition, log in history.final.items():
        for offset, value in zip(log.offset, log.value, strict=True):
            known[partition].learn(offset, value)
    sends, polls = history.sends, history.polls
    for partition, offset, value, outcome in zip(
        sends.partition, sends.offset, sends.value, sends.outcome, strict=True
    ):
        if outcome == Outcome.OK and offset >= 0:
            found.examined += 1
            if (other := known[partition].learn(offset, value)) != value:
                where = f"{history.name(partition)} offset {offset}"
                found.add(f"{where}: value {value} was acknowledged there, but value {other} lies there")
    for partition, offset, value, reader in zip(polls.partition, polls.offset, polls.value, polls.reader, strict=True):
        found.examined += 1
        if (other := known[partition].learn(offset, value)) != value:
            where = f"{history.name(partition)} offset {offset}"
            found.add(f"{where}: {history.readers.names[reader]} was given value {value}, others know value {other}")
    return found


class _Known:
    """What lies at a partition's offsets: a column, as they are dense, and a few that are far beyond it."""

    def __init__(self) -> None:
        self._dense: array[int] = array("q")
        self._far: dict[int, int] = {}

    def learn(self, offset: int, value: int) -> int:
        """What was learnt of an offset first."""
        if offset > len(self._dense) + _AHEAD_MAX:
            return self._far.setdefault(offset, value)
        while offset >= len(self._dense):
            self._dense.append(self._far.get(len(self._dense), _NOTHING))
        if self._dense[offset] == _NOTHING:
            self._dense[offset] = value
        return self._dense[offset]
