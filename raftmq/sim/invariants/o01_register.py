"""O1: the committed offset of a partition is a register: an answer tells what some commit wrote that was not surely
refused, and nothing only where nothing was known to be committed when it was asked for (Kafka's fetch of committed
offsets with `require stable`, without transactions). No exception."""

from __future__ import annotations

from raftmq.sim.group_history import NOTHING, CommittedRead, GroupCommit
from raftmq.sim.invariants.base import Final, Invariant
from raftmq.sim.oracle import Operation, Partition, Told


class Register(Invariant):
    name = "O1 committed offsets are a register"

    def __init__(self) -> None:
        self._asked: dict[tuple[str, Partition, int], list[GroupCommit]] = {}
        self._read: dict[tuple[str, Partition, int], None] = {}

    def ended(self, operation: Operation) -> None:
        match operation:
            case GroupCommit(told=Told.PENDING) as commit:
                self._asked.setdefault((commit.who.group, commit.partition, commit.offset), []).append(commit)
            case CommittedRead(group, floors, told):
                for partition, offset in told.items():
                    self._answered(group, partition, offset, floors.get(partition, NOTHING))

    def _answered(self, group: str, partition: Partition, offset: int, floor: int) -> None:
        if offset == NOTHING:
            self.require(floor == NOTHING, f"{group}, {partition}: told nothing, though {floor} was committed before")
            return
        self._read[group, partition, offset] = None
        self._require_written(group, partition, offset)

    def final(self, final: Final) -> None:
        for group, partition, offset in self._read:  # some were refused only after somebody had read them
            self._require_written(group, partition, offset)

    def _require_written(self, group: str, partition: Partition, offset: int) -> None:
        asked = self._asked.get((group, partition, offset), [])
        self.require(
            any(commit.told is not Told.FAILED for commit in asked),
            f"{group}, {partition}: {offset} was read, and every commit of it was told to have failed: {asked}"
            if asked
            else f"{group}, {partition}: {offset} was read, which nobody committed",
        )
