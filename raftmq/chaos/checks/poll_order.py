"""L8. A consumer is given a partition's records in order: offsets grow by one within a session, none comes twice, and
none that is in the log is passed over.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History


def check(history: History) -> Findings:
    found, polls = Findings(), history.polls
    last: dict[tuple[int, int], int] = {}
    for reader, partition, offset, time in zip(polls.reader, polls.partition, polls.offset, polls.time, strict=True):
        before = last.get((reader, partition))
        last[reader, partition] = offset
        if before is None:
            continue
        found.examined += 1
        if offset == before + 1:
            continue
        who = f"{history.name(partition)}: {history.readers.names[reader]}, at {seconds(time)},"
        if offset <= before:
            found.add(f"{who} was given offset {offset} after {before}")
        elif (skipped := _first_skipped(history, partition, before, offset)) is not None:
            found.add(f"{who} was given offset {offset} after {before}, and never {skipped}")
    return found


def _first_skipped(history: History, partition: int, before: int, offset: int) -> int | None:
    log = history.final.get(partition)
    if log is None:
        return before + 1
    return next((o for o in range(before + 1, offset) if log.at(o) is not None), None)
