"""Q1. A delivery token is exclusive: no token is given to two workers, at most one kind of verdict is accepted on it,
and none that is said when somebody has the message under a newer token, unless it repeats what was said before.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome
from raftmq.chaos.queue_events import Delivery, Queue, Verdict


def check(history: History) -> Findings:
    found = Findings()
    for queue in history.queues.values():
        judge(queue, found)
    return found


def judge(queue: Queue, found: Findings) -> None:
    for deliveries in queue.by_message.values():
        for place, one in enumerate(deliveries):
            found.examined += 1
            if place and deliveries[place - 1].lease == one.lease:
                found.add(f"{queue.name}, {one}: lease {one.lease} was given out twice, at {seconds(one.time)} too")
            _verdicts(queue, one, deliveries[place + 1 :], found)


def _verdicts(queue: Queue, delivery: Delivery, newer: Sequence[Delivery], found: Findings) -> None:
    taken: list[Verdict] = []
    maybe: set[str] = set()
    """What may have been taken before."""
    for one in queue.said(delivery):
        if one.outcome == Outcome.OK and one.kind != "extend":
            found.examined += 1
            if taken and taken[0].kind != one.kind:
                found.add(
                    f"{queue.name}, {delivery}: of lease {delivery.lease} {taken[0].kind} was accepted, and at "
                    f"{seconds(one.returned)} {one.kind} too"
                )
            taken.append(one)
        outdated = next((new for new in newer if new.time < one.invoked), None)
        if one.outcome == Outcome.OK and outdated is not None and one.kind not in maybe:
            found.add(
                f"{queue.name}, {delivery}: {one.kind} under lease {delivery.lease}, said at {seconds(one.invoked)}, "
                f"was accepted, though lease {outdated.lease} had been given out at {seconds(outdated.time)}"
            )
        if one.outcome != Outcome.FAIL and one.kind != "extend":
            maybe.add(one.kind)
