"""What a replica gives to one that is behind the start of its log: a *cut* at its applied index.

    head      what the snapshot stands for, and where this log begins
    entries   every entry on disk up to the cut; rows never change, so they are read at leisure
    state     the state machine's rows, as they were at the moment of the cut
    end

Only the state has to be of one moment, and it is in memory: taking a cut is a copy, made between two rounds. Entries
are the same on every replica that has them committed, so a stream that broke off may go on from another cut, or from
another replica. What was fetched stays good, and only the state is sent anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from raftmq.ids import Generation, LogIndex
from raftmq.ports import SnapshotEnd, SnapshotHead, SnapshotState, StateKind
from raftmq.raft.types import SnapshotMeta
from raftmq.replica.group import ReplicaGroup

PART_BYTES = 256 * 1024
"""About how much goes into one part."""

StateRow = tuple[StateKind, bytes, bytes]
_LENGTHS = struct.Struct(">BII")


@dataclass(frozen=True, slots=True)
class Cut:
    """One replica at one moment. Its entries are to be read from ``generation``."""

    generation: Generation
    head: SnapshotHead
    rows: Sequence[StateRow]

    def ending(self, part_bytes: int = PART_BYTES) -> Iterator[SnapshotState | SnapshotEnd]:
        """The parts after the entries."""
        part: list[StateRow] = []
        size = 0
        for row in self.rows:
            if part and size + len(row[2]) > part_bytes:
                yield SnapshotState(tuple(part))
                part, size = [], 0
            part.append(row)
            size += len(row[2])
        yield SnapshotState(tuple(part))
        yield SnapshotEnd(digest(self.rows))


def take_cut(group: ReplicaGroup, from_index: LogIndex) -> Cut | None:
    """The cut at the applied index, for somebody who has all entries before `from_index` (0: none).

    None where there is none to be had right now: the replica is halted, or has not made durable yet what it applied.
    Raises StorageError where its log cannot be read.
    """
    index, row = group.machine.applied_index, group.row
    if group.is_out_of_service or not row.raft_start <= index <= group.node.persisted_index:
        return None
    term, membership = group.node.term_at(index), group.node.membership_at(index)
    if term is None or membership is None or not membership.voters:
        return None
    head = SnapshotHead(
        SnapshotMeta(index, term, membership),
        group.header(index).chain,
        row.raft_start,
        row.anchor,
        from_index if row.raft_start <= from_index <= index + 1 else row.raft_start,
    )
    return Cut(group.generation, head, group.machine.all_rows())


def digest(rows: Iterable[StateRow]) -> bytes:
    """16 bytes over rows of derived state."""
    total = blake2b(digest_size=16)
    for kind, key, value in rows:
        total.update(_LENGTHS.pack(kind, len(key), len(value)) + key + value)
    return total.digest()
