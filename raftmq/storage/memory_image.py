"""What ``MemoryStore`` holds at one moment, and what operations make of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from raftmq.ids import Generation, GroupId, LogIndex, Offset
from raftmq.ports import (
    DropReplica,
    PutEntries,
    PutNode,
    PutReplica,
    PutState,
    ReplicaRow,
    StateKind,
    TrimBefore,
    TruncateFrom,
    WriteOp,
)
from raftmq.raft.types import EntryKind
from raftmq.records.entry import LogEntry
from raftmq.storage.keys import node_key
from raftmq.storage.rows import DiskIdentity


@dataclass(slots=True)
class MemoryLog:
    """One generation's log. ``offsets`` are the base offsets of ``batches``, its data entries."""

    entries: list[LogEntry] = field(default_factory=list)
    offsets: list[Offset] = field(default_factory=list)
    batches: list[LogEntry] = field(default_factory=list)
    next_index: LogIndex | None = None

    def copy(self) -> MemoryLog:
        return MemoryLog(self.entries.copy(), self.offsets.copy(), self.batches.copy(), self.next_index)

    def position(self, index: LogIndex) -> int:
        """Where `index` is, or would be, in ``entries``."""
        first = self.entries[0].index if self.entries else index
        return min(max(index - first, 0), len(self.entries))

    def append(self, entries: Sequence[LogEntry]) -> None:
        for entry in entries:
            assert self.next_index in (None, entry.index), (
                f"entry {entry.index} cannot follow entry {self.next_index} - 1"
            )
            self.entries.append(entry)
            self.next_index = LogIndex(entry.index + 1)
            if entry.kind is EntryKind.DATA:
                assert entry.count > 0, f"data entry {entry.index} has no records"
                self.offsets.append(entry.base_offset)
                self.batches.append(entry)
            else:
                assert not entry.payload, f"entry {entry.index} is no data and has a payload"

    def truncate(self, index: LogIndex, offset: Offset) -> None:
        if self.next_index is None or index >= self.next_index:
            return
        del self.entries[self.position(index) :]
        at = bisect_left(self.offsets, offset)
        del self.offsets[at:]
        del self.batches[at:]
        self.next_index = index

    def trim(self, index: LogIndex, offset: Offset) -> None:
        del self.entries[: self.position(index)]
        at = bisect_left(self.offsets, offset)
        del self.offsets[:at]
        del self.batches[:at]


@dataclass(slots=True)
class Image:
    """Everything on the disk at one moment."""

    disk: DiskIdentity
    logs: dict[Generation, MemoryLog] = field(default_factory=dict)
    rows: dict[GroupId, ReplicaRow] = field(default_factory=dict)
    states: dict[Generation, dict[tuple[StateKind, bytes], bytes]] = field(default_factory=dict)
    node: dict[bytes, bytes] = field(default_factory=dict)

    def copy(self) -> Image:
        return Image(
            self.disk,
            {generation: log.copy() for generation, log in self.logs.items()},
            self.rows.copy(),
            {generation: rows.copy() for generation, rows in self.states.items()},
            self.node.copy(),
        )

    def apply(self, ops: Sequence[WriteOp | DiskIdentity]) -> None:
        for op in ops:
            match op:
                case PutEntries(generation, entries):
                    self.logs.setdefault(generation, MemoryLog()).append(entries)
                case TruncateFrom(generation, index, offset):
                    self.logs.setdefault(generation, MemoryLog()).truncate(index, offset)
                case TrimBefore(generation, _, end):
                    self.logs.setdefault(generation, MemoryLog()).trim(end.index, end.offset)
                case PutReplica(row):
                    self.rows[row.group] = row
                case DropReplica(group, generation):
                    self._drop(group, generation)
                case PutState(generation, kind, key, None):
                    self.states.get(generation, {}).pop((kind, key), None)
                case PutState(generation, kind, key, bytes() as value):
                    self.states.setdefault(generation, {})[kind, key] = value
                case PutNode(name, value):
                    self.node[node_key(name)] = value
                case DiskIdentity():
                    self.disk = op

    def _drop(self, group: GroupId, generation: Generation) -> None:
        self.logs.pop(generation, None)
        self.states.pop(generation, None)
        if group in self.rows and self.rows[group].generation == generation:
            del self.rows[group]


NO_LOG = MemoryLog()
