"""Batches that went through this node as a leader, per group: added up a batch at a time, never per record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from raftmq.ids import GroupId
from raftmq.measure import SECONDS, Distribution
from raftmq.ports import BatchRow
from raftmq.records.loose import Sized
from raftmq.replica.waits import Ack, Acks


@dataclass(slots=True)
class Flow:
    """Since the process began."""

    batches: int = 0
    records: int = 0
    bytes: int = 0
    """Of payloads: what compression left of the records."""


class Traffic:
    """See the module docstring. Counts of a group outlive its replica here, so that no sum of them ever falls."""

    def __init__(self) -> None:
        self.produced: defaultdict[GroupId, Flow] = defaultdict(Flow)
        """Acknowledged; without duplicates, which bring nothing new."""
        self.fetched: defaultdict[GroupId, Flow] = defaultdict(Flow)
        self.stages = {name: Distribution(SECONDS[2:]) for name in ("queue", "sync", "replication")}
        """Of batches acknowledged with QUORUM or ALL, in seconds: as their receipts say, to the millisecond."""

    def acknowledged(self, group: GroupId, batch: Sized, acks: Acks, ack: Ack) -> None:
        if ack.duplicate:
            return
        flow = self.produced[group]
        flow.batches += 1
        flow.records += batch.count
        flow.bytes += len(batch.payload)
        if acks in (Acks.ALL, Acks.QUORUM):
            self.stages["queue"].add(ack.queue_ms / 1000)
            self.stages["sync"].add(ack.sync_ms / 1000)
            self.stages["replication"].add(ack.replication_ms / 1000)

    def read(self, group: GroupId, rows: Iterable[BatchRow]) -> None:
        flow = self.fetched[group]
        for row in rows:
            flow.batches += 1
            flow.records += row.count
            flow.bytes += len(row.payload)

    def forget(self, group: GroupId) -> None:
        """The group is gone for good: its number is never used again."""
        self.produced.pop(group, None)
        self.fetched.pop(group, None)
