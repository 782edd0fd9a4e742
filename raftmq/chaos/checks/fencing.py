"""L7, the other half. Once a newer epoch of a producer has been acknowledged in a partition, nothing of an older one
is stored there: a zombie is told so, and its records do not stand behind its successor's.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    found = Findings()
    if history.fences:
        _acknowledged(history, found)
        _stored(history, found)
    return found


def _acknowledged(history: History, found: Findings) -> None:
    """No acknowledgement of an old epoch for what was sent after one of a newer epoch."""
    sends = history.sends
    rows = [
        row for row, client in enumerate(sends.client) if client in history.fences and sends.outcome[row] == Outcome.OK
    ]
    by_return = sorted(rows, key=sends.returned.__getitem__)
    newest: dict[tuple[str, int], int] = {}
    done = 0
    for row in rows:
        while sends.returned[by_return[done]] < sends.invoked[row]:
            producer, epoch = history.fences[sends.client[by_return[done]]]
            key = (producer, sends.partition[by_return[done]])
            newest[key] = max(newest.get(key, -1), epoch)
            done += 1
        producer, epoch = history.fences[sends.client[row]]
        found.examined += 1
        if epoch < newest.get((producer, sends.partition[row]), -1):
            found.add(
                f"{history.name(sends.partition[row])}: value {sends.value[row]} of epoch {epoch} was sent at "
                f"{seconds(sends.invoked[row])}, after a newer epoch had been acknowledged, and acknowledged"
            )


def _stored(history: History, found: Findings) -> None:
    """Along the log, epochs of one producer do not fall."""
    for partition, log in sorted(history.final.items()):
        newest: dict[str, int] = {}
        for offset, value, _ in log.rows():
            row = history.sent_row(value)
            fence = history.fences.get(history.sends.client[row]) if row >= 0 else None
            if fence is None:
                continue
            producer, epoch = fence
            found.examined += 1
            if epoch < newest.get(producer, -1):
                found.add(f"{history.name(partition)} offset {offset}: epoch {epoch} stands behind a newer one")
            newest[producer] = max(newest.get(producer, -1), epoch)
