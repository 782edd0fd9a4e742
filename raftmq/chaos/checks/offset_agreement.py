"""L1. One offset, one record: whoever learnt what lies at an offset of a partition (the producer that was told its
offset, a consumer, the last reading) learnt the same.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    found = Findings()
    known: list[dict[int, int]] = [{} for _ in history.partitions.names]
    for partition, log in history.final.items():
        known[partition] = dict(zip(log.offset, log.value, strict=True))
    sends, polls = history.sends, history.polls
    for partition, offset, value, outcome in zip(
        sends.partition, sends.offset, sends.value, sends.outcome, strict=True
    ):
        if outcome == Outcome.OK and offset >= 0:
            found.examined += 1
            if (other := known[partition].setdefault(offset, value)) != value:
                where = f"{history.name(partition)} offset {offset}"
                found.add(f"{where}: value {value} was acknowledged there, but value {other} lies there")
    for partition, offset, value, reader in zip(polls.partition, polls.offset, polls.value, polls.reader, strict=True):
        found.examined += 1
        if (other := known[partition].setdefault(offset, value)) != value:
            where = f"{history.name(partition)} offset {offset}"
            found.add(f"{where}: {history.readers.names[reader]} was given value {value}, others know value {other}")
    return found
