"""Q5. Leases of one message do not overlap, where clocks run at one rate: nobody is handed a message before the moment
until which, by its own monotonic clock, the holder before was told to have it, unless that one had spoken.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome
from raftmq.chaos.queue_events import Delivery, Queue


def check(history: History) -> Findings:
    found = Findings()
    for queue in history.queues.values():
        judge(queue, found)
    return found


def judge(queue: Queue, found: Findings) -> None:
    for deliveries in queue.by_message.values():
        for place, one in enumerate(deliveries):
            found.examined += 1
            until = _until(queue, one)
            following = deliveries[place + 1 :]
            overlapping = next((new for new in following if one.time <= new.time < until), None)
            if overlapping is not None:
                found.add(
                    f"{queue.name}, {one}: {one.client} had it under lease {one.lease} from "
                    f"{seconds(one.time)} until {seconds(until)}, {overlapping.client} under lease "
                    f"{overlapping.lease} from {seconds(overlapping.time)}"
                )


def _until(queue: Queue, delivery: Delivery) -> int:
    """The holder's last safe moment: a verdict that is no extension ends it when it is said."""
    until = delivery.until
    for verdict in queue.said(delivery):
        if verdict.kind != "extend":
            return min(until, verdict.invoked)
        if verdict.outcome == Outcome.OK:
            until = max(until, verdict.until)
    return until
