"""Readings of queue groups, in the partitions that this node leads: summed over a topic's partitions."""

from __future__ import annotations

from collections import Counter

from raftmq.assembly import Assembly
from raftmq.ids import QueueId
from raftmq.observe import metrics
from raftmq.observe.metrics import Readings
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.tally import Counter as Tally

OUTCOMES = (Tally.ACKED, Tally.RELEASED, Tally.RETRIED, Tally.LEASE_EXPIRED, Tally.PARKED, Tally.DROPPED, Tally.ROUTED)


def collect(readings: Readings, assembly: Assembly) -> None:
    """On the event loop only."""
    image = assembly.controller.image
    records: Counter[tuple[str, str, str]] = Counter()
    outcomes: Counter[tuple[str, str, str]] = Counter()
    held = 0
    for group_id, group in assembly.replicas.groups.items():
        machine = group.machine
        if not isinstance(machine, PartitionMachine) or not machine.queues or not group.is_leader:
            continue
        held += machine.queues.held.bytes
        for number, known in image.queue_groups.items():
            state = machine.queues.groups.get(QueueId(number))
            if state is None or group_id not in image.groups:
                continue
            place = (image.groups[group_id][0], known.name)
            depth = machine.queues.depth(QueueId(number))
            for name in ("ready", "waiting", "leased", "delayed", "parked"):
                records[(*place, name)] += getattr(depth, name)
            records[(*place, "unseen")] += machine.next_offset - depth.frontier
            for outcome in OUTCOMES:
                outcomes[(*place, outcome.name.lower())] += depth.counters[outcome]
    for labels, count in sorted(records.items()):
        readings.put(metrics.QUEUE_RECORDS, count, *labels)
    for labels, count in sorted(outcomes.items()):
        readings.put(metrics.QUEUE_SETTLED, count, *labels)
    readings.put(metrics.QUEUE_HELD, held)
