"""What is done for every group again and again, whoever leads it: derived state is written, old records are trimmed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raftmq.groups import commands as group_commands
from raftmq.groups.commands import Trim
from raftmq.groups.machine import GroupsMachine
from raftmq.ids import GroupId, LogIndex, Offset, Tick
from raftmq.partition import commands
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.message_ids import Window
from raftmq.ports import WriteOp
from raftmq.raft.errors import RaftRefusal
from raftmq.replica.backlog import Backlog
from raftmq.replica.heartbeats import NodeHeartbeats
from raftmq.replica.leading import Hosted
from raftmq.replica.machine import StateMachine
from raftmq.replica.outbox import Outbox
from raftmq.replica.retention import RECLAIM_BYTES, Retention, plan_trim
from raftmq.replica.sealing import Draft
from raftmq.replica.settings import ReplicaSettings
from raftmq.replica.tail import TailBudget

TRIM_INTERVAL = 5
"""How often a leader asks whether records of its partition may go, in election timeouts."""
WAITED_FOR = 10
"""A replica whose node was not heard of for so many election timeouts, or is known to be down, holds nothing back."""


class Upkeep:
    """``hosted`` is the owner's: every replica of this node."""

    def __init__(
        self, hosted: Mapping[GroupId, Hosted], heartbeats: NodeHeartbeats, now: Tick, settings: ReplicaSettings
    ) -> None:
        self.retention: Mapping[GroupId, Retention] = {}
        """What partitions want to keep at least; those that are not named keep everything."""
        self.queued: set[GroupId] = set()
        """Partitions on this node that may have queues."""
        self.hold: Callable[[GroupId, Offset], bool] = lambda group, below: True
        """Told what is to be trimmed, where queues need some of it: it is to be held beside the log. False: there is no
        room for it there."""
        self.backlog = Backlog(lambda group: None if (found := hosted.get(group)) is None else found.group)
        self.tails = TailBudget(settings.tail_bytes)
        self._hosted = hosted
        self._heartbeats = heartbeats
        self._flush_interval = settings.flush_interval
        self.trim_interval = TRIM_INTERVAL * settings.raft.election_timeout
        self.waited_for = WAITED_FOR * settings.raft.election_timeout
        self.held_bytes_max = settings.held_bytes_max
        self.reclaim_bytes = RECLAIM_BYTES
        self._windows: Mapping[GroupId, Window] = {}
        self._unset: set[GroupId] = set()
        """Partitions whose window may be another than it is to be."""
        self._unflushed: set[GroupId] = set()
        self._next_flush = self._next_trim = self._next_windows = now

    def progressed(self, hosted: Hosted) -> None:
        """Its state machine may be ahead of what was written of it."""
        machine = hosted.group.machine
        if machine.applied_index != hosted.flushed:
            self._unflushed.add(hosted.group.id)
        if isinstance(machine, PartitionMachine) and machine.queues:
            self.queued.add(hosted.group.id)

    def leads(self, group_id: GroupId) -> None:
        """A leadership has begun here."""
        if group_id in self._windows:
            self._unset.add(group_id)

    def dropped(self, group_id: GroupId) -> None:
        for known in (self._unflushed, self._unset, self.queued):
            known.discard(group_id)
        self.tails.forget(group_id)

    @property
    def windows(self) -> Mapping[GroupId, Window]:
        """How long each partition is to remember message ids. To be assigned as a whole."""
        return self._windows

    @windows.setter
    def windows(self, windows: Mapping[GroupId, Window]) -> None:
        self._windows, self._unset = windows, set(windows)

    def deadline(self) -> Tick:
        """When the next of them is due."""
        return min(self._next_flush, self._next_trim, self._next_windows)

    # -- derived state -----------------------------------------------------------------------------------------------

    def flush(self, now: Tick) -> list[WriteOp]:
        """If it is time: what is to be written. It needs no sync of its own: whatever is lost of it is replayed."""
        if now < self._next_flush:
            return []
        self._next_flush = Tick(now + self._flush_interval)
        outbox = Outbox(0)
        for group_id in sorted(self._unflushed):
            hosted = self._hosted[group_id]
            hosted.group.flush(outbox)
            hosted.flushed = hosted.group.machine.applied_index
        self._unflushed.clear()
        return outbox.round.ops

    # -- commands ----------------------------------------------------------------------------------------------------

    def propose(self, now: Tick, wall_ms: int) -> list[GroupId]:
        """What is due in partitions that are led here: windows of message ids, and trims. Returns those with a
        proposal."""
        proposed: list[GroupId] = []
        if now >= self._next_windows:
            self._next_windows = Tick(now + self._flush_interval)
            proposed += [group_id for group_id in sorted(self._unset) if self._set(group_id, now, wall_ms)]
        if now >= self._next_trim:
            proposed += self._trim(now, wall_ms)
        return proposed

    def _set(self, group_id: GroupId, now: Tick, wall_ms: int) -> bool:
        """Only the leader changes a window: once it is right here, it stays until another is wanted or led."""
        hosted, window = self._hosted.get(group_id), self._windows[group_id]
        leadership = None if hosted is None else hosted.leadership
        if leadership is None or leadership.remembers(window):
            self._unset.discard(group_id)
            return False
        return leadership.remember_ids(window, now, wall_ms)

    def _trim(self, now: Tick, wall_ms: int) -> list[GroupId]:
        self._next_trim = Tick(now + self.trim_interval)
        return [
            group_id
            for group_id, hosted in sorted(self._hosted.items())
            if self._propose(hosted, self.retention.get(group_id), now, wall_ms)
        ]

    def _propose(self, hosted: Hosted, retention: Retention | None, now: Tick, wall_ms: int) -> bool:
        group = hosted.group
        if hosted.is_trimming or not group.can_serve():
            return False
        queues = group.machine.queues if isinstance(group.machine, PartitionMachine) else None
        kept_from = self.backlog.kept_from(group.id, now)
        if kept_from is not None:  # this says it all: nothing from there on may go, whatever its age and size
            retention = Retention(done_below=max(kept_from, group.machine.log_start_offset))
        if retention is None:
            return False  # who is named, and has no limits, may still have entries that only replicas needed
        stamp = group.stamp(now, wall_ms)
        command = plan_trim(
            group.extents,
            retention,
            log_start=group.machine.log_start_offset,
            raft_start=group.machine.raft_start,
            wall_ms=stamp[1],
            needed_from=self._needed_from(hosted, now),
            held_bytes_max=self.held_bytes_max,
            reclaim_bytes=self.reclaim_bytes,
        )
        if command is None:
            return False
        pinned = queues.pinned(command.log_start_offset, 1) if queues else []
        if pinned and (self.hold(group.id, command.log_start_offset) or pinned[0] <= group.machine.log_start_offset):
            # What a queue still needs is put aside first; then it goes like the rest. Where it cannot be, it stays, and
            # so does everything behind it: the trim ends there when it is applied.
            return False

        def done(_answer: object) -> None:
            hosted.is_trimming = False

        try:
            group.propose_command(trim_draft(group.machine, command, stamp), done)
        except RaftRefusal:
            return False  # leadership is being handed over, or the quorum is slow: the next round will do
        hosted.is_trimming = True
        return True

    def _needed_from(self, hosted: Hosted, now: Tick) -> LogIndex:
        """The first entry that some replica does not have which may come back for it soon. One that has not answered
        in this term has none; one that was silent for long is not waited for: it will need a snapshot."""
        node = hosted.group.node
        others = sorted(node.membership.all - {hosted.group.me})
        gone = self._heartbeats.is_gone
        waited_for = [node.match_index(member) for member in others if not gone(member, now, self.waited_for)]
        return LogIndex(min(waited_for, default=node.applied_index) + 1)


def trim_draft(machine: StateMachine, command: commands.TrimCommand, stamp: tuple[int, int]) -> Draft:
    """A trim in the words of the state machine."""
    if isinstance(machine, GroupsMachine):
        return Draft(group_commands.VERSION, 0, group_commands.encode(Trim(command.raft_start)), stamp=stamp)
    return Draft(commands.VERSION, 0, commands.encode(command), stamp=stamp)
