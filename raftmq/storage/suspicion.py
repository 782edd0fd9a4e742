"""Has this disk lost synced writes? The decision at open, and what follows from it, for every kind of store.

The order at an open that finds a loss, and why each crash point is safe:

1. The verdict is made before anything is written, from the marker and the database as found.
2. One atomic batch marks every replica's row suspect, raises its term above every term in which this disk can have
   voted, clears its vote, raises the boot count, and remembers the loss in the identity row. A crash before it is
   durable leaves the database as found (or lets the whole batch survive): the next open starts over.
3. The batch is synced. A crash now, before the marker is rewritten: the next open compares the database, which
   has grown by the batch, with the old marker. If it is still below, it is judged suspect once more and the terms
   rise again, which harms nothing. If it is not, no new suspicion is raised, and none is needed: the rows in the
   database say suspect.
4. Only then the marker is rewritten, with the lower sequence. Before step 3 that would have hidden the loss.

Rows stay suspect until whoever runs the replica writes ``suspect=False``; the loss in the identity row stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raftmq.ids import BootCount, GroupId, Term
from raftmq.ports import LostTail, ReplicaRow
from raftmq.raft.types import HardState
from raftmq.storage.keys import GENERATION_MAX
from raftmq.storage.marker import Mark
from raftmq.storage.rows import DiskIdentity

UNKNOWN_GROUP = GroupId(GENERATION_MAX)
"""Any group may have been lost: the marker that would tell is lost too."""


def loss(mark: Mark, boot_count: BootCount, sequence: int) -> str | None:
    """Why a database at `boot_count` and `sequence` has lost synced writes, or None where it has not."""
    if mark.boot_count > boot_count:
        return f"the tail marker was written in boot {mark.boot_count}, the database knows {boot_count} boots only"
    if mark.sequence > sequence:
        return f"the tail marker promises {mark.sequence} synced writes, the database holds {sequence}"
    return None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What has to be written, in one batch, before anything else."""

    rows: tuple[ReplicaRow, ...]
    lost: LostTail


def suspect(rows: Sequence[ReplicaRow], mark: Mark | None, before: LostTail | None) -> Suspicion:
    """Rows and memory of a loss. `mark` is None where no marker can be read; `before`: an earlier loss."""
    terms = [row.hard_state.term for row in rows]
    groups = [row.group for row in rows]
    if before is not None:
        terms.append(before.term)
        groups.append(before.group)
    if mark is None:
        groups.append(UNKNOWN_GROUP)
    else:
        terms.append(mark.term)
        if mark.last_group is not None:
            groups.append(mark.last_group)
    term = Term(max(terms, default=0) + 1)
    raised = tuple(replace(row, hard_state=HardState(term), suspect=True) for row in rows)
    return Suspicion(raised, LostTail(max(groups, default=GroupId(0)), term))


def next_boot(mark: Mark | None, boot_count: BootCount) -> BootCount:
    """The boot count of this open: never one that was used before, even where the database forgot it."""
    return BootCount(max(boot_count, mark.boot_count if mark else 0) + 1)


def first_mark(disk: DiskIdentity, mark: Mark | None, rows: Sequence[ReplicaRow], sequence: int) -> Mark:
    """The mark of this open, after its batch was synced."""
    terms = [row.hard_state.term for row in rows]
    groups = [row.group + 1 for row in rows]
    if mark is not None:
        terms.append(mark.term)
        groups.append(mark.groups)
    if disk.lost is not None:
        terms.append(disk.lost.term)
    return Mark(disk.boot_count, sequence, max(terms, default=Term(0)), max(groups, default=0))
