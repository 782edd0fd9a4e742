"""How a replica's row changes, and what is written along with it. Pure: from the old row to the new one."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from raftmq.ids import Generation, GroupId, LogIndex, Offset, ReplicaId, Term
from raftmq.machines import LogMachine
from raftmq.ports import Anchor, DropReplica, LostTail, PutReplica, ReplicaRow, TrimBefore, TrimPoint, WriteOp
from raftmq.raft.log_terms import LogTerms
from raftmq.raft.ready import Ready
from raftmq.raft.types import HardState, Membership, SnapshotMeta
from raftmq.records.entry import LogEntry
from raftmq.records.topic_kinds import TopicKind
from raftmq.replica.retention import Extents


def fresh_row(
    group: GroupId,
    generation: Generation,
    membership: Membership,
    lost: LostTail | None = None,
    departed: Term | None = None,
    kind: TopicKind = TopicKind.RECORDS,
) -> ReplicaRow:
    """The row of a replica that is created with the group's first configuration.

    ``lost``: what this disk is known to have lost. A replica of the group may have been there, and may have voted:
    the new one is suspect then, in a term above any in which that can have been. ``departed``: the term of the replica
    that was here before and was removed (see ``Departed``).
    """
    terms = [lost.term] if lost is not None and group <= lost.group else []
    if departed is not None:
        terms.append(departed)
    hard_state = HardState(max(terms, default=Term(0)))
    return ReplicaRow(group, generation, hard_state, ((LogIndex(0), membership),), suspect=bool(terms), kind=kind)


def after_ready(row: ReplicaRow, ready: Ready, commit: LogIndex) -> ReplicaRow:
    """With the hard state, the suspicion and the configurations that `ready` brings: of those the newest one at or
    below `commit`, and every later one. `row` itself where that changes nothing."""
    memberships = list(row.memberships)
    if ready.truncate_from is not None:
        memberships = [pair for pair in memberships if pair[0] < ready.truncate_from]
    memberships += [(entry.index, entry.membership) for entry in ready.entries if entry.membership is not None]
    settled = [pair for pair in memberships if pair[0] <= commit]
    hard_state = ready.hard_state if ready.hard_state is not None else row.hard_state
    known = tuple(settled[-1:] + memberships[len(settled) :])
    damaged = row.damaged if ready.suspect else None
    if (hard_state, known, ready.suspect, damaged) == (row.hard_state, row.memberships, row.suspect, row.damaged):
        return row  # as with most Readies
    return replace(row, hard_state=hard_state, memberships=known, suspect=ready.suspect, damaged=damaged)


def trimmed(row: ReplicaRow, last: LogEntry, log_start: Offset) -> tuple[ReplicaRow, list[WriteOp]]:
    """Without the entries up to `last`; records can be read from `log_start` on."""
    start = LogIndex(last.index + 1)
    anchor = Anchor(last.term, last.chain, last.next_offset, last.log_tick, last.wall_ms)
    new = replace(row, raft_start=start, anchor=anchor, log_start_offset=log_start)
    trim = TrimBefore(
        row.generation,
        TrimPoint(row.raft_start, row.anchor.offset, row.anchor.wall_ms),
        TrimPoint(start, anchor.offset, anchor.wall_ms),
    )
    return new, [PutReplica(new), trim]


# -- damage ----------------------------------------------------------------------------------------------------------


def may_start_over(row: ReplicaRow, me: ReplicaId) -> bool:
    """Whether the others are a majority without it. If not, nobody could ever clear it."""
    _, membership = row.memberships[-1]
    both = [voters for voters in (membership.voters, membership.outgoing) if voters]
    return all(2 * len(voters - {me}) > len(voters) for voters in both)


def beside_damage(row: ReplicaRow, generation: Generation) -> tuple[ReplicaRow, list[WriteOp]]:
    """A replica of the same group that begins with nothing in `generation`; what is left of `row` stays beside it.

    It may have lost what it acknowledged, so it is suspect, in a term above every one in which it can have voted: no
    leader that counts on what it once held goes on, and only one that was elected without it can clear it.

    It begins with the newest configuration that is known to be committed: a later one may have been overwritten, and
    then no entry of the log would correct it.
    """
    _, membership = row.memberships[0]
    whole, ops = not_installing(row)
    if whole.damaged is not None:
        ops.append(DropReplica(row.group, row.generation))  # a copy that was not complete yet
    new = ReplicaRow(
        row.group, generation, HardState(Term(row.hard_state.term + 1)), ((LogIndex(0), membership),), suspect=True,
        damaged=row.generation if whole.damaged is None else whole.damaged, kind=row.kind,
    )  # fmt: skip
    return new, [*ops, PutReplica(new)]


def left_behind(old: ReplicaRow, new: ReplicaRow) -> list[WriteOp]:
    """What was kept of a damaged replica, and is not needed any more."""
    return [] if old.damaged in (None, new.damaged) else [DropReplica(old.group, old.damaged)]


# -- snapshots -------------------------------------------------------------------------------------------------------


class Installable(Protocol):
    """A snapshot that has been checked and written, but for its state and the replica's row."""

    machine: LogMachine
    extents: Extents

    @property
    def meta(self) -> SnapshotMeta: ...
    @property
    def end(self) -> LogEntry:
        """Its last entry."""

    def row(self, old: ReplicaRow) -> ReplicaRow:
        """The replica's row once the snapshot has taken the place of `old`."""

    def state_ops(self) -> list[WriteOp]: ...
    def log_terms(self) -> LogTerms: ...


def installing(row: ReplicaRow, generation: Generation) -> tuple[ReplicaRow, list[WriteOp]]:
    """A snapshot is going to be written to `generation`; this has to be written before."""
    assert row.installing is None
    new = replace(row, installing=generation)
    return new, [PutReplica(new)]


def not_installing(row: ReplicaRow) -> tuple[ReplicaRow, list[WriteOp]]:
    """Nothing comes of the snapshot that was being written, if one was."""
    if row.installing is None:
        return row, []
    new = replace(row, installing=None)
    return new, [DropReplica(row.group, row.installing), PutReplica(new)]


def installed(row: ReplicaRow, snapshot: Installable) -> tuple[ReplicaRow, list[WriteOp]]:
    """`snapshot` takes this generation's place, in one batch."""
    new = snapshot.row(row)
    return new, [*snapshot.state_ops(), PutReplica(new), DropReplica(row.group, row.generation)]
