"""Logs and rows for the tests of the stores."""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.ids import Generation, GroupId, LogIndex, NodeId, Offset, ReplicaId, StoreId, Term
from raftmq.ports import (
    DropReplica,
    PutEntries,
    PutReplica,
    PutState,
    ReplicaRow,
    StateKind,
    TrimBefore,
    TrimPoint,
    TruncateFrom,
)
from raftmq.raft.types import EntryKind, HardState, Membership
from raftmq.records.entry import CHAIN_START, LogEntry, seal

NODE = NodeId(1)
GROUP = GroupId(5)
GENERATION = Generation(7)
EVERYTHING = 1 << 40


def replica_id(node: int) -> ReplicaId:
    return ReplicaId(NodeId(node), StoreId(1000 + node))


MEMBERS = Membership(frozenset(replica_id(node) for node in (1, 2, 3)))


class LogBuilder:
    """Makes entries that follow one another."""

    def __init__(self, first: int = 1, offset: int = 0) -> None:
        self.entries: list[LogEntry] = []
        self._first = first
        self._offset = offset

    @property
    def next_index(self) -> int:
        return self._first + len(self.entries)

    @property
    def next_offset(self) -> int:
        return self.entries[-1].next_offset if self.entries else self._offset

    def data(self, count: int = 3, *, payload: bytes | None = None, term: int = 1, wall_ms: int = 0) -> LogEntry:
        payload = b"payload %d of term %d" % (self.next_index, term) if payload is None else payload
        return self._seal(EntryKind.DATA, count, payload, term, wall_ms)

    def noop(self, *, term: int = 1, wall_ms: int = 0) -> LogEntry:
        before = self.entries[-1].wall_ms if self.entries else 0
        return self._seal(EntryKind.NOOP, 0, b"", term, max(wall_ms, before))

    def cut(self, index: int) -> TruncateFrom:
        """Forget the entries from `index` on, and how to truncate a store alike."""
        at = index - self._first
        offset = self.entries[at].base_offset if at < len(self.entries) else self.next_offset
        del self.entries[at:]
        return TruncateFrom(GENERATION, LogIndex(index), Offset(offset))

    def start(self, index: int) -> TrimPoint:
        """The log's beginning if it began with the entry at `index`."""
        at = index - self._first
        before = self.entries[at - 1] if at else None
        if before is None:
            return TrimPoint(LogIndex(index), Offset(self._offset), 0)
        return TrimPoint(LogIndex(index), before.next_offset, before.wall_ms)

    def trimmed(self, end: int, begin: int = 1) -> TrimBefore:
        """How to trim a store that begins with the entry `begin`. The entries stay here."""
        return TrimBefore(GENERATION, self.start(begin), self.start(end))

    def _seal(self, kind: EntryKind, count: int, payload: bytes, term: int, wall_ms: int) -> LogEntry:
        entry = seal(
            previous_chain=self.entries[-1].chain if self.entries else CHAIN_START,
            index=LogIndex(self.next_index),
            term=Term(term),
            kind=kind,
            version=1,
            base_offset=Offset(self.next_offset),
            count=count,
            log_tick=self.next_index,
            wall_ms=wall_ms,
            inline=b"header %d" % self.next_index,
            payload=payload,
        )
        self.entries.append(entry)
        return entry


def mixed_log(length: int, first: int = 1, offset: int = 0) -> LogBuilder:
    """A no-op, then data with another no-op now and then."""
    log = LogBuilder(first, offset)
    for number in range(length):
        if number % 4 == 0:
            log.noop()
        else:
            log.data(wall_ms=400 * number)
    return log


def put(entries: Sequence[LogEntry], generation: int = GENERATION) -> PutEntries:
    return PutEntries(Generation(generation), tuple(entries))


def row(group: int = GROUP, generation: int = GENERATION, term: int = 1, *, suspect: bool = False) -> ReplicaRow:
    return ReplicaRow(
        group=GroupId(group),
        generation=Generation(generation),
        hard_state=HardState(Term(term), replica_id(2)),
        memberships=((LogIndex(0), MEMBERS),),
        suspect=suspect,
    )


def put_row(group: int = GROUP, generation: int = GENERATION, term: int = 1) -> PutReplica:
    return PutReplica(row(group, generation, term))


def put_state(key: bytes, value: bytes | None, kind: StateKind = StateKind.PRODUCER) -> PutState:
    return PutState(GENERATION, kind, key, value)


def drop(group: int = GROUP, generation: int = GENERATION) -> DropReplica:
    return DropReplica(GroupId(group), Generation(generation))
