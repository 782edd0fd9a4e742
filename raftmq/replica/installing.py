"""Taking a snapshot: a new generation of the replica is filled beside the old one, which then makes room at once.

    old generation   |=========== goes on: appends, votes, reads ===========| dropped
    new generation   |  entries, part by part ...          | state, row     | the replica
                                                              one batch ─────┘

The replica's row names the generation that is being filled, before anything is written there, and names it as *the*
generation in the batch that also writes the state and drops the old one. So a process that dies at any moment leaves
the old replica, with rows beside it that the next start removes, or the new one.

Everything that arrives is checked: each entry by its own checksums, and by the chain hash on top of the one before; the
end by term, chain and offset; the state by its digest, and by where it says that it is. A stream may break off and go
on from any other cut (see ``cut.py``): entries are the same everywhere, and state is kept in memory until it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from raftmq.ids import Generation, GroupId, LogIndex, NodeId, Term
from raftmq.machines import new_machine
from raftmq.ports import (
    PutEntries,
    PutState,
    ReplicaRow,
    SnapshotEnd,
    SnapshotEntries,
    SnapshotHead,
    SnapshotPart,
    SnapshotState,
    WriteOp,
)
from raftmq.raft.log_terms import LogTerms
from raftmq.raft.types import EntryKind, SnapshotMeta
from raftmq.records.entry import CorruptEntry, LogEntry, chain_follows
from raftmq.records.membership_codec import decode_membership
from raftmq.records.topic_kinds import TopicKind
from raftmq.replica.cut import StateRow, digest
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.retention import Extents


class Snapshot:
    """One snapshot on its way into ``generation``. Is a ``rows.Installable`` once ``is_whole``."""

    def __init__(self, generation: Generation, head: SnapshotHead, kind: TopicKind) -> None:
        """`head` begins with the sender's first entry; `kind` is the replica's. Raises CorruptEntry."""
        if head.first_index != head.raft_start:
            raise CorruptEntry(f"a snapshot from entry {head.first_index} on has nothing before it here")
        self.generation = generation
        self.extents = Extents()
        self.machine = new_machine(kind)
        self.is_whole = False
        self._start, self._anchor = head.raft_start, head.anchor
        self._end: LogEntry | None = None
        self._configured: LogEntry | None = None
        self._runs: list[tuple[Term, LogIndex]] = []
        self._head = head
        self._rows: list[StateRow] = []

    @property
    def meta(self) -> SnapshotMeta:
        return self._head.meta

    @property
    def end(self) -> LogEntry:
        """The last entry."""
        assert self._end is not None
        return self._end

    @property
    def next_index(self) -> LogIndex:
        """First entry that is missing."""
        return self._start if self._end is None else LogIndex(self._end.index + 1)

    def continues(self, head: SnapshotHead) -> bool:
        """Whether what comes after `head` goes on where this snapshot broke off."""
        return head.first_index == self.next_index <= head.meta.index + 1

    def take(self, part: SnapshotPart) -> list[WriteOp]:
        """What is to be written for `part`. Raises CorruptEntry where it cannot be what it should be."""
        assert not self.is_whole
        match part:
            case SnapshotHead():
                assert self.continues(part)
                self._head, self._rows = part, []
            case SnapshotEntries(entries):
                for entry in entries:
                    self._append(entry)
                return [PutEntries(self.generation, entries)] if entries else []
            case SnapshotState(rows):
                self._rows.extend(rows)
            case SnapshotEnd(expected):
                self._finish(expected)
        return []

    def row(self, old: ReplicaRow) -> ReplicaRow:
        """The replica's row once the snapshot has taken the place of `old`. Term, vote and suspicion stay."""
        return ReplicaRow(
            group=old.group,
            generation=self.generation,
            hard_state=old.hard_state,
            memberships=((self._configured_at, self.meta.membership),),
            commit_index=self.meta.index,
            raft_start=self._start,
            anchor=self._anchor,
            log_start_offset=self.machine.log_start_offset,
            suspect=old.suspect,
            damaged=old.damaged,
            kind=old.kind,
        )

    def state_ops(self) -> list[WriteOp]:
        """The derived state, to be written along with the row."""
        return [PutState(self.generation, kind, key, value) for kind, key, value in self._rows]

    def log_terms(self) -> LogTerms:
        """The log that comes with it, for the core."""
        return LogTerms(self._start, self._anchor.term, self.meta.index, self._runs)

    @property
    def _configured_at(self) -> LogIndex:
        """Where the configuration at the end came from; before the start, if no entry has it."""
        return LogIndex(self._start - 1) if self._configured is None else self._configured.index

    def _append(self, entry: LogEntry) -> None:
        chain, offset, term = self._anchor.chain, self._anchor.offset, self._anchor.term
        if self._end is not None:
            chain, offset, term = self._end.chain, self._end.next_offset, self._end.term
        if entry.index != self.next_index or entry.index > self.meta.index:
            raise CorruptEntry(f"entry {entry.index} came where {self.next_index} to {self.meta.index} should be")
        if not chain_follows(chain, entry) or entry.base_offset != offset or entry.term < term:
            raise CorruptEntry(f"entry {entry.index} does not continue the snapshot's log")
        if not self._runs or self._runs[-1][0] != entry.term:
            self._runs.append((entry.term, entry.index))
        if entry.kind is EntryKind.MEMBERSHIP:
            self._configured = entry
        self.extents.add(entry)
        self._end = entry

    def _finish(self, expected: bytes) -> None:
        meta, end = self.meta, self._end
        if end is None or (end.index, end.term, end.chain) != (meta.index, meta.term, self._head.chain):
            raise CorruptEntry(f"the snapshot's log does not end with entry {meta.index} of term {meta.term}")
        configured = self._configured
        if configured is not None and decode_membership(configured.inline) != meta.membership:
            raise CorruptEntry(f"the snapshot's configuration is not the one of entry {configured.index}")
        if digest(self._rows) != expected:
            raise CorruptEntry("the snapshot's state fails its checksum")
        try:
            self.machine.restore(self._rows)
        except (AssertionError, ValueError) as error:
            raise CorruptEntry(f"the snapshot's state cannot be read: {error}") from error
        state = (self.machine.applied_index, self.machine.next_offset)
        if state != (meta.index, end.next_offset) or self.machine.log_start_offset < self._anchor.offset:
            raise CorruptEntry(f"the snapshot's state is of entry and offset {state}, its log ends with {meta.index}")
        self.is_whole = True


