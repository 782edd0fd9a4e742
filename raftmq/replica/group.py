"""The pump of one group: the consensus core, its log, its state machine, and the producers that wait.

Synchronous from end to end. Inputs (messages, proposals, ticks, "durable now", "read from disk now") change state;
``advance`` then turns whatever the core wants done into orders. The simulator runs exactly this code.

    step / propose / tick / persisted / read_done  ──>  advance(outbox)  ──>  Round (disk), frames (peers), reads

Failure inside a group (a poison entry, a broken chain, rows that cannot be read) *halts* the group: it says why,
sends nothing more, and votes no more; the node and its other groups go on. A failed write is not handled here: the
node stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from raftmq.errors import LeadershipLost, RaftmqError
from raftmq.ids import Generation, GroupId, LogIndex, NodeId, Offset, ReplicaId, Term, Tick
from raftmq.ports import (
    Anchor,
    GroupMessage,
    LostTail,
    PutEntries,
    PutReplica,
    PutState,
    ReplicaRow,
    StorageError,
    Store,
    TrimBefore,
    TrimPoint,
    TruncateFrom,
)
from raftmq.raft.messages import Message
from raftmq.raft.node import RaftNode
from raftmq.raft.ready import Ready
from raftmq.raft.types import EntryKind, HardState, Membership, Role
from raftmq.records.entry import CorruptEntry, LogEntry
from raftmq.records.poison import PoisonEntry
from raftmq.replica.machine import StateMachine
from raftmq.replica.outbox import Mark, Outbox, ReadOrder
from raftmq.replica.readback import ReadBack
from raftmq.replica.replication import Replication
from raftmq.replica.retention import Extents
from raftmq.replica.sealing import Draft, LogEnd
from raftmq.replica.tail import Tail


class Observer:
    """What a group tells its owner. The default hears nothing."""

    def leadership_changed(self, group: ReplicaGroup) -> None:
        """Role, term or leader is another. Called before anything of the change leaves."""

    def progressed(self, group: ReplicaGroup) -> None:
        """Something was persisted, committed, applied or acknowledged."""

    def read_granted(self, group: ReplicaGroup, request_id: int, index: LogIndex | None) -> None:
        """A read barrier holds once `index` is applied; None: it never will."""


class ReplicaGroup:
    """One replica of one group on this node. See the module docstring."""

    def __init__(
        self,
        row: ReplicaRow,
        me: ReplicaId,
        node: RaftNode,
        machine: StateMachine,
        store: Store,
        end: LogEntry | None,
        extents: Extents,
        observer: Observer,
    ) -> None:
        self.id: GroupId = row.group
        self.generation = row.generation
        self.me = me
        self.node = node
        self.machine = machine
        self.row = row
        self.halted: str | None = None
        self.extents = extents
        self.tail = Tail(LogIndex(node.last_index + 1))
        self._store = store
        self._observer = observer
        self._end = LogEnd(row.anchor, end)
        self._read_back = ReadBack(row.group, row.generation)
        self._replication = Replication(node, self.tail, self._read_back)
        self._seen = (node.role, node.term, node.leader)
        self._commands: dict[LogIndex, tuple[Term, Callable[[object | RaftmqError], None]]] = {}
        self._drafted = 0
        self._wall_ms = 0
        self._now = Tick(0)

    # -- inputs ----------------------------------------------------------------------------------------------------

    def step(self, message: Message, now: Tick) -> None:
        """A message from another replica of this group."""
        if self.halted is None:
            self.node.step(message, now)

    def tick(self, now: Tick) -> None:
        if self.halted is None:
            self.node.tick(now)

    def propose(self, kind: EntryKind, draft: Draft) -> LogIndex:
        """Append as leader. Raises the core's NotLeader or TooMuchUncommitted; nothing changed then."""
        index = self.node.propose(kind, draft, draft.size)
        self._drafted += draft.count
        return index

    def stamp(self, now: Tick, wall_ms: int) -> tuple[int, int]:
        """(log tick, wall stamp) for a draft made now. Leader only; drafts must be proposed in the order stamped."""
        return self._end.stamp(now, wall_ms)

    def propose_command(self, draft: Draft, done: Callable[[object | RaftmqError], None]) -> LogIndex:
        """Append a command; ``done`` gets what the state machine answered, or LeadershipLost."""
        index = self.propose(EntryKind.COMMAND, draft)
        self._commands[index] = (self.node.term, done)
        return index

    def persisted(self, term: Term, index: LogIndex) -> None:
        """A round of this group is durable."""
        if self.halted is None:
            self.node.persisted(term, index)

    def read_done(self, order: ReadOrder, entries: tuple[LogEntry, ...]) -> None:
        """What was ordered from disk is here."""
        self._read_back.done(order, entries)

    def read_failed(self, order: ReadOrder, reason: str) -> bool:
        """What was ordered from disk is not there: trimmed meanwhile (False), or the replica halts (True)."""
        if order.first < self.row.raft_start:
            self._read_back.failed(order)
            return False
        self.halt(reason)
        return True

    # -- what the owner wants to know ------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        return self.halted is None and self.node.role is Role.LEADER

    def can_serve(self) -> bool:
        """This replica leads, and its term's first entry is applied: it may answer reads and take records."""
        return self.halted is None and self.node.can_serve()

    @property
    def end_offset(self) -> Offset:
        """Offset that the next record proposed here gets: after everything in the log, committed or not."""
        return Offset(self._end.offset + self._drafted)

    @property
    def end_chain(self) -> bytes:
        """Chain hash over the whole log."""
        return self._end.chain

    @property
    def clock_jumps(self) -> int:
        """How often the wall clock was too far off to be believed while this replica led."""
        return self._end.clock_jumps

    def voters(self) -> list[ReplicaId]:
        return sorted(self.node.membership.all_voters)

    def deadline(self) -> Tick | None:
        return None if self.halted is not None else self.node.deadline()

    def entry(self, index: LogIndex) -> LogEntry | None:
        """The entry at `index` if it is in memory."""
        return self.tail.get(index)

    def forget_member(self, member: ReplicaId, is_new_process: bool) -> None:
        """Its process is another, or frames to it were lost: start over with what it has."""
        self._read_back.forget(member)
        self._replication.forget(member)
        self.node.member_restarted(member, is_new_process)

    # -- the pump --------------------------------------------------------------------------------------------------

    def advance(self, now: Tick, wall_ms: int, outbox: Outbox) -> None:
        """Turn everything that the core wants done into orders."""
        self._now, self._wall_ms = now, wall_ms
        try:
            while self.halted is None and self.node.has_ready():
                self._take(self.node.ready(), outbox)
            if self.halted is None:
                self._apply(outbox)
                while self.halted is None and self.node.has_ready():
                    self._take(self.node.ready(), outbox)
                    self._apply(outbox)
                self._trim(outbox)
                self._replication.fill(self.id, outbox)
                while self.halted is None and self.node.has_ready():  # somebody is to be told to fetch a snapshot
                    self._take(self.node.ready(), outbox)
        except (PoisonEntry, CorruptEntry, StorageError) as error:
            self.halt(str(error))
        self._observer.progressed(self)

    def halt(self, reason: str) -> None:
        """Take no further part. The reason stands in the status until an operator acts."""
        self.halted = reason
        self._fail_commands(f"partition halted: {reason}")
        self._observer.leadership_changed(self)

    def _take(self, ready: Ready, outbox: Outbox) -> None:
        self._notice_leadership(ready)
        ops = outbox.round.ops
        cut = None if ready.truncate_from is None else self._truncate(ready.truncate_from)
        sealed = tuple(self._end.seal(entry) for entry in ready.entries)
        # Only now that nothing of this Ready can be refused: entries are not removed without those that replace them.
        if cut is not None:
            ops.append(cut)
        self._drafted = 0  # every proposal has come out in this Ready, or was overtaken by another leader's entries
        self._note_row(ready, sealed, outbox)
        if sealed:
            self.tail.append(sealed)
            ops.append(PutEntries(self.generation, sealed))
            self._put_rows(outbox)
        for message in ready.send_now:
            outbox.send(message.target.node, GroupMessage(self.id, message))
        wrote = bool(sealed) or ready.hard_state is not None or ready.truncate_from is not None
        if wrote or ready.send_after_persist:
            outbox.round.must_sync = outbox.round.must_sync or wrote
            outbox.round.marks.append(Mark(self.id, self.generation, ready.term, ready.persist_mark))
            outbox.round.after.extend(
                (message.target.node, GroupMessage(self.id, message)) for message in ready.send_after_persist
            )
        for grant in ready.reads:
            self._observer.read_granted(self, grant.request_id, grant.index)
        for request_id in ready.reads_failed:
            self._observer.read_granted(self, request_id, None)

    def _notice_leadership(self, ready: Ready) -> None:
        seen = (ready.role, ready.term, ready.leader)
        if seen == self._seen:
            return
        was_leader = self._seen[0] is Role.LEADER
        changed_term = self._seen[1] != ready.term
        self._seen = seen
        if was_leader and (ready.role is not Role.LEADER or changed_term):
            self._fail_commands("leadership was lost")
        if ready.role is Role.LEADER and (changed_term or not was_leader):
            self._end.start_term(self._now, self._wall_ms)
            self._replication.start_term()
        self._observer.leadership_changed(self)

    def _fail_commands(self, why: str) -> None:
        failed, self._commands = self._commands, {}
        for _, done in failed.values():
            done(LeadershipLost(f"{why} before the command was committed"))

    # -- the log ---------------------------------------------------------------------------------------------------

    def _truncate(self, index: LogIndex) -> TruncateFrom:
        """Rare: entries that another leader did not keep. One or two short reads from disk are affordable."""
        first = self._load(index)
        self._end.truncate(self._load(LogIndex(index - 1)) if index > self.row.raft_start else None)
        assert first.base_offset == self._end.offset, "offsets must be contiguous"
        self.tail.truncate_from(index)
        self._read_back.truncated()
        return TruncateFrom(self.generation, index, first.base_offset)

    def _load(self, index: LogIndex) -> LogEntry:
        entry = self.tail.get(index)
        if entry is not None:
            return entry
        # Entries that no round has written yet are always in the tail, so the store has this one.
        return self._store.read_entries(self.generation, index, index, 1)[0]

    def _note_row(self, ready: Ready, sealed: tuple[LogEntry, ...], outbox: Outbox) -> None:
        """Keep the replica's row equal to hard state, configurations and suspicion; write it when it changed."""
        row = self.row
        memberships = list(row.memberships)
        if ready.truncate_from is not None:
            memberships = [pair for pair in memberships if pair[0] < ready.truncate_from]
        memberships += [(e.index, e.membership) for e in ready.entries if e.membership is not None]
        commit = self._safe_commit(ready.committed_to)
        settled = [pair for pair in memberships if pair[0] <= commit]
        memberships = settled[-1:] + memberships[len(settled) :]
        changed = replace(
            row,
            hard_state=ready.hard_state if ready.hard_state is not None else row.hard_state,
            memberships=tuple(memberships),
            suspect=ready.suspect,
        )
        if changed != row:
            self.row = replace(changed, commit_index=commit)
            outbox.round.ops.append(PutReplica(self.row))
            outbox.round.must_sync = True

    def _safe_commit(self, committed: LogIndex) -> LogIndex:
        """What may be written as a hint: never beyond what is applied, so that a replay needs no more than the log."""
        return max(self.row.commit_index, min(committed, self.machine.applied_index))

    def _put_rows(self, outbox: Outbox) -> None:
        outbox.round.ops.extend(
            PutState(self.generation, kind, key, value) for kind, key, value in self.machine.take_rows()
        )

    def flush(self, outbox: Outbox) -> None:
        """Write derived state and the commit hint although no entry asks for it: a restart then replays less."""
        self._put_rows(outbox)
        commit = self._safe_commit(self.machine.applied_index)
        if commit != self.row.commit_index:
            self.row = replace(self.row, commit_index=commit)
            outbox.round.ops.append(PutReplica(self.row))

    def _trim(self, outbox: Outbox) -> None:
        """Remove the entries that nobody needs any more, by an applied command, from this disk too.

        The derived state goes into the same batch: without those entries it could not be replayed.
        """
        start = LogIndex(min(self.machine.raft_start, self.node.persisted_index + 1))
        if start <= self.row.raft_start:
            return
        last = self._header(LogIndex(start - 1))
        if last.next_offset > self.machine.log_start_offset:
            raise CorruptEntry(f"a trim removes entry {last.index}, whose records can still be read")
        anchor = Anchor(last.term, last.chain, last.next_offset, last.log_tick, last.wall_ms)
        begin = TrimPoint(self.row.raft_start, self.row.anchor.offset, self.row.anchor.wall_ms)
        self.row = replace(self.row, raft_start=start, anchor=anchor, log_start_offset=self.machine.log_start_offset)
        self._put_rows(outbox)
        outbox.round.ops.append(PutReplica(self.row))
        outbox.round.ops.append(TrimBefore(self.generation, begin, TrimPoint(start, anchor.offset, anchor.wall_ms)))
        self.node.compact(start)
        self._end.trimmed(anchor)
        self.extents.drop_below(start)

    def _header(self, index: LogIndex) -> LogEntry:
        """The entry at `index`, which is on disk, perhaps without its payload."""
        entry = self.tail.get(index) or next(self._store.scan_headers(self.generation, index), None)
        if entry is None:
            raise StorageError(f"generation {self.generation} has no entry {index}")
        return entry

    def trim_tail(self, budget: int) -> None:
        """Bring the entries in memory down to `budget` bytes, as far as the disk has them and they are applied."""
        if self.tail.bytes > budget:
            self.tail.evict(budget, min(self.node.persisted_index, self.machine.applied_index))

    # -- applying --------------------------------------------------------------------------------------------------

    def _apply(self, outbox: Outbox) -> None:
        machine = self.machine
        commit = self.node.commit_index
        while machine.applied_index < commit:
            index = LogIndex(machine.applied_index + 1)
            entry = self.tail.get(index) or self._read_back.get(None, index)
            if entry is None:
                last = min(commit, LogIndex(self.tail.first_index - 1))
                self._read_back.order(None, index, last, outbox)
                break
            result = machine.apply(entry)
            self.extents.add(entry)
            waiting = self._commands.pop(index, None)
            if waiting is not None:
                term, done = waiting
                done(result if term == entry.term else LeadershipLost("another leader's entry took its place"))
        if self.node.applied_index < machine.applied_index:
            self.node.applied(machine.applied_index)
            self._read_back.spent(None, machine.applied_index)


def fresh_row(group: GroupId, generation: Generation, membership: Membership, lost: LostTail | None) -> ReplicaRow:
    """The row of a replica that is created with the group's first configuration.

    ``lost``: what this disk is known to have lost. A replica of the group may have been there, and may have voted:
    the new one is suspect then, in a term above any in which that can have been.
    """
    suspect = lost is not None and group <= lost.group
    term = lost.term if lost is not None and suspect else Term(0)
    return ReplicaRow(group, generation, HardState(term), ((LogIndex(0), membership),), suspect=suspect)


def nodes_of(members: Iterable[ReplicaId]) -> tuple[NodeId, ...]:
    """Node numbers of replicas, sorted."""
    return tuple(sorted(member.node for member in members))
