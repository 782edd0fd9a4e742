"""The state machine of a Raft group of consumer groups: what its committed log, applied in order, amounts to.

Unlike a partition's, this log is of no use once it is applied: everything that it led to is in the derived state. So
all of it may be trimmed, as far as no replica still has to get it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from google.protobuf.message import DecodeError

from raftmq.errors import PreconditionFailed, RaftmqError, UnknownGroup, UnknownMember
from raftmq.groups import rows
from raftmq.groups.commands import (
    Change,
    Changes,
    Commit,
    Confirm,
    DeleteGroup,
    DeleteOffsets,
    Expire,
    Forget,
    Join,
    Leave,
    Rest,
    SetOffsets,
    TopicsChanged,
    Trim,
    decode,
)
from raftmq.groups.group import ConsumerGroup
from raftmq.groups.types import TopicPartition
from raftmq.ids import LogIndex, Offset, WallMs
from raftmq.internal.v1 import storage_pb2
from raftmq.raft.types import EntryKind
from raftmq.records.entry import LogEntry
from raftmq.records.poison import CorruptState, PoisonEntry, parse_strictly
from raftmq.records.state_kinds import StateKind

APPLIED_KEY = b""
GROUPS_MAX = 10_000
"""Of one coordinator. Every replica holds them in memory."""

StateRow = tuple[StateKind, bytes, bytes | None]
Result = RaftmqError | list[RaftmqError | None] | None
"""What became of a change: refused; committed or refused, offset by offset; or done."""


class GroupsMachine:
    """The consumer groups of one coordinator. Not thread-safe; performs no IO.

    PoisonEntry from `apply` means that the Raft group must stop on this node. The state is as it was before.
    """

    def __init__(self) -> None:
        self.applied_index = LogIndex(0)
        self.next_offset = Offset(0)
        """Always 0: the log holds no records."""
        self.log_start_offset = Offset(0)
        """Always 0."""
        self.raft_start = LogIndex(1)
        """First entry that a replica may still have to get by an append."""
        self.log_tick = 0
        """Milliseconds of led time so far."""
        self.wall_ms = WallMs(0)
        """The newest wall stamp."""
        self.groups: dict[str, ConsumerGroup] = {}
        self._dirty: set[str] = set()
        self._dirty_offsets: set[tuple[str, TopicPartition]] = set()
        self._taken_index = LogIndex(0)

    # -- rows ------------------------------------------------------------------------------------------------------

    def restore(self, stored: Iterable[tuple[StateKind, bytes, bytes]]) -> None:
        """Take over the rows of an earlier run. Raises CorruptState where they cannot have been written by one."""
        assert self.applied_index == 0, "restore comes before the first entry"
        try:
            self._restore(stored)
        except (AssertionError, DecodeError, KeyError, ValueError, struct.error) as error:
            raise CorruptState(str(error)) from error

    def _restore(self, stored: Iterable[tuple[StateKind, bytes, bytes]]) -> None:
        offsets: list[tuple[bytes, bytes]] = []
        for kind, key, value in stored:
            if kind is StateKind.CONSUMER_GROUP:
                group = rows.decode_group(key, value)
                self.groups[group.name] = group
            elif kind is StateKind.COMMITTED_OFFSET:
                offsets.append((key, value))
            else:
                assert (kind, key) == (StateKind.APPLIED, APPLIED_KEY), f"no row of consumer groups: {kind!r} {key!r}"
                applied = parse_strictly(storage_pb2.AppliedRow, value)
                self.applied_index = self._taken_index = LogIndex(applied.applied_index)
                self.log_tick, self.wall_ms = applied.log_tick, WallMs(applied.wall_ms)
                self.raft_start = LogIndex(max(1, applied.raft_start))
        assert self.applied_index > 0 or not (self.groups or offsets), "consumer groups without an applied row"
        for key, value in offsets:
            name, partition = rows.decode_offset_key(key)
            self.groups[name].offsets[partition] = rows.decode_offset(value)

    def take_rows(self) -> list[StateRow]:
        """Rows that changed since the last call, in order of (kind, key); to be written in one batch."""
        if self._taken_index == self.applied_index:
            return []
        self._taken_index = self.applied_index
        taken: list[StateRow] = [self._applied_row()]
        for name in sorted(self._dirty):
            group = self.groups.get(name)
            value = None if group is None else rows.encode_group(group)
            taken.append((StateKind.CONSUMER_GROUP, rows.group_key(name), value))
        offsets: list[StateRow] = []
        for name, partition in self._dirty_offsets:
            group = self.groups.get(name)
            committed = None if group is None else group.offsets.get(partition)
            value = None if committed is None else rows.encode_offset(committed)
            offsets.append((StateKind.COMMITTED_OFFSET, rows.offset_key(name, partition), value))
        taken += sorted(offsets, key=lambda row: row[1])
        self._dirty.clear()
        self._dirty_offsets.clear()
        return taken

    def all_rows(self) -> list[tuple[StateKind, bytes, bytes]]:
        """Everything that there is, in order of (kind, key): what ``restore`` needs to come to this very state."""
        groups = sorted((rows.group_key(name), group) for name, group in self.groups.items())
        offsets = [
            (rows.offset_key(name, partition), rows.encode_offset(committed))
            for name, group in self.groups.items()
            for partition, committed in group.offsets.items()
        ]
        return [
            self._applied_row(),
            *((StateKind.CONSUMER_GROUP, key, rows.encode_group(group)) for key, group in groups),
            *((StateKind.COMMITTED_OFFSET, key, value) for key, value in sorted(offsets)),
        ]

    def _applied_row(self) -> tuple[StateKind, bytes, bytes]:
        applied = storage_pb2.AppliedRow(
            applied_index=self.applied_index,
            log_tick=self.log_tick,
            wall_ms=self.wall_ms,
            raft_start=self.raft_start,
        )
        return StateKind.APPLIED, APPLIED_KEY, applied.SerializeToString()

    # -- applying --------------------------------------------------------------------------------------------------

    def apply(self, entry: LogEntry) -> list[Result]:
        """Apply a committed entry; returns what became of each of its changes. Raises PoisonEntry; nothing has changed
        then."""
        assert entry.index == self.applied_index + 1, f"entry {entry.index} cannot follow {self.applied_index}"
        if entry.log_tick < self.log_tick or entry.wall_ms < self.wall_ms:
            raise _poison(entry, "goes back in time")
        if entry.kind is EntryKind.DATA or entry.base_offset:
            raise _poison(entry, "holds records, which consumer groups never take")
        command = None
        if entry.kind is EntryKind.COMMAND:
            try:
                command = decode(entry.inline, entry.version)
            except PoisonEntry as error:
                raise _poison(entry, f"holds {error}") from None
        # Nothing below can fail.
        results: list[Result] = []
        match command:
            case Trim(index):
                self.raft_start = max(self.raft_start, min(index, entry.index))
            case Changes(changes):
                results = [self._change(name, change, entry) for name, change in changes]
        self.applied_index = entry.index
        self.log_tick = entry.log_tick
        self.wall_ms = WallMs(entry.wall_ms)
        return results

    def _change(self, name: str, change: Change, entry: LogEntry) -> Result:
        """Decide one change. Whatever refuses it has changed nothing."""
        try:
            group = self._group(name, change)
            result = self._decide(group, change, entry)
        except RaftmqError as refusal:
            return refusal
        self.groups[name] = group
        if not isinstance(change, Commit | SetOffsets) or group.is_new:
            self._dirty.add(name)
        group.is_new = False
        if group.is_forgettable:
            del self.groups[name]
            self._dirty.add(name)
        return result

    def _group(self, name: str, change: Change) -> ConsumerGroup:
        known = self.groups.get(name)
        if known is not None:
            return known
        match change:
            case Join() | SetOffsets() | Commit(member_id=""):
                if len(self.groups) >= GROUPS_MAX:
                    raise PreconditionFailed(f"its coordinator has {GROUPS_MAX} groups: no more", field="group")
                return ConsumerGroup(name)
            case Commit() | Confirm() | Leave():
                raise UnknownMember(f"group {name} has no members", field="member_id")
            case _:
                raise UnknownGroup(f"there is no group {name}", field="group")

    def expect_possible(self, name: str, change: Change) -> None:
        """Raises what `change` would be refused with as a whole, were it applied now; and what is too much for replicas
        to hold, which is a limit of the coordinator, not of the log: those who ask at once may get past it together."""
        group = self._group(name, change)
        match change:
            case Join(member):
                group.expect_room(member)
            case Leave(member_id) | Expire(member_id) | Confirm(member_id):
                group.member(member_id)
            case Commit(member_id, _, offsets):
                group.expect_committer(member_id)
                group.expect_room_beside(offsets)
            case SetOffsets(offsets):
                group.expect_empty()
                group.expect_room_beside(offsets)
            case DeleteOffsets() | DeleteGroup() | Rest() | Forget():
                group.expect_empty()

    def _decide(self, group: ConsumerGroup, change: Change, entry: LogEntry) -> Result:
        match change:
            case Join(member, assignor, facts):
                group.join(member, assignor, facts)
            case Leave(member_id) | Expire(member_id):
                group.leave(member_id)
            case Confirm(member_id, epoch, partitions):
                group.confirm(member_id, epoch, partitions)
            case Commit(member_id, epoch, offsets):
                results = group.commit(member_id, epoch, offsets, entry.log_tick, entry.wall_ms)
                committed = (key for (key, _), refusal in zip(offsets, results, strict=True) if refusal is None)
                self._dirty_offsets.update((group.name, key) for key in committed)
                return results
            case TopicsChanged(facts, deleted):
                lost = group.topics_changed(facts, deleted)
                self._dirty_offsets.update((group.name, key) for key in lost)
            case SetOffsets(offsets):
                group.set_offsets(offsets, entry.log_tick, entry.wall_ms)
                self._dirty_offsets.update((group.name, key) for key, _ in offsets)
            case DeleteOffsets(partitions):
                group.delete_offsets(partitions)
                self._dirty_offsets.update((group.name, key) for key in partitions)
            case Rest():
                group.rest(entry.log_tick)
            case DeleteGroup() | Forget():
                group.expect_empty()
                if isinstance(change, Forget):
                    group.expect_forgotten(change.resting_since, change.as_of)
                self._dirty_offsets.update((group.name, key) for key in group.offsets)
                group.offsets.clear()
        return None


def _poison(entry: LogEntry, reason: str) -> PoisonEntry:
    return PoisonEntry(f"entry {entry.index} of term {entry.term} {reason}")
