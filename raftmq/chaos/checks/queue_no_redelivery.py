"""Q2. What is done stays done: a message whose acknowledgement, or parking, was accepted is never handed out under a
newer lease.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome
from raftmq.chaos.queue_events import CLOSING, Queue


def check(history: History) -> Findings:
    found = Findings()
    for queue in history.queues.values():
        judge(queue, found)
    return found


def judge(queue: Queue, found: Findings) -> None:
    for deliveries in queue.by_message.values():
        closed = next(
            (
                verdict
                for one in deliveries
                for verdict in queue.said(one)
                if verdict.kind in CLOSING and verdict.outcome == Outcome.OK
            ),
            None,
        )
        if closed is None:
            continue
        found.examined += 1
        for one in deliveries:
            if one.lease > closed.lease:
                found.add(
                    f"{queue.name}, {one}: {closed.kind} under lease {closed.lease} was accepted at "
                    f"{seconds(closed.returned)}, and lease {one.lease} was given out at {seconds(one.time)}"
                )
