"""A partition with a queue group, driven by entries as an honest leader makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raftmq.ids import LeaseId, Offset, QueueId
from raftmq.partition import commands
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.commands import (
    Configure,
    Extend,
    Extended,
    Grant,
    Granted,
    Introduce,
    QueueAnswer,
    QueueCommand,
    QueueOp,
    Redrive,
    Redriven,
    Refused,
    Settle,
    Settled,
    Status,
    Verdict,
)
from raftmq.partition.queues.group import Now, QueueGroup
from raftmq.partition.queues.settings import QueueSettings
from raftmq.raft.types import EntryKind
from raftmq.records.state_kinds import StateKind
from tests.partition.test_partition_machine import LogBuilder

GROUP = QueueId(7)
SECRET = bytes(range(16))


class Partition:
    """Every op is an entry of its own, unless they are given together."""

    def __init__(self, settings: QueueSettings | None = None, records: int = 0) -> None:
        self.log = LogBuilder()
        self.machine = PartitionMachine()
        self.disk: dict[tuple[StateKind, bytes], bytes] = {}
        if records:
            self.publish(records)
        if settings is not None:
            self.ask(Configure(GROUP, settings, Offset(0)))
            if records:
                self.introduce(0, records)

    @property
    def group(self) -> QueueGroup:
        return self.machine.queues.groups[GROUP]

    @property
    def now(self) -> Now:
        return Now(self.machine.log_tick, self.machine.wall_ms)

    def publish(self, records: int) -> None:
        self.machine.apply(self.log.data(records))

    def ask_all(self, *ops: QueueOp, elapsed: int = 0) -> tuple[QueueAnswer, ...]:
        """All of them in one entry."""
        command = QueueCommand(ops)
        body, version = commands.encode(command), commands.version_of(command)
        entry = self.log.entry(EntryKind.COMMAND, elapsed, inline=body, version=version)
        answers = self.machine.apply(entry).queue
        self.machine.queues.check(self.now)
        return answers

    def ask(self, op: QueueOp, elapsed: int = 0) -> QueueAnswer:
        (answer,) = self.ask_all(op, elapsed=elapsed)
        return answer

    def wait(self, elapsed: int) -> None:
        """Time passes, and a leader says so."""
        self.machine.apply(self.log.command(commands.TickCommand(), elapsed))
        self.machine.queues.check(self.now)

    def trim(self, offset: int) -> int:
        """Returns the log start that came of it."""
        self.machine.apply(self.log.command(commands.TrimCommand(Offset(offset))))
        self.machine.queues.check(self.now)
        return self.machine.log_start_offset

    def introduce(self, first: int, after: int, **known: Any) -> QueueAnswer:
        return self.ask(Introduce(GROUP, Offset(first), Offset(after), **known))

    def grant(self, most: int = 100, *, lease_ms: int = 0, elapsed: int = 0, worker: str = "w") -> Granted:
        answer = self.ask(Grant(GROUP, worker, most, SECRET, lease_ms), elapsed)
        assert isinstance(answer, Granted)
        return answer

    def settle(
        self, lease: LeaseId, verdict: Verdict, *offsets: int, elapsed: int = 0, secret: bytes = SECRET, **more: Any
    ) -> Sequence[Status]:
        answer = self.ask(Settle(GROUP, lease, secret, verdict, offsets, **more), elapsed)
        assert isinstance(answer, Settled)
        return answer.statuses

    def ack(self, lease: LeaseId, *offsets: int, **more: Any) -> Sequence[Status]:
        return self.settle(lease, Verdict.ACK, *offsets, **more)

    def redrive(self, *offsets: int) -> Redriven:
        answer = self.ask(Redrive(GROUP, offsets))
        assert isinstance(answer, Redriven)
        return answer

    def extend(self, lease: LeaseId, lease_ms: int, elapsed: int = 0) -> Extended | Refused:
        answer = self.ask(Extend(GROUP, lease, SECRET, lease_ms), elapsed)
        assert isinstance(answer, Extended | Refused)
        return answer

    def flush(self) -> None:
        """Write what has changed."""
        for kind, key, value in self.machine.take_rows():
            if value is None:
                self.disk.pop((kind, key), None)
            else:
                self.disk[kind, key] = value

    def restart(self) -> None:
        """Go on from what is on disk; what is written of it equals what there is."""
        self.flush()
        assert [(kind, key, value) for (kind, key), value in sorted(self.disk.items())] == self.machine.all_rows()
        restarted = PartitionMachine()
        restarted.restore((kind, key, value) for (kind, key), value in self.disk.items())
        restarted.queues.check(self.now)
        assert restarted.all_rows() == self.machine.all_rows()
        assert restarted.take_rows() == []
        self.machine = restarted
