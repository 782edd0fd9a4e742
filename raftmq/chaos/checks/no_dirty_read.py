"""L9. What a consumer was given stays: at the end of the run the same record lies at the same offset. Nobody is ever
shown a record that can still disappear.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History


def check(history: History) -> Findings:
    found, polls = Findings(), history.polls
    for partition, offset, value, time in zip(polls.partition, polls.offset, polls.value, polls.time, strict=True):
        log = history.final.get(partition)
        if log is None or offset < log.start:
            continue
        found.examined += 1
        if (there := log.at(offset)) != value:
            instead = "nothing" if there is None else f"value {there}"
            found.add(
                f"{history.name(partition)} offset {offset}: value {value} was given to a consumer at {seconds(time)}; "
                f"there is {instead} now"
            )
    return found
