"""Topics that are only so deep: what a seed decides about the limit, and what a log says of how deep it became."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from raftmq.client.types import Overflow
from raftmq.partition.machine import PartitionMachine
from raftmq.raft.types import EntryKind
from raftmq.records.entry import LogEntry

IN_FLIGHT = 64
"""Entries, at most, between what a leader had applied when it took a batch, and that batch."""
SAMPLED_UP_TO = 2
"""Where batches are sampled, the limit times this is what is never exceeded."""
POLICIES: tuple[Overflow, ...] = ("reject", "block", "drop_oldest", "sample", "drop_lowest_priority")


@dataclass(frozen=True, slots=True)
class DepthPlan:
    """Of one topic; 0: no such limit."""

    topic: str
    overflow: Overflow
    max_records: int = 0
    max_bytes: int = 0
    sample_one_in: int = 2

    def settings(self, topic: str) -> dict[str, Any]:
        """What ``Admin.create_topic`` is told of it."""
        if topic != self.topic:
            return {}
        return {
            "max_depth_records": self.max_records,
            "max_depth_bytes": self.max_bytes,
            "overflow": self.overflow,
            "sample_one_in": self.sample_one_in,
        }


def draw_depth(rng: Random, topic: str) -> DepthPlan | None:
    """A limit in two seeds of five."""
    if rng.random() >= 0.4:
        return None
    overflow, by_bytes = rng.choice(POLICIES), rng.random() < 0.3
    return DepthPlan(
        topic,
        overflow,
        max_records=0 if by_bytes else rng.choice((10, 20)),
        max_bytes=rng.choice((4_000, 8_000)) if by_bytes else 0,
        sample_one_in=rng.choice((2, 5)),
    )


def too_deep(plan: DepthPlan, entries: Sequence[LogEntry]) -> str:
    """Where a log became deeper than it may; empty: nowhere. A leader goes by what it had applied when it took a batch,
    and positions of groups fall with a seek and a redrive: so the latest position of the entries just before counts."""
    machine, lows = PartitionMachine(), deque([0], IN_FLIGHT)
    behind: deque[LogEntry] = deque()
    factor = SAMPLED_UP_TO if plan.overflow == "sample" else 1
    for entry in entries:
        machine.apply(entry)
        if entry.kind is EntryKind.DATA:
            low = max(lows)
            behind.append(entry)
            while behind[0].base_offset < low and len(behind) > 1:
                behind.popleft()
            records = entry.next_offset - low
            size = sum(one.stored_bytes for one in behind if one.base_offset >= low)
            if plan.max_records and records > factor * plan.max_records:
                return f"entry {entry.index} makes it {records} records deep, {plan.max_records} are allowed"
            if plan.max_bytes and size > factor * plan.max_bytes:
                return f"entry {entry.index} makes it {size} bytes deep, {plan.max_bytes} are allowed"
        lows.append(max(machine.log_start_offset, _lowest(machine)))
    return ""


def _lowest(machine: PartitionMachine) -> int:
    """The first record that some group has yet to be done with, parked ones aside; 0: there is no group."""
    groups = machine.queues.groups.values()
    return min(
        (next((at for at in one.open if at not in one.parked.offsets), one.frontier) for one in groups), default=0
    )
