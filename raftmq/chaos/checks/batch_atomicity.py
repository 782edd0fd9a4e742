"""L12. A batch is stored whole or not at all: its records lie side by side, in order."""

from __future__ import annotations

from array import array

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History


def check(history: History) -> Findings:
    found, sends = Findings(), history.sends
    stored = array("q", [-1]) * len(sends)
    for log in history.final.values():
        for offset, value, _ in log.rows():
            row = history.sent_row(value)
            if row >= 0 and stored[row] < 0:
                stored[row] = offset
    row = 0
    while row < len(sends):
        end = row + 1
        while end < len(sends) and sends.op[end] == sends.op[row]:
            end += 1
        if end - row > 1 and sends.partition[row] in history.final:
            found.examined += 1
            offsets = list(stored[row:end])
            whole = offsets[0] >= 0 and offsets == list(range(offsets[0], offsets[0] + len(offsets)))
            log = history.final[sends.partition[row]]
            trimmed = log.start > 0 and all(o < log.start for o in offsets)
            if not whole and any(o >= 0 for o in offsets) and not trimmed:
                there = sum(o >= 0 for o in offsets)
                found.add(
                    f"{history.name(sends.partition[row])}: of the {len(offsets)} records of one batch (values "
                    f"{sends.value[row]} to {sends.value[end - 1]}) {there} are stored, at offsets {offsets}"
                )
        row = end
    return found
