"""L5. What is read was written: every record that anybody was given was handed in by a producer, to this partition,
before it was read, and is none of which its producer was told that it surely was not stored.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import NEVER, History, Outcome


def check(history: History) -> Findings:
    found = Findings()
    polls = history.polls
    for partition, value, offset, time in zip(polls.partition, polls.value, polls.offset, polls.time, strict=True):
        _judge(history, found, partition, value, offset, time)
    for partition, log in sorted(history.final.items()):
        for offset, value, _ in log.rows():
            _judge(history, found, partition, value, offset, NEVER)
    return found


def _judge(history: History, found: Findings, partition: int, value: int, offset: int, time: int) -> None:
    found.examined += 1
    row, sends = history.sent_row(value), history.sends
    where = f"{history.name(partition)} offset {offset}"
    if row < 0:
        found.add(f"{where}: value {value} was sent by nobody")
    elif sends.partition[row] != partition:
        found.add(f"{where}: value {value} was sent to {history.name(sends.partition[row])}")
    elif sends.invoked[row] > time:
        found.add(f"{where}: value {value} was read at {seconds(time)}, before it was sent")
    elif sends.outcome[row] == Outcome.FAIL:
        found.add(f"{where}: value {value} is there, though its producer was told that it surely was not stored")
