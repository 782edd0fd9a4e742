"""Readings of queue groups: summed over a topic's partitions, and whether their numbers add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import structlog

from raftmq.assembly import Assembly
from raftmq.observe import metrics
from raftmq.observe.metrics import Readings
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.check import check_numbers, depth
from raftmq.partition.queues.group import QueueGroup
from raftmq.partition.queues.tally import Counter as Tally
from raftmq.replica.group import ReplicaGroup

_log = structlog.get_logger(__name__)

STATES = ("ready", "waiting", "leased", "delayed", "parked")
OUTCOMES = (
    Tally.ACKED,
    Tally.RELEASED,
    Tally.RETRIED,
    Tally.LEASE_EXPIRED,
    Tally.PARKED,
    Tally.REDRIVEN,
    Tally.DROPPED,
    Tally.EXPIRED,
    Tally.CANCELLED,
    Tally.SKIPPED,
    Tally.BREAKER_OPENED,
    Tally.ROUTED,
)

Place = tuple[str, str]
"""(topic, group)."""


@dataclass(slots=True)
class _Sums:
    records: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    offsets: Counter[Place] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    breakers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    violations: Counter[Place] = field(default_factory=Counter)
    held: int = 0

    def put(self, readings: Readings) -> None:
        for sums, metric in (
            (self.records, metrics.QUEUE_RECORDS),
            (self.offsets, metrics.QUEUE_OFFSETS),
            (self.outcomes, metrics.QUEUE_SETTLED),
            (self.breakers, metrics.QUEUE_BREAKERS),
            (self.violations, metrics.QUEUE_VIOLATIONS),
        ):
            for labels, count in sorted(sums.items()):
                readings.put(metric, count, *labels)
        readings.put(metrics.QUEUE_HELD, self.held)


def collect(readings: Readings, assembly: Assembly) -> None:
    """On the event loop only, between two entries: what is seen of a group is all of one moment. Costs microseconds
    for each group of a replica, however many records it has."""
    image, sums = assembly.controller.image, _Sums()
    for group_id, replica in assembly.replicas.groups.items():
        machine = replica.machine
        if not isinstance(machine, PartitionMachine) or not machine.queues or group_id not in image.groups:
            continue
        topic, is_led = image.groups[group_id][0], replica.is_leader
        sums.held += machine.queues.held.bytes if is_led else 0
        log_tick = _log_tick(assembly, replica, machine) if is_led else 0
        for queue_id, group in machine.queues.groups.items():
            known = image.queue_groups.get(queue_id)
            if known is None:
                continue
            place = (topic, known.name)
            sums.violations[place] += _is_violated(replica, group, known.name)
            if is_led:
                _count(sums, place, machine, group)
                _breaker(sums.breakers, place, group, log_tick)
    sums.put(readings)


def _count(sums: _Sums, place: Place, machine: PartitionMachine, group: QueueGroup) -> None:
    counted = depth(group)
    for state in STATES:
        sums.records[(*place, state)] += getattr(counted, state)
    sums.records[(*place, "done")] += counted.closed
    sums.records[(*place, "unseen")] += machine.next_offset - counted.frontier
    sums.offsets[place] += machine.next_offset - counted.start
    for outcome in OUTCOMES:
        sums.outcomes[(*place, outcome.name.lower())] += counted.counters[outcome]


def _breaker(breakers: Counter[tuple[str, str, str]], place: Place, group: QueueGroup, log_tick: int) -> None:
    breakers[(*place, "open")] += group.breaker_until > log_tick
    breakers[(*place, "trying")] += 0 < group.breaker_until <= log_tick


def _log_tick(assembly: Assembly, replica: ReplicaGroup, machine: PartitionMachine) -> int:
    """Of now: a breaker's pause passes although nothing is appended."""
    return assembly.queues.desk_of(replica.id).stamp()[0] if replica.can_serve() else machine.log_tick


def _is_violated(replica: ReplicaGroup, group: QueueGroup, name: str) -> bool:
    try:
        check_numbers(group)
    except AssertionError as wrong:
        _log.error("records of a queue group are in no state, or in two", group=replica.id, queue=name, why=str(wrong))
        return True
    return False
