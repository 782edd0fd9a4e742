"""Q4. The number of a delivery is the number of grants, and failures are what failed: retries that were accepted and
leases that ran out. A message is parked exactly when its failures reach the limit, or somebody parks it.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History, Outcome
from raftmq.chaos.queue_events import ENDED, Delivery, Message, Queue

AT_LIMIT = frozenset({"LEASE_EXPIRED", "TOO_MANY_FAILURES"})


def check(history: History) -> Findings:
    found = Findings()
    for queue in history.queues.values():
        judge(queue, found)
    return found


def judge(queue: Queue, found: Findings) -> None:
    for deliveries in queue.by_message.values():
        _deliveries(queue, deliveries, found)
    if queue.counts:
        _parked(queue, found)


def _deliveries(queue: Queue, deliveries: Sequence[Delivery], found: Findings) -> None:
    least = most = last = 0
    for place, one in enumerate(deliveries):
        found.examined += 1
        where = f"{queue.name}, {one}: lease {one.lease}, attempt {one.attempt}"
        if one.attempt <= last:
            found.add(f"{where}, comes after attempt {last}")
        # Grants whose answers nobody got may have failed, or have been given back.
        unseen = max(0, one.attempt - 1 - place)
        if not least <= one.failures <= most + unseen:
            found.add(f"{where}, tells {one.failures} failures; {least} to {most + unseen} are known")
        if one.failures >= queue.attempts_max:
            found.add(f"{where}, after {one.failures} failures, was handed out; {queue.attempts_max} are the limit")
        last = max(last, one.attempt)
        low, high = _failed(queue, one)
        least, most = least + low, most + high


def _failed(queue: Queue, delivery: Delivery) -> tuple[int, int]:
    """How often at least, and at most, this delivery failed, given that the message came again."""
    ended = [one for one in queue.said(delivery) if one.kind != "extend" and one.outcome != Outcome.FAIL]
    sure = [one for one in ended if one.outcome == Outcome.OK]
    if sure:
        return (1, 1) if sure[0].kind == "retry" else (0, 0)
    expired = 1 if queue.expiry_fails else 0
    return (0, 1) if ended else (expired, expired)


def _parked(queue: Queue, found: Findings) -> None:
    limit = queue.attempts_max
    for message, left in queue.left.items():
        if left.state == "parked" and left.reason in AT_LIMIT:
            found.examined += 1
            if left.failures != limit:
                found.add(
                    f"{_named(queue, message)}: parked as {left.reason} after {left.failures} failures of {limit}"
                )
    for one in queue.deliveries:
        for verdict in queue.said(one):
            if verdict.outcome != Outcome.OK or verdict.kind not in ("retry", "park"):
                continue
            found.examined += 1
            is_last = verdict.kind == "park" or one.failures + 1 >= limit
            is_parked = one.message in queue.left and queue.left[one.message].state in ENDED
            if is_last and not is_parked:
                found.add(f"{_named(queue, one.message)}: {verdict.kind} after {one.failures} failures did not park it")
            if verdict.at_end and not is_last:
                found.add(f"{_named(queue, one.message)}: at its end after {one.failures + 1} failures of {limit}")


def _named(queue: Queue, message: Message) -> str:
    return f"{queue.name}, {message[0]} offset {message[1]}"