@dataclass(frozen=True, slots=True)
class SnapshotOrder:
    """Fetch from `node` what a replica here needs. `from_index` 0: everything."""

    group: GroupId
    node: NodeId
    from_index: LogIndex


class Installs:
    """The snapshots that are on their way to this node.

    ``ordered`` is told what to fetch; whoever fetches gives parts to ``take``, and calls ``ended`` when no more will
    come, whatever the reason: the leader repeats its order for as long as it is needed, and the next fetch goes on
    where this one stopped.
    """

    def __init__(
        self,
        group: Callable[[GroupId], ReplicaGroup | None],
        new_generation: Callable[[], Generation],
        write: Callable[[Iterable[WriteOp], Callable[[], None] | None], None],
        touch: Callable[[GroupId], None],
        ordered: Callable[[SnapshotOrder], None],
        has_room: Callable[[], bool],
    ) -> None:
        """``write``: puts something into the next round; the second argument is called when that is written.

        ``has_room``: this disk takes records. Without room for those of a log there is none for all of them at once.
        """
        self._group = group
        self._new_generation = new_generation
        self._write = write
        self._touch = touch
        self._ordered = ordered
        self._has_room = has_room
        self._snapshots: dict[GroupId, Snapshot] = {}
        self._fetching: set[GroupId] = set()

    def order(self, group: ReplicaGroup) -> None:
        """The leader of `group` wants this replica to get a snapshot. It says so again while there is no room."""
        leader = group.node.leader
        if leader is None or group.id in self._fetching or not self._has_room():
            return
        self._fetching.add(group.id)
        known = self._snapshots.get(group.id)
        self._ordered(SnapshotOrder(group.id, leader.node, LogIndex(0) if known is None else known.next_index))

    def take(self, group_id: GroupId, part: SnapshotPart, written: Callable[[], None]) -> bool:
        """One part arrived. True: there is no more to come, or it is of no use any more.

        False: ``written`` will be called when what it brought is written; wait for that before the next part. Raises
        CorruptEntry where the part cannot be what it should be; nothing of the snapshot is kept then.
        """
        group = self._group(group_id)
        if group is None or group.is_out_of_service:
            return True
        if isinstance(part, SnapshotHead) and not group.node.wants_snapshot(part.meta):
            return True  # it has caught up, or the source is behind
        if isinstance(part, SnapshotEntries) and not self._has_room():
            return True  # the next fetch goes on from here; the end of one that is whole makes room, and may come
        try:
            snapshot = self._expecting(group, part)
            ops = snapshot.take(part)
        except CorruptEntry:
            self._discard(group)
            raise
        if not snapshot.is_whole:
            self._write(ops, written)
            return False
        assert not ops, "the end brings nothing to be written before the switch"
        del self._snapshots[group_id]
        group.install(snapshot)
        self._touch(group_id)
        return True

    def ended(self, group_id: GroupId) -> None:
        """No more parts will come for now."""
        self._fetching.discard(group_id)

    def sweep(self) -> None:
        """Drop what nobody fetches any more because its replica has caught up by itself."""
        for group_id in sorted(self._snapshots.keys() - self._fetching):
            group = self._group(group_id)
            if group is not None and not group.node.wants_snapshot(self._snapshots[group_id].meta):
                self._discard(group)

    def dropped(self, group_id: GroupId) -> None:
        """The replica is gone, with everything that was written for it."""
        self._snapshots.pop(group_id, None)

    def _discard(self, group: ReplicaGroup) -> None:
        if self._snapshots.pop(group.id, None) is not None:
            self._write(group.set_installing(None), None)

    def _expecting(self, group: ReplicaGroup, part: SnapshotPart) -> Snapshot:
        known = self._snapshots.get(group.id)
        if isinstance(part, SnapshotHead):
            if known is not None and known.continues(part):
                return known
            self._discard(group)
            known = self._snapshots[group.id] = Snapshot(self._new_generation(), part, group.row.kind)
            self._write(group.set_installing(known.generation), None)
        if known is None:
            raise CorruptEntry("a snapshot begins with its head")
        return known
