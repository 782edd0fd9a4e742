"""L3. What was acknowledged is there: at the end of the run the record lies at the offset that its producer was told,
or that offset is below the log's start.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    found, sends = Findings(), history.sends
    unplaced: dict[int, int] = {}
    for row, outcome in enumerate(sends.outcome):
        log = history.final.get(sends.partition[row])
        if outcome != Outcome.OK or log is None:
            continue
        found.examined += 1
        value, offset = sends.value[row], sends.offset[row]
        if offset < 0:
            unplaced[value] = row
        elif offset >= log.start and (there := log.at(offset)) != value:
            instead = "nothing" if there is None else f"value {there}"
            found.add(f"{_acknowledged(history, row)} at offset {offset}; there is {instead} now")
    if unplaced:
        # A duplicate so old that its offset was not known any more: it must be somewhere.
        for log in history.final.values():
            for value in log.value:
                unplaced.pop(value, None)
        for row in unplaced.values():
            if not history.final[sends.partition[row]].start:
                found.add(f"{_acknowledged(history, row)} without an offset; it is nowhere now")
    return found


def _acknowledged(history: History, row: int) -> str:
    sends = history.sends
    name = history.name(sends.partition[row])
    return f"{name}: value {sends.value[row]} was acknowledged at {seconds(sends.returned[row])}"
