"""L7. A producer's records of one partition lie in the order in which it handed them in: those that were acknowledged
always, and of an idempotent producer those of unknown outcome too.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    found, sends = Findings(), history.sends
    last: dict[tuple[int, int], int] = {}
    for row, outcome in enumerate(sends.outcome):
        if outcome == Outcome.OK and sends.offset[row] >= 0:
            _compare(history, found, last, row, sends.offset[row], "was acknowledged at")
    for log in history.final.values():
        newest: dict[int, int] = {}
        for offset, value, _ in log.rows():
            row = history.sent_row(value)
            if row < 0 or sends.client[row] not in history.idempotent:
                continue
            client = sends.client[row]
            found.examined += 1
            before = newest.get(client, -1)
            if row < before:
                found.add(
                    f"{history.name(sends.partition[row])} offset {offset}: value {value} of "
                    f"{history.clients.names[client]} lies behind value {sends.value[before]}, handed in later"
                )
            newest[client] = max(before, row)
    return found


def _compare(
    history: History, found: Findings, last: dict[tuple[int, int], int], row: int, offset: int, verb: str
) -> None:
    sends = history.sends
    key = (sends.client[row], sends.partition[row])
    before = last.get(key)
    if before is not None:
        found.examined += 1
        if sends.offset[before] >= offset:
            found.add(
                f"{history.name(key[1])}: value {sends.value[row]} of {history.clients.names[key[0]]} {verb} "
                f"offset {offset}, value {sends.value[before]}, handed in before it, at {sends.offset[before]}"
            )
    last[key] = row
