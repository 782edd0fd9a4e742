"""Taking records as a partition's leader: admission before the append, acknowledgement after it.

Admission is everything that may refuse a batch, in an order that changes nothing until all of it has passed:
leadership, acknowledgement level, replicas in sync, the producer's sequence, memory. A batch that passes gets its
place in the log at once; from then on the outcome of its producer's wait is APPLIED or UNKNOWN, never NOT_APPLIED.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftmq.errors import (
    InvalidArgument,
    NoLeader,
    NotEnoughReplicas,
    NotLeader,
    OutOfOrderSequence,
    Overloaded,
    RaftmqError,
    UnexpectedOffset,
    UnknownProducer,
)
from raftmq.ids import LogIndex, Offset, ReplicaId, Term, Tick, WallMs
from raftmq.partition import commands
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.message_ids import Window
from raftmq.partition.overlay import Overlay
from raftmq.partition.producers import Duplicate, Placement
from raftmq.partition.queues.commands import Settle
from raftmq.raft import errors as raft
from raftmq.raft.types import EntryKind
from raftmq.records.batch import BATCH_VERSION, CheckedBatch
from raftmq.records.loose import bind
from raftmq.replica.depth import Gate, Room
from raftmq.replica.gathering import PAUSE_MAX, Gathering, Request
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.heartbeats import NodeHeartbeats
from raftmq.replica.in_sync import GroupFollowers, InSyncSet, nodes_of
from raftmq.replica.sealing import Draft
from raftmq.replica.together import Together
from raftmq.replica.waits import Ack, Acks, AckWaits, Wait

OVERLOAD_RETRY_MS = 50
TRIM_BYTES_MAX = 256  # of a trim's entry, which is smaller
LOOK_AGAIN_TICKS = 16
"""For so long, at most, the arrival of one request is taken for the arrival of its like."""


def _told(refusal: raft.NotLeader | raft.TooMuchUncommitted) -> RaftmqError:
    """What the core refuses, in the words of the API."""
    if isinstance(refusal, raft.NotLeader):
        return NoLeader("leadership is being handed over: try again")
    return Overloaded("too much is waiting for a quorum on this partition", retry_after_ms=OVERLOAD_RETRY_MS)


class Leadership:
    """One term of leading one group: who is in sync, who waits, and what producers have under way.

    ``machine`` None: the controller's group, which takes commands only.
    """

    def __init__(
        self,
        group: ReplicaGroup,
        machine: PartitionMachine | None,
        nodes: NodeHeartbeats,
        now: Tick,
        lag_max: int,
    ) -> None:
        self.group = group
        self.term: Term = group.node.term
        self.in_sync = InSyncSet(group.me, GroupFollowers(group, nodes), now, group.node.last_index, lag_max)
        self.waits = AckWaits()
        self.gathering = Gathering()
        self.announced: tuple[ReplicaId, ...] | None = None
        self._machine = machine
        self._overlay = None if machine is None else Overlay(machine.producers, machine.message_ids)
        self._taken = group.node.last_index
        self._gate = Gate(group.id)
        self._together = Together(group, machine)
        self._admitted: tuple[int, Acks, int] | None = None
        """What was found fit to be gathered last."""
        self._gathered = LogIndex(0)
        """The newest entry that was gathered: while it is not committed, the next one is filled."""
        self._gathered_at, self._in_flight, self._took, self._shared = now, False, 0, 0
        """When it was appended, whether it is not committed yet, how long the last one needed that is, and how many
        requests it holds."""

    @property
    def current(self) -> bool:
        """The term still stands. It may be over although nobody was told yet: the core says so first."""
        return self.group.is_leader and self.group.node.term == self.term

    # -- admission -------------------------------------------------------------------------------------------------

    def produce(
        self,
        batch: CheckedBatch,
        acks: Acks,
        min_in_sync: int,
        now: Tick,
        wall_ms: int,
        deadline: Tick,
        done: Callable[[Ack | RaftmqError], None],
        expected: Offset | None = None,
        queue_ms: int = 0,
        room: Room | None = None,
        settles: Sequence[Settle] = (),
    ) -> None:
        """Append `batch`, or raise the error that says why not (outcome NOT_APPLIED). ``done`` is called once.

        `expected`: only if it gets this offset. `room`: only if the partition is not too deep. A duplicate is answered
        whatever these say: it has been appended.
        `queue_ms`: how long it has waited until now. `settles`: verdicts that are one entry with it: both count, or
        none; with a duplicate they have counted.
        """
        self._refuse(acks, min_in_sync, now)
        if batch.producer_id and acks not in (Acks.ALL, Acks.QUORUM):
            raise InvalidArgument("an idempotent producer needs acks QUORUM or ALL", field="acks")
        assert self._overlay is not None
        self.flush(now, wall_ms)  # what came before goes before
        stamp = self.group.stamp(now, wall_ms)
        try:
            verdict = self._overlay.decide(batch, stamp[0])
        except (OutOfOrderSequence, UnknownProducer) as refusal:
            # A client believes this only of a leader that is as new as the one which acknowledged its last batch.
            refusal.metadata["leader_epoch"] = str(self.term)
            raise
        if isinstance(verdict, Duplicate):
            self._answer_duplicate(verdict, batch, acks, now, deadline, done)
            return
        draft = self._together.draft(batch, stamp, settles)
        offset = self.group.end_offset
        if expected not in (None, offset):
            raise UnexpectedOffset(
                f"the next record gets offset {offset}, not {expected}", field="expected_offset",
                metadata={"log_end_offset": str(offset)},
            )  # fmt: skip
        if room is not None:
            self._make_room(batch, room, draft)
        index = self._append(draft)
        if room is not None:
            self._gate.appended(index, batch)
        if settles:
            self._together.appended(index, settles)
        self._overlay.note(batch, Placement(offset, index, self.term, WallMs(stamp[1]), stamp[0]))
        wait = Wait(
            index, self.term, offset, batch.count, acks, deadline, done, now, wall_ms=stamp[1], queue_ms=queue_ms
        )  # fmt: skip
        self._await(wait, now)

    def _make_room(self, batch: CheckedBatch, room: Room, draft: Draft) -> None:
        """Raises what refuses `batch`, which is in `draft`; else there is room for it afterwards. Nothing is dropped
        for one that cannot be appended then."""
        group, stamp = self.group, draft.stamp
        assert self._machine is not None
        assert stamp is not None
        try:
            group.node.expect_room(draft.size + TRIM_BYTES_MAX)
        except (raft.NotLeader, raft.TooMuchUncommitted) as refusal:
            raise _told(refusal) from None
        start = self._gate.admit(
            batch, room, group.extents, self._machine.log_start_offset, group.end_offset, self._machine.applied_index,
            stamp[1],
        )  # fmt: skip
        if start is not None:
            body = commands.encode(commands.TrimCommand(start))
            self._append(Draft(commands.VERSION, 0, body, stamp=stamp), EntryKind.COMMAND)

    def _append(self, draft: Draft, kind: EntryKind = EntryKind.DATA) -> LogIndex:
        try:
            return self.group.propose(kind, draft)
        except (raft.NotLeader, raft.TooMuchUncommitted) as refusal:
            raise _told(refusal) from None

    def _refuse(self, acks: Acks, min_in_sync: int, now: Tick) -> None:
        if self._overlay is None:
            raise InvalidArgument("the controller's group takes no records", field="topic")
        if not self.current:
            raise NotLeader("this node does not lead the partition")
        if not self.group.can_serve():
            raise NoLeader("the new leader has not committed its first entry yet: try again")
        if acks in (Acks.ALL, Acks.QUORUM):
            members = self.in_sync.members(now)
            if len(members) < min_in_sync:
                raise NotEnoughReplicas(
                    f"{len(members)} of the replicas are in sync (nodes {list(nodes_of(members))}), "
                    f"min_in_sync_replicas asks for {min_in_sync}",
                    metadata={"in_sync": str(len(members)), "min_in_sync_replicas": str(min_in_sync)},
                )

    def _answer_duplicate(
        self,
        verdict: Duplicate,
        batch: CheckedBatch,
        acks: Acks,
        now: Tick,
        deadline: Tick,
        done: Callable[[Ack | RaftmqError], None],
    ) -> None:
        """The batch is here already: its producer waits for the original to meet the level it asks for now."""
        original = verdict.original
        if original is None:
            done(Ack(None, batch.count, self.term, LogIndex(0), 0, (), True, 0, 0, 0))
            return
        wait = Wait(
            original.log_index, original.term, original.base_offset, batch.count, acks, deadline, done, now,
            duplicate=True, wall_ms=original.wall_ms,
        )  # fmt: skip
        self._await(wait, now)

    def _await(self, wait: Wait, now: Tick) -> None:
        if wait.acks is Acks.NONE:
            wait.end(self._ack(wait, now))
        else:
            self.waits.add(wait)

    def remembers(self, window: Window) -> bool:
        """Message ids are remembered for `window`, as far as this leader has a say; or there are none here."""
        return self._overlay is None or (self.current and self.group.can_serve() and self._overlay.window == window)

    def remember_ids(self, window: Window, now: Tick, wall_ms: int) -> bool:
        """Let message ids be remembered for `window` from here on. Returns whether that was proposed: not where it is
        so already, and not now if the core takes no commands; then ask again."""
        if self._overlay is None or not self.current or not self.group.can_serve() or self._overlay.window == window:
            return False
        stamp = self.group.stamp(now, wall_ms)
        body = commands.encode(commands.WindowCommand(window))
        try:
            index = self.group.propose(EntryKind.COMMAND, Draft(commands.VERSION, 0, body, stamp=stamp))
        except raft.RaftRefusal:
            return False
        self._overlay.note_window(window, index, stamp[0])
        return True

    # -- gathering -------------------------------------------------------------------------------------------------

    def gather(self, request: Request, max_bytes: int, now: Tick, wall_ms: int) -> bool:
        """Append the records of `request`, in an entry that others may share and that has at most `max_bytes`; or raise
        the error that says why not. Until they are appended, an answer may still be NOT_APPLIED.

        Returns whether this calls for a round. Otherwise the one that brings a commit is early enough.
        """
        self._refuse_once(request, now)
        is_full = not self.gathering.fits(request.records, max_bytes)
        if is_full:
            self.flush(now, wall_ms)
        return self.gathering.add(request) or is_full or (self._is_due() and not self.gathering.is_waiting)

    def _is_due(self) -> bool:
        return self.gathering.is_urgent or self.group.node.commit_index >= self._gathered

    def flush_due(self, now: Tick, wall_ms: int) -> None:
        """At the beginning of a round: append what was gathered, unless the entry before it is still on its way."""
        if len(self.gathering) and self._is_due():
            before = self._shared if now - self._gathered_at <= self._took + PAUSE_MAX else 0
            if not self.gathering.waits_for_more(now, self._took, before):
                self.flush(now, wall_ms)

    def flush(self, now: Tick, wall_ms: int) -> None:
        """Append what was gathered, as one entry. Admission is repeated: it may be a while since the first time."""
        if not len(self.gathering) or not self.current:
            return  # or leadership is over, and whoever ends it answers
        self._admitted = None
        requests = [request for request in self.gathering.take() if self._still_admits(request, now)]
        if not requests:
            return
        batch = bind([request.records for request in requests])
        stamp = self.group.stamp(now, wall_ms)
        offset = self.group.end_offset
        try:
            draft = Draft(BATCH_VERSION, batch.count, batch.header_bytes, batch.payload, batch.crc, stamp)
            index = self._gathered = self._append(draft)
            self._gathered_at, self._in_flight, self._shared = now, True, len(requests)
        except (NoLeader, Overloaded) as refusal:
            for request in requests:
                request.done(type(refusal)(refusal.message, retry_after_ms=refusal.retry_after_ms))
            return
        for request in requests:
            count = request.records.count
            wait = Wait(
                index, self.term, offset, count, request.acks, request.deadline, request.done, now,
                wall_ms=stamp[1], queue_ms=now - request.arrived,
            )  # fmt: skip
            self._await(wait, now)
            offset = Offset(offset + count)

    def _still_admits(self, request: Request, now: Tick) -> bool:
        try:
            self._refuse_once(request, now)
        except RaftmqError as refusal:
            request.done(refusal)
            return False
        return True

    def _refuse_once(self, request: Request, now: Tick) -> None:
        """As ``_refuse``, for many that ask for the same at about the same moment: ``flush`` looks again."""
        asked = (now // LOOK_AGAIN_TICKS, request.acks, request.min_in_sync)
        if asked != self._admitted:
            self._refuse(request.acks, request.min_in_sync, now)
            self._admitted = asked

    # -- progress --------------------------------------------------------------------------------------------------

    def progressed(self, now: Tick) -> None:
        """Something was persisted, committed, applied or acknowledged, or time has passed: end what can end.

        Only while the term stands: afterwards another leader's entry may be committed at the index that is waited for.
        """
        if not self.current:
            return
        last = self.group.node.last_index
        if last > self._taken:
            self._taken = last
            self.in_sync.grew(now, last)
        applied = self.group.machine.applied_index
        if self._overlay is not None:
            self._overlay.applied(applied)
        if self._in_flight and applied >= self._gathered:
            self._took, self._in_flight = now - self._gathered_at, False
        if not len(self.waits):
            return
        persisted = self.group.node.match_index(self.group.me)
        self.waits.persisted(persisted, now)
        self._end(Acks.LEADER, persisted, now)
        self._end(Acks.QUORUM, applied, now)
        if self.waits.waits_for_all:
            self._end(Acks.ALL, min(applied, self.in_sync.held_by_all(now)), now)

    def _end(self, acks: Acks, index: LogIndex, now: Tick) -> None:
        ack: Ack | None = None
        for wait in self.waits.reached(acks, index):
            shares = ack is not None and ack.index == wait.index and not wait.duplicate and not ack.duplicate
            ack = self._ack(wait, now, ack if shares else None)
            wait.end(ack)

    def _ack(self, wait: Wait, now: Tick, beside: Ack | None = None) -> Ack:
        """`beside`: what is answered at this moment to another request that shares the entry."""
        if beside is None:
            node = self.group.node
            replicas = nodes_of(voter for voter in self.group.voters() if node.match_index(voter) >= wait.index)
            persisted_at = max(wait.proposed_at, self.waits.persisted_at(wait.index, now))
            sync_ms, replication_ms = persisted_at - wait.proposed_at, now - persisted_at
        else:
            replicas, sync_ms, replication_ms = beside.replicas, beside.sync_ms, beside.replication_ms
        return Ack(
            wait.base_offset, wait.count, wait.term, wait.index, wait.wall_ms, replicas, wait.duplicate,
            wait.queue_ms, sync_ms, replication_ms,
        )  # fmt: skip

    def tick(self, now: Tick) -> None:
        """Time has passed: waits may run out, and a replica that lags may leave the set that ALL waits for."""
        self.progressed(now)
        self.waits.expire(now, self._committed())
        self.gathering.expire(now)

    def deadline(self) -> Tick | None:
        """When the next producer runs out of time, or what was gathered is to be looked at again."""
        times = (self.waits.deadline(), self.gathering.deadline, self.gathering.look_at)
        return min((at for at in times if at is not None), default=None)

    def settled(self) -> bool:
        """Nobody waits, and every voter holds the whole log or has had the time to: nothing changes here by time
        alone."""
        node = self.group.node
        return (
            self.current
            and not len(self.waits)
            and not len(self.gathering)
            and (self.in_sync.is_at_rest or all(node.match_index(v) >= node.last_index for v in self.group.voters()))
        )

    def lost(self) -> None:
        """Leadership of this term is over."""
        leader = self.group.node.leader
        for request in self.gathering.take():
            request.done(NotLeader("leadership was lost before the records were appended"))
        self.waits.lose_leadership(
            "new leader unknown" if leader is None else f"node {leader.node} leads now", self._committed()
        )

    def _committed(self) -> LogIndex:
        """Of what was appended in this term, the part that is surely committed. Once the term is over, an index alone
        says nothing: another leader's entry may be there."""
        return self.group.machine.applied_index if self.current else LogIndex(0)
