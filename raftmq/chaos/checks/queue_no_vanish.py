"""Q3. Nothing vanishes: an acknowledged record was, in the end, acknowledged by a worker (or nobody knows whether it
was), or it is parked. What is still under way when the experiment's patience ends shows nothing.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History, Outcome
from raftmq.chaos.queue_events import Message, Queue


def check(history: History) -> Findings:
    found = Findings()
    stored: dict[Message, int] = {}
    for partition, log in history.final.items():
        stored.update({(history.name(partition), offset): value for offset, value, _ in log.rows()})
    sends = history.sends
    acknowledged = {
        sends.value[row]: (history.name(sends.partition[row]), sends.offset[row])
        for row, outcome in enumerate(sends.outcome)
        if outcome == Outcome.OK
    }
    for queue in history.queues.values():
        if queue.counts:
            _check(queue, acknowledged, stored, found)
        elif queue.deliveries:
            found.unclear.append(f"{queue.name}: what is left of it was not told")
    return found


def _check(queue: Queue, acknowledged: dict[int, Message], stored: dict[Message, int], found: Findings) -> None:
    done = queue.taken("ack", Outcome.OK, Outcome.INFO)
    values = {stored[message] for message in done if message in stored}
    values |= {one.value for one in queue.deliveries if one.message in done}
    values |= {one.value for one in queue.left.values() if one.state == "parked"}
    pending = {one.value for one in queue.left.values() if one.state != "parked"}
    unseen = {partition: counts["unseen"] for partition, counts in queue.counts.items()}
    for value, (partition, offset) in acknowledged.items():
        found.examined += 1
        if value in values:
            continue
        if value in pending or unseen.get(partition, 1):
            found.unclear.append(f"{queue.name}, {partition} offset {offset}: value {value} is still under way")
        else:
            found.add(
                f"{queue.name}, {partition} offset {offset}: value {value} was stored, is not parked, "
                "and nobody acknowledged it"
            )
