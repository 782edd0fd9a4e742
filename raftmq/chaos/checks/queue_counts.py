"""Q6. The numbers add up: when all is quiet the records of a partition are those done, ready, waiting, leased, delayed,
parked and not seen yet; what is told as acknowledged and as retried is what workers were told, give or take what nobody
knows.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History, Outcome
from raftmq.chaos.queue_events import Queue

STATES = ("done", "ready", "waiting", "leased", "delayed", "parked", "unseen")


def check(history: History) -> Findings:
    found = Findings()
    numbers = {history.name(partition): log for partition, log in history.final.items()}
    for queue in history.queues.values():
        for partition, counts in sorted(queue.counts.items()):
            if partition not in numbers:
                continue
            found.examined += 1
            stored = numbers[partition].high_watermark - counts["start"]
            told = sum(counts[state] for state in STATES)
            if told != stored:
                parts = ", ".join(f"{counts[state]} {state}" for state in STATES)
                found.add(f"{queue.name}, {partition}: {stored} records, but {told} in all: {parts}")
            _settled(queue, partition, counts["acked"], counts["retried"], found)
            parked = sum(one.partition == partition and one.state == "parked" for one in queue.left.values())
            if parked != counts["parked"]:
                found.add(f"{queue.name}, {partition}: {counts['parked']} are said to be parked, {parked} are shown")
    return found


def _settled(queue: Queue, partition: str, acked: int, retried: int, found: Findings) -> None:
    for kind, told in (("ack", acked), ("retry", retried)):
        tokens = [(one.token, one.outcome) for one in queue.verdicts if one.partition == partition and one.kind == kind]
        sure = len({token for token, outcome in tokens if outcome == Outcome.OK})
        most = len({token for token, outcome in tokens if outcome != Outcome.FAIL})
        found.examined += 1
        if not sure <= told <= most:
            found.add(f"{queue.name}, {partition}: {told} times {kind} is told; {sure} to {most} were accepted")
