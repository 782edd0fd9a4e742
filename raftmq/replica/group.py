"""The pump of one group: the consensus core, its log, its state machine, and the producers that wait.

Synchronous from end to end. Inputs (messages, proposals, ticks, "durable now", "read from disk now") change state;
``advance`` then turns whatever the core wants done into orders. The simulator runs exactly this code.

    step / propose / tick / persisted / read_done  ──>  advance(outbox)  ──>  Round (disk), frames (peers), reads

Failure inside a group (a poison entry, a broken chain) *halts* the group: it says why, sends nothing more, and votes no
more; the node and its other groups go on. Failure of the disk is not handled here: the node stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from raftmq.errors import LeadershipLost, RaftmqError
from raftmq.ids import Generation, GroupId, LogIndex, NodeId, Offset, ReplicaId, Term, Tick
from raftmq.ports import (
    Anchor,
    Channel,
    GroupMessage,
    PutEntries,
    PutReplica,
    PutState,
    ReplicaRow,
    Store,
    TruncateFrom,
)
from raftmq.raft.messages import AppendEntries, AppendOrder, Message
from raftmq.raft.node import RaftNode
from raftmq.raft.ready import Ready
from raftmq.raft.types import Entry, EntryKind, HardState, Membership, Role
from raftmq.records.entry import CorruptEntry, LogEntry, chain_follows, seal
from raftmq.records.membership_codec import decode_membership, encode_membership
from raftmq.records.poison import PoisonEntry
from raftmq.replica.clock import LogClock
from raftmq.replica.machine import StateMachine
from raftmq.replica.outbox import Mark, Outbox, ReadOrder
from raftmq.replica.tail import Tail

NOOP_VERSION = 1
MEMBERSHIP_VERSION = 1
CATCH_UP_BYTES = 1024 * 1024
"""How much is read from disk at a time, for a follower that is behind or for a replay."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that this node proposes: its place in the log is not known yet, so it is not sealed."""

    version: int
    count: int
    inline: bytes
    payload: bytes = b""
    payload_crc: int | None = None
    stamp: tuple[int, int] | None = None
    """(log tick, wall stamp) where the proposer had to know them; None: stamped when it is sealed."""

    @property
    def size(self) -> int:
        return len(self.inline) + len(self.payload) + 80


