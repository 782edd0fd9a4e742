"""The pump of one group: the consensus core, its log, its state machine, and the producers that wait.

Synchronous from end to end. Inputs (messages, proposals, ticks, "durable now", "read from disk now") change state;
``advance`` then turns whatever the core wants done into orders. The simulator runs exactly this code.

    step / propose / tick / persisted / read_done  ──>  advance(outbox)  ──>  Round (disk), frames (peers), reads

Failure inside a group (a poison entry, a broken chain, rows that cannot be read) *halts* the group: it says why,
sends nothing more, and votes no more; the node and its other groups go on. A failed write is not handled here: the
node stops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from raftmq.errors import LeadershipLost, RaftmqError
from raftmq.ids import Generation, GroupId, LogIndex, Offset, ReplicaId, Term, Tick
from raftmq.ports import (
    GroupMessage,
    PutEntries,
    PutReplica,
    PutState,
    ReplicaRow,
    StorageError,
    Store,
    TruncateFrom,
    WriteOp,
)
from raftmq.raft.messages import Message
from raftmq.raft.node import RaftNode
from raftmq.raft.ready import Ready
from raftmq.raft.types import EntryKind, Role
from raftmq.records.entry import CorruptEntry, LogEntry
from raftmq.records.poison import PoisonEntry
from raftmq.replica import rows
from raftmq.replica.machine import StateMachine
from raftmq.replica.observer import Observer
from raftmq.replica.outbox import Mark, Outbox, ReadOrder
from raftmq.replica.readback import ReadBack
from raftmq.replica.replication import Replication
from raftmq.replica.retention import Extents
from raftmq.replica.sealing import Draft, LogEnd
from raftmq.replica.tail import Tail


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
        self.is_damaged = False
        self._failed_read = LogIndex(0)
        self.extents = extents
        self.tail = Tail(LogIndex(node.last_index + 1))
        self._store = store
        self._observer = observer
        self._end = LogEnd(row.anchor, end)
        self._read_back = ReadBack(row.group, row.generation)
        self._replication = Replication(node, self.tail, self._read_back)
        self._seen = (node.role, node.term, node.leader)
        self.commands: dict[LogIndex, tuple[Term, Callable[[object | RaftmqError], None]]] = {}
        self._drafted = 0
        self._snapshot: rows.Installable | None = None
        self._is_switching = False
        self._wall_ms = 0
        self._now = Tick(0)

    # -- inputs ----------------------------------------------------------------------------------------------------

    def step(self, message: Message, now: Tick) -> None:
        """A message from another replica of this group."""
        if not self.is_out_of_service:
            self.node.step(message, now)

    def tick(self, now: Tick) -> None:
        if not self.is_out_of_service:
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
        self.commands[index] = (self.node.term, done)
        return index

    def persisted(self, term: Term, index: LogIndex) -> None:
        """A round of this group is durable."""
        if self.halted is None:
            self.node.persisted(term, index)

    def read_done(self, order: ReadOrder, entries: tuple[LogEntry, ...]) -> None:
        """What was ordered from disk is here."""
        self._read_back.done(order, entries)

    def read_failed(self, order: ReadOrder, reason: str) -> bool:
        """What was ordered from disk is not there: trimmed meanwhile, to be tried once more, or (True) damaged."""
        if order.first < self.row.raft_start or order.first != self._failed_read:
            self._failed_read = order.first
            self._read_back.failed(order)
            return False
        self.halt(reason, is_damaged=True)
        return True

    # -- what the owner wants to know ------------------------------------------------------------------------------

    @property
    def is_out_of_service(self) -> bool:
        """Halted, or between two generations: messages are as good as lost."""
        return self.halted is not None or self._is_switching

    @property
    def generations(self) -> list[Generation]:
        """Everything on this disk that belongs to this replica."""
        known = {self.generation, self.row.generation, self.row.installing, self.row.damaged}
        return sorted(generation for generation in known if generation is not None)

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

    def voters(self) -> tuple[ReplicaId, ...]:
        return self.node.membership.voters_in_order

    def deadline(self) -> Tick | None:
        return None if self.is_out_of_service else self.node.deadline()

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
        if self._is_switching:
            return
        self._now, self._wall_ms = now, wall_ms
        self.node.set_clock(now)
        try:
            self._take_all(outbox)
            self._switch(outbox)
            if not self.is_out_of_service:
                self._apply(outbox)
                while self.halted is None and self.node.has_ready():
                    self._take(self.node.ready(), outbox)
                    self._apply(outbox)
                self._trim(outbox)
                self._replication.fill(self.id, outbox)
                self._take_all(outbox)  # somebody may have to be told to fetch a snapshot
        except (PoisonEntry, CorruptEntry, StorageError) as error:
            self.halt(str(error), is_damaged=isinstance(error, StorageError))
        self._observer.progressed(self)

    def halt(self, reason: str, is_damaged: bool = False) -> None:
        """Take no further part. `is_damaged`: what the disk holds of it cannot be read; its owner may start it over."""
        self.halted, self.is_damaged = reason, is_damaged
        self._fail_commands(f"partition halted: {reason}")
        self._observer.leadership_changed(self)

    def _take_all(self, outbox: Outbox) -> None:
        while self.halted is None and self.node.has_ready():
            self._take(self.node.ready(), outbox)

    def _take(self, ready: Ready, outbox: Outbox) -> None:
        self._notice_leadership(ready)
        ops = outbox.round.ops
        cut = None if ready.truncate_from is None else self._truncate(ready.truncate_from)
        sealed = tuple(self._end.seal(entry) for entry in ready.entries)
        # Only now that nothing of this Ready can be refused: entries are not removed without those that replace them.
        if cut is not None:
            ops.append(cut)
        self._drafted = 0  # every proposal has come out in this Ready, or was overtaken by another leader's entries
        self._note_row(ready, outbox)
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
            for message in ready.send_after_persist:
                outbox.round.after.append((message.target.node, GroupMessage(self.id, message)))
        else:
            self.node.nothing_to_persist()
        if ready.snapshot is not None:
            self._observer.snapshot_ordered(self)
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
        failed, self.commands = self.commands, {}
        for _, done in failed.values():
            done(LeadershipLost(f"{why} before the command was committed"))

    # -- the log ---------------------------------------------------------------------------------------------------

    def _truncate(self, index: LogIndex) -> TruncateFrom:
        """Rare: entries that another leader did not keep. One or two short reads from disk are affordable."""
        first = self.header(index)
        self._end.truncate(self.header(LogIndex(index - 1)) if index > self.row.raft_start else None)
        assert first.base_offset == self._end.offset, "offsets must be contiguous"
        self.tail.truncate_from(index)
        self._read_back.truncated()
        return TruncateFrom(self.generation, index, first.base_offset)

    def _note_row(self, ready: Ready, outbox: Outbox) -> None:
        """Keep the replica's row equal to hard state, configurations and suspicion; write it when it changed."""
        commit = self._safe_commit(ready.committed_to)
        before, changed = self.row, rows.after_ready(self.row, ready, commit)
        if changed is not before:
            self.row = replace(changed, commit_index=commit)
            outbox.round.ops.extend([PutReplica(self.row), *rows.left_behind(before, self.row)])
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
        if self._is_switching:
            return  # the state machine is of a generation that is gone
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
        last = self.header(LogIndex(start - 1))
        if last.next_offset > self.machine.log_start_offset:
            raise CorruptEntry(f"a trim removes entry {last.index}, whose records can still be read")
        self.row, ops = rows.trimmed(self.row, last, self.machine.log_start_offset)
        self._put_rows(outbox)
        outbox.round.ops.extend(ops)
        self.node.compact(start)
        self._end.trimmed(self.row.anchor)
        self.extents.drop_below(start)

    def header(self, index: LogIndex) -> LogEntry:
        """The entry at `index`, perhaps without its payload. What no round has written yet is always in the tail."""
        entry = self.tail.get(index) or next(self._store.scan_headers(self.generation, index), None)
        if entry is None:
            raise StorageError(f"generation {self.generation} has no entry {index}")
        return entry

    def trim_tail(self, budget: int) -> None:
        """Bring the entries in memory down to `budget` bytes, as far as the disk has them and they are applied."""
        if self.tail.bytes > budget:
            self.tail.evict(budget, min(self.node.persisted_index, self.machine.applied_index))

    # -- snapshots -------------------------------------------------------------------------------------------------

    def set_installing(self, generation: Generation | None) -> list[WriteOp]:
        """A snapshot is going to be written to `generation`, or (None) nothing comes of it: what to write."""
        self.row, ops = rows.not_installing(self.row) if generation is None else rows.installing(self.row, generation)
        return ops

    def install(self, snapshot: rows.Installable) -> None:
        """Everything but the state is written: let `snapshot` take this replica's place, if it is still of use."""
        self._snapshot = snapshot

    def _switch(self, outbox: Outbox) -> None:
        """Until the switch is durable the core must not get anything to do: what it would want written belongs to
        neither generation."""
        snapshot = self._snapshot
        if snapshot is None or self.halted is not None:
            return
        is_wanted = self.node.begin_install(snapshot.meta)
        if not is_wanted:
            self._snapshot = None
            outbox.round.ops.extend(self.set_installing(None))
            self.node.snapshot_installed(snapshot.meta)
        self._take_all(outbox)
        if is_wanted and self.halted is None:
            self._is_switching = True
            self.row, ops = rows.installed(self.row, snapshot)
            outbox.round.ops.extend(ops)
            outbox.round.must_sync = True
            outbox.round.installed.append((self.id, self.row.generation))

    def switched(self) -> None:
        """The new generation is durable, and the old one gone: go on from there."""
        snapshot, self._snapshot = self._snapshot, None
        assert snapshot is not None
        assert self._is_switching
        self._is_switching = False
        self.generation = self.row.generation
        self.machine, self.extents = snapshot.machine, snapshot.extents
        self._end = LogEnd(self.row.anchor, snapshot.end)
        self.tail = Tail(LogIndex(snapshot.meta.index + 1))
        self._read_back = ReadBack(self.id, self.generation)
        self._replication = Replication(self.node, self.tail, self._read_back)
        self.node.snapshot_installed(snapshot.meta, snapshot.log_terms())

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
            waiting = self.commands.pop(index, None)
            if waiting is not None:
                term, done = waiting
                done(result if term == entry.term else LeadershipLost("another leader's entry took its place"))
        if self.node.applied_index < machine.applied_index:
            self.node.applied(machine.applied_index)
            self._read_back.spent(None, machine.applied_index)
