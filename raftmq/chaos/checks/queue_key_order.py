"""Q7. A group that is ordered by key hands out a key's next message only when the one before is acknowledged or parked:
along the leases of a partition the offsets of a key do not fall, and whoever had an earlier one has closed it, or
failed for the last time, before a later one comes.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome
from raftmq.chaos.queue_events import CLOSING, ENDED, Delivery, Message, Queue


def check(history: History) -> Findings:
    found = Findings()
    for queue in history.queues.values():
        if queue.ordered:
            judge(queue, found)
    return found


def judge(queue: Queue, found: Findings) -> None:
    closed = _closed(queue)
    last: dict[tuple[str, str], Delivery] = {}
    for one in sorted(queue.deliveries, key=lambda one: (one.partition, one.lease, one.offset)):
        before = last.get((one.partition, one.key))
        last[one.partition, one.key] = one
        if before is None or before.offset == one.offset:
            continue
        found.examined += 1
        where = f"{queue.name}, {one}, key {one.key!r}: under lease {one.lease}, at {seconds(one.time)}"
        if one.offset < before.offset:
            found.add(f"{where}, comes after offset {before.offset} under lease {before.lease}")
        elif one.lease == before.lease:
            found.add(f"{where}, comes together with offset {before.offset}")
        elif closed.get(before.message, one.time) > one.time:
            found.add(f"{where}, comes before anybody has closed offset {before.offset}")


def _closed(queue: Queue) -> dict[Message, int]:
    """When each message that was handed out can have been closed first. Not among them: what failed for the last time
    by an expiry, of which only the group knows when.
    """
    closed = {one.message: one.time + 2**62 for one in queue.deliveries}
    for message, left in queue.left.items():
        if left.state in ENDED:
            closed.pop(message, None)
    for verdict in queue.verdicts:
        message = (verdict.partition, verdict.offset)
        if verdict.kind in CLOSING and verdict.outcome != Outcome.FAIL and message in closed:
            closed[message] = min(closed[message], verdict.invoked)
    return closed