class _End(NamedTuple):
    """The end of the log: what the next entry is sealed on."""

    chain: bytes
    offset: Offset
    log_tick: int
    wall_ms: int

    @staticmethod
    def of(entry: LogEntry) -> _End:
        return _End(entry.chain, entry.next_offset, entry.log_tick, entry.wall_ms)

    @staticmethod
    def of_anchor(anchor: Anchor) -> _End:
        return _End(anchor.chain, anchor.offset, anchor.log_tick, anchor.wall_ms)


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
        observer: Observer,
    ) -> None:
        self.id: GroupId = row.group
        self.generation = row.generation
        self.me = me
        self.node = node
        self.machine = machine
        self.row = row
        self.halted: str | None = None
        self.clock_jumps = 0
        self._store = store
        self._observer = observer
        self._end = _End.of_anchor(row.anchor) if end is None else _End.of(end)
        self._clock: LogClock | None = None
        self.tail = Tail(LogIndex(node.last_index + 1))
        self._durable = node.last_index
        self._seen = (node.role, node.term, node.leader)
        self._commands: dict[LogIndex, tuple[Term, Callable[[object | RaftmqError], None]]] = {}
        self._read: dict[ReplicaId | None, list[LogEntry]] = {}
        self._reading: set[ReplicaId | None] = set()
        self._bulk_until: dict[ReplicaId, LogIndex] = {}
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
        assert self._clock is not None, "only a leader stamps entries"
        stamp = self._clock.stamp(now, wall_ms)
        self.clock_jumps = self._clock.jumps
        return stamp

    def propose_command(self, draft: Draft, done: Callable[[object | RaftmqError], None]) -> LogIndex:
        """Append a command; ``done`` gets what the state machine answered, or LeadershipLost."""
        index = self.propose(EntryKind.COMMAND, draft)
        self._commands[index] = (self.node.term, done)
        return index

    def persisted(self, term: Term, index: LogIndex) -> None:
        """A round of this group is durable."""
        if self.halted is None:
            self._durable = max(self._durable, min(index, self.node.last_index))
            self.node.persisted(term, index)

    def read_done(self, order: ReadOrder, entries: tuple[LogEntry, ...]) -> None:
        """What was ordered from disk is here."""
        self._reading.discard(order.reader)
        self._read[order.reader] = list(entries)

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
        return self._end.chain

    def voters(self) -> list[ReplicaId]:
        return sorted(self.node.membership.all_voters)

    def deadline(self) -> Tick | None:
        return None if self.halted is not None else self.node.deadline()

    def entry(self, index: LogIndex) -> LogEntry | None:
        """The entry at `index` if it is in memory."""
        return self.tail.get(index)

    def forget_member(self, member: ReplicaId) -> None:
        """Its process is another, or frames to it were lost: start over with what it has."""
        self._read.pop(member, None)
        self.node.member_restarted(member)

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
                self._fill_appends(outbox)
        except (PoisonEntry, CorruptEntry) as error:
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
        if ready.truncate_from is not None:
            self._truncate(ready.truncate_from, outbox)
        sealed = tuple(self._seal(entry) for entry in ready.entries)
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
            # Kept after leadership ends: this Ready may still hold entries that were proposed before.
            self._clock = LogClock(self._now, self._wall_ms, self._end.log_tick, self._end.wall_ms)
            self._bulk_until.clear()
            self._read = {reader: entries for reader, entries in self._read.items() if reader is None}
        self._observer.leadership_changed(self)

    def _fail_commands(self, why: str) -> None:
        failed, self._commands = self._commands, {}
        for _, done in failed.values():
            done(LeadershipLost(f"{why} before the command was committed"))

    # -- the log ---------------------------------------------------------------------------------------------------

    def _seal(self, entry: Entry) -> LogEntry:
        """The entry as it will lie on disk, on top of the present end of the log."""
        payload = entry.payload
        if isinstance(payload, LogEntry):
            if payload.base_offset != self._end.offset or not chain_follows(self._end.chain, payload):
                raise CorruptEntry(
                    f"the leader's entry {entry.index} of term {entry.term} does not continue this replica's log: "
                    "one of the two is damaged (chain hash or offset differs)"
                )
            sealed = payload
        else:
            sealed = self._seal_own(entry)
        self._end = _End.of(sealed)
        return sealed

    def _seal_own(self, entry: Entry) -> LogEntry:
        assert self._clock is not None, "only a leader makes entries"
        draft = self._draft(entry)
        log_tick, wall_ms = draft.stamp if draft.stamp is not None else self._clock.latest()
        return seal(
            previous_chain=self._end.chain,
            index=entry.index,
            term=entry.term,
            kind=entry.kind,
            version=draft.version,
            base_offset=self._end.offset,
            count=draft.count,
            log_tick=log_tick,
            wall_ms=wall_ms,
            inline=draft.inline,
            payload=draft.payload,
            payload_crc=draft.payload_crc,
        )

    @staticmethod
    def _draft(entry: Entry) -> Draft:
        if isinstance(entry.payload, Draft):
            return entry.payload
        if entry.kind is EntryKind.MEMBERSHIP:
            assert entry.membership is not None
            return Draft(MEMBERSHIP_VERSION, 0, encode_membership(entry.membership))
        assert entry.kind is EntryKind.NOOP, f"the core made an entry of kind {entry.kind!r}"
        return Draft(NOOP_VERSION, 0, b"")

    def _truncate(self, index: LogIndex, outbox: Outbox) -> None:
        """Rare: entries that another leader did not keep. One or two short reads from disk are affordable."""
        first = self._load(index, outbox)
        previous = self._load(LogIndex(index - 1), outbox) if index > self.row.raft_start else None
        self._end = _End.of(previous) if previous is not None else _End.of_anchor(self.row.anchor)
        assert first is not None and first.base_offset == self._end.offset
        self.tail.truncate_from(index)
        self._durable = min(self._durable, LogIndex(index - 1))
        for held in self._read.values():
            held[:] = [entry for entry in held if entry.index < index]
        outbox.round.ops.append(TruncateFrom(self.generation, index, first.base_offset))

    def _load(self, index: LogIndex, outbox: Outbox) -> LogEntry | None:
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
        settled = [pair for pair in memberships if pair[0] <= ready.committed_to]
        memberships = settled[-1:] + memberships[len(settled) :]
        changed = replace(
            row,
            hard_state=ready.hard_state if ready.hard_state is not None else row.hard_state,
            memberships=tuple(memberships),
            suspect=ready.suspect,
        )
        if changed != row:
            self.row = replace(changed, commit_index=self._safe_commit(ready.committed_to))
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

    def trim_tail(self, budget: int) -> None:
        """Bring the entries in memory down to `budget` bytes, as far as the disk has them and they are applied."""
        if self.tail.bytes > budget:
            self.tail.evict(budget, min(self._durable, self.machine.applied_index))

    # -- applying --------------------------------------------------------------------------------------------------

    def _apply(self, outbox: Outbox) -> None:
        machine = self.machine
        commit = self.node.commit_index
        while machine.applied_index < commit:
            index = LogIndex(machine.applied_index + 1)
            entry = self.tail.get(index) or self._from_disk(None, index)
            if entry is None:
                self._order_read(None, index, commit, outbox)
                break
            result = machine.apply(entry)
            waiting = self._commands.pop(index, None)
            if waiting is not None:
                term, done = waiting
                done(result if term == entry.term else LeadershipLost("another leader's entry took its place"))
        if self.node.applied_index < machine.applied_index:
            self.node.applied(machine.applied_index)

    def _from_disk(self, reader: ReplicaId | None, index: LogIndex) -> LogEntry | None:
        held = self._read.get(reader)
        if not held:
            return None
        position = index - held[0].index
        return held[position] if 0 <= position < len(held) else None

    def _order_read(self, reader: ReplicaId | None, first: LogIndex, last: LogIndex, outbox: Outbox) -> None:
        if reader not in self._reading:
            self._reading.add(reader)
            # Only what the disk surely has: the rest is in the tail.
            last = min(last, LogIndex(self.tail.first_index - 1))
            outbox.reads.append(ReadOrder(self.id, self.generation, first, last, CATCH_UP_BYTES, reader))

    # -- replication -----------------------------------------------------------------------------------------------

    def _fill_appends(self, outbox: Outbox) -> None:
        for target in list(self.node.append_targets()):
            while (order := self.node.next_append(target)) is not None:
                entries: Iterable[LogEntry] = ()
                channel = Channel.RAFT
                if order.first <= order.last:
                    entries = self.tail.range(order.first, order.last, order.max_bytes)
                    if not entries:
                        entries = self._catch_up(order)
                        channel = Channel.BULK
                    if not entries:
                        self._order_read(target, order.first, order.last, outbox)
                        break
                message = self._append(order, tuple(entries))
                outbox.send(target.node, GroupMessage(self.id, message), self._channel(message, channel))
        if self._read:
            self._drop_spent_reads()

    def _drop_spent_reads(self) -> None:
        """What was read from disk stays only as long as somebody has yet to get it."""
        leads = self.node.role is Role.LEADER
        for reader, held in list(self._read.items()):
            if reader is None:
                spent = not held or held[-1].index <= self.machine.applied_index
            else:
                spent = not held or not leads or held[-1].index <= self.node.match_index(reader)
            if spent:
                del self._read[reader]

    def _catch_up(self, order: AppendOrder) -> tuple[LogEntry, ...]:
        """Entries that were read back from disk for this follower, from where the order starts."""
        taken: list[LogEntry] = []
        size = 0
        index = order.first
        while index <= order.last and (entry := self._from_disk(order.target, index)) is not None:
            size += entry.size
            if taken and size > order.max_bytes:
                break
            taken.append(entry)
            index = LogIndex(index + 1)
        return tuple(taken)

    def _append(self, order: AppendOrder, entries: tuple[LogEntry, ...]) -> AppendEntries:
        self._check_runs(order, entries)
        return self.node.sent(
            order,
            tuple(Entry(e.index, e.term, e.kind, e, e.size, self._membership_of(e)) for e in entries),
        )

    @staticmethod
    def _check_runs(order: AppendOrder, entries: tuple[LogEntry, ...]) -> None:
        """Each entry must be the one that the core means: an index alone does not say so."""
        runs = [*order.runs, (Term(0), LogIndex(order.last + 1))]
        position = 0
        for entry in entries:
            while entry.index >= runs[position + 1][1]:
                position += 1
            if entry.term != runs[position][0]:
                raise CorruptEntry(
                    f"entry {entry.index} read back is of term {entry.term}, the log has term {runs[position][0]} there"
                )

    def _membership_of(self, entry: LogEntry) -> Membership | None:
        if entry.kind is not EntryKind.MEMBERSHIP:
            return None
        from_row = dict(self.row.memberships).get(entry.index)
        return from_row if from_row is not None else decode_membership(entry.inline)

    def _channel(self, message: AppendEntries, filled_from: Channel) -> Channel:
        """Appends of one follower must not overtake each other: back to RAFT only when nothing of BULK is under way."""
        target = message.target
        if not message.entries:
            return Channel.RAFT
        if filled_from is Channel.BULK:
            self._bulk_until[target] = message.entries[-1].index
            return Channel.BULK
        until = self._bulk_until.get(target)
        if until is None:
            return Channel.RAFT
        if self.node.match_index(target) >= until:
            del self._bulk_until[target]
            return Channel.RAFT
        self._bulk_until[target] = message.entries[-1].index
        return Channel.BULK


def fresh_row(group: GroupId, generation: Generation, membership: Membership) -> ReplicaRow:
    """The row of a replica that has just been created with the group's first configuration."""
    return ReplicaRow(group, generation, HardState(), ((LogIndex(0), membership),))


def nodes_of(members: Iterable[ReplicaId]) -> tuple[NodeId, ...]:
    """Node numbers of replicas, sorted."""
    return tuple(sorted(member.node for member in members))
