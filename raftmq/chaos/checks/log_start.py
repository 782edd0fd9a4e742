"""L13. The start of a log only grows, and never passes its end; who asks for what lies below it is told so, and is not
given something else.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History

REFUSAL = "OFFSET_OUT_OF_RANGE"


def check(history: History) -> Findings:
    found = Findings()
    by_return = sorted(history.latest, key=lambda one: one.returned)
    highest: dict[int, int] = {}
    done = 0
    for question in sorted(history.latest):
        while by_return[done].returned < question.invoked:
            earlier = by_return[done]
            highest[earlier.partition] = max(highest.get(earlier.partition, 0), earlier.log_start)
            done += 1
        found.examined += 1
        where = (
            f"{history.name(question.partition)}: asked at {seconds(question.invoked)}, the log was said to start at"
        )
        if question.log_start < highest.get(question.partition, 0):
            found.add(f"{where} {question.log_start}, after {highest[question.partition]}")
        if question.log_start > question.high_watermark:
            found.add(f"{where} {question.log_start}, behind its end {question.high_watermark}")
    for below in history.below:
        found.examined += 1
        if below.told != REFUSAL:
            found.add(
                f"{below.partition}: a read of offset {below.offset}, below the log's start {below.start}, was "
                f"answered with {below.told}"
            )
    return found
