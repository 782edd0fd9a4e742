"""O5: nothing is committed that nobody has processed: every record below an offset that is asked to be committed was
processed by some member before. Exception: a group that commits before it gives promises the opposite, that no record
is given to two, nor twice."""

from __future__ import annotations

from raftmq.sim.group_history import Given, GroupCommit, Processed
from raftmq.sim.invariants.base import Invariant
from raftmq.sim.oracle import Operation, Partition, Told


class NothingSkipped(Invariant):
    name = "O5 nothing is skipped"

    def __init__(self) -> None:
        self._processed: dict[tuple[str, Partition], dict[int, None]] = {}
        self._reached: dict[tuple[str, Partition], int] = {}
        """Everything below was processed."""
        self._given: dict[tuple[str, Partition, int], Given] = {}

    def ended(self, operation: Operation) -> None:
        match operation:
            case Processed(who, partition, offset):
                self._processed.setdefault((who.group, partition), {})[offset] = None
            case GroupCommit(told=Told.PENDING, is_at_most_once=False) as commit:
                reached = self._advance((commit.who.group, commit.partition))
                self.require(
                    commit.offset <= reached,
                    f"{commit.partition}: {commit.who} commits {commit.offset}, and nobody has processed {reached}",
                )
            case Given(who, partition, offset, is_at_most_once=True) as given:
                other = self._given.setdefault((who.group, partition, offset), given)
                self.require(other is given, f"{partition}: offset {offset} is given to {who}, after {other.who}")

    def _advance(self, key: tuple[str, Partition]) -> int:
        reached, processed = self._reached.get(key, 0), self._processed.get(key, {})
        while reached in processed:
            reached += 1
        self._reached[key] = reached
        return reached
