"""All replicas of one node: one pump, one batch for the disk, one frame per peer and round, one deadline heap.

Synchronous, like the groups it holds. A driver (asyncio in production, virtual time in simulation) calls ``round``
whenever ``wake`` asked for it, ``tick`` at ``next_deadline``, and reports what became durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random

from raftmq.ids import BootCount, Generation, GroupId, LogIndex, NodeId, ReplicaId, Term, Tick
from raftmq.ports import (
    Channel,
    Clock,
    DropReplica,
    Frame,
    LeaderNotice,
    PeerInfo,
    PutReplica,
    ReplicaRow,
    Store,
    Transport,
    WriteOp,
)
from raftmq.raft.messages import Heartbeat, HeartbeatReply
from raftmq.raft.types import Membership
from raftmq.records.topic_kinds import TopicKind
from raftmq.replica.barriers import Barriers
from raftmq.replica.damage import Damage
from raftmq.replica.deadlines import Deadlines, Eager
from raftmq.replica.departed import Departed
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.heartbeats import NodeHeartbeats
from raftmq.replica.installing import Installs
from raftmq.replica.leading import Events, Hosted, Leading
from raftmq.replica.observer import Observer
from raftmq.replica.opening import next_generation, open_somehow
from raftmq.replica.outbox import Outbox, ReadOrder, ReadResult, Round
from raftmq.replica.produce import Leadership
from raftmq.replica.rows import fresh_row, not_installing
from raftmq.replica.settings import ReplicaSettings
from raftmq.replica.space import takes
from raftmq.replica.upkeep import Upkeep


class Replicas(Observer):
    """See the module docstring. Methods that take ``now`` from the clock are called on one thread only."""

    def __init__(
        self,
        me: ReplicaId,
        settings: ReplicaSettings,
        store: Store,
        transport: Transport,
        clock: Clock,
        rng: Random,
        wake: Callable[[], None],
        events: Events,
    ) -> None:
        self.me = me
        self.barriers = Barriers()
        self.heartbeats = NodeHeartbeats(self._local_term)
        self._settings = settings
        self._store = store
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._wake = wake
        self._events = events
        self._leading = Leading(me.node, clock, self.heartbeats, self.barriers, events, settings.replica_lag_max)
        self._hosted: dict[GroupId, Hosted] = {}
        self._dirty: set[GroupId] = set()
        patience = settings.raft.election_timeout - 2 * settings.raft.heartbeat_interval
        self._deadlines = Deadlines(self._hosted, self.heartbeats, clock, self._touch, patience)
        self._watched: set[GroupId] = set()
        self._eager = Eager(self._hosted)
        self.upkeep = Upkeep(self._hosted, self.heartbeats, clock.tick(), settings)
        self._pending = Round(0)
        """What was to be written since the last round, in the order of its making: rows follow from the ones before."""
        self._rounds, self._next_beat = 0, clock.tick()
        rows = store.replicas()
        self._next_generation = next_generation(rows)
        self.departed = Departed(store, self._write)
        ordered, has_room = events.snapshot_ordered, self.heartbeats.takes_records
        self.installs = Installs(self.group, self._new_generation, self._write, self._touch, ordered, has_room)
        self.damage = Damage(me, self._new_generation, self._write, self._touch, events)
        for found in rows:
            row, ops = not_installing(found)  # a snapshot that an earlier process did not finish
            self._write(ops)
            self._open(row)

    # -- groups ----------------------------------------------------------------------------------------------------

    @property
    def groups(self) -> dict[GroupId, ReplicaGroup]:
        """Every replica on this node, by group."""
        return {group_id: hosted.group for group_id, hosted in sorted(self._hosted.items())}

    def group(self, group_id: GroupId) -> ReplicaGroup | None:
        return hosted.group if (hosted := self._hosted.get(group_id)) else None

    @property
    def leaders(self) -> dict[GroupId, LeaderNotice]:
        """The newest notice of each group that this node has heard of."""
        return self._leading.known

    @property
    def led(self) -> Mapping[GroupId, ReplicaGroup]:
        """What this node leads, in no order: for upkeep, which need not look at what it only follows."""
        return self._leading.led

    def leadership(self, group_id: GroupId) -> Leadership | None:
        """Of a group that this node leads."""
        return hosted.leadership if (hosted := self._hosted.get(group_id)) else None

    def create(
        self, group_id: GroupId, membership: Membership, eager: bool, is_new: bool = False,
        kind: TopicKind = TopicKind.RECORDS,
    ) -> ReplicaGroup:  # fmt: skip
        """A new replica with the group's first configuration. ``eager``: it is the one that should lead. ``is_new``:
        this disk surely never had a replica of the group; otherwise, if it has lost rows, it may have."""
        assert group_id not in self._hosted, f"group {group_id} has a replica here already"
        lost = None if is_new else self._store.identity.lost
        row = fresh_row(group_id, self._new_generation(), membership, lost, self.departed.term(group_id), kind)
        self._write([PutReplica(row)], must_sync=True)
        hosted = self._open(row)  # not written yet, but nothing of an unknown generation can be on disk either
        if eager:
            self._eager.add(group_id)
            hosted.group.node.campaign(self._clock.tick())
        return hosted.group

    def drop(self, group_id: GroupId, lives_on: bool = True) -> None:
        """Remove a replica and its data. Where the group ``lives_on`` without this node, calls are still handed on to
        its leader, and what the replica promised is kept."""
        group = self._remove(group_id)
        if lives_on:
            self.departed.left(group_id, group.node.term)
        self._write([DropReplica(group_id, generation) for generation in group.generations], must_sync=True)

    def _remove(self, group_id: GroupId) -> ReplicaGroup:
        hosted = self._hosted.pop(group_id)
        self._leading.end(hosted)
        hosted.group.halt("the replica was removed from this node")
        self._eager.forget(group_id)
        for known in (self._dirty, self._watched):
            known.discard(group_id)
        self.upkeep.dropped(group_id)
        self.heartbeats.term_changed(group_id)
        self.installs.dropped(group_id)
        return hosted.group

    def _new_generation(self) -> Generation:
        self._next_generation = Generation(self._next_generation + 1)
        return Generation(self._next_generation - 1)

    def _open(self, row: ReplicaRow) -> Hosted:
        settings, rng, now = self._settings.raft_of(row.group), Random(self._rng.getrandbits(64)), self._clock.tick()
        known = (self.me, self._store, settings, rng, now, self, self._last_contact)
        group = open_somehow(row, *known, self.damage.start_over)
        hosted = self._hosted[group.id] = Hosted(group, flushed=group.machine.applied_index)
        if group.halted is not None:
            self._leading.changed(hosted)
        self.heartbeats.term_changed(group.id)
        self._touch(group.id)
        return hosted

    def _local_term(self, group_id: GroupId) -> Term | None:
        hosted = self._hosted.get(group_id)
        return None if hosted is None or hosted.group.halted is not None else hosted.group.node.term

    def _last_contact(self, group: ReplicaGroup, member: ReplicaId) -> Tick:
        if group.is_leader:
            return self.heartbeats.follower_contact(group.id, group.node.term, member)
        return self.heartbeats.leader_contact(group.id, group.node.term, member)

    # -- one pass --------------------------------------------------------------------------------------------------

    def touch(self, group_id: GroupId) -> None:
        """Something of this group changed: look at it in the next round."""
        if group_id in self._hosted:
            self._touch(group_id)

    def _touch(self, group_id: GroupId) -> None:
        self._dirty.add(group_id)
        self._wake()

    def _write(
        self, ops: Iterable[WriteOp], written: Callable[[], None] | None = None, *, must_sync: bool = False
    ) -> None:
        """Put `ops` into the next round."""
        pending = self._pending
        pending.ops.extend(ops)
        pending.must_sync = pending.must_sync or must_sync
        if written is not None:
            pending.written.append(written)
        self._wake()

    def round(self) -> tuple[Round | None, list[ReadOrder]]:
        """Every group with work yields its orders. Frames leave at once; the rest is for the caller to execute."""
        now, wall_ms = self._clock.tick(), self._clock.wall_ms()
        self._rounds += 1
        outbox = Outbox(self._rounds)
        pending, self._pending = self._pending, Round(0)
        outbox.round.ops.extend(pending.ops)
        outbox.round.written.extend(pending.written)
        outbox.round.must_sync = pending.must_sync
        dirty, self._dirty = sorted(self._dirty), set()
        for group_id in dirty:
            hosted = self._hosted.get(group_id)
            if hosted is not None:
                hosted.advance(now, wall_ms, outbox)
                self.upkeep.tails.used(hosted.group)
                self._deadlines.reschedule(hosted)
                if hosted.group.is_damaged and (row := self.damage.look(hosted.group)) is not None:
                    self._remove(group_id)
                    self._open(row)
        for node, channel, frame in outbox.frames():
            self._transport.send(node, channel, frame)
        if self._leading.has_news:
            news = self._leading.news()
            for node in self.heartbeats.nodes:
                self._transport.send(node, Channel.RAFT, news)
        return (None if outbox.round.is_empty else outbox.round), outbox.reads

    def persisted(self, done: Round) -> None:
        """`done` and every round before it are durable (or, where it need not be synced, written)."""
        for mark in done.marks:
            hosted = self._hosted.get(mark.group)
            if hosted is None or hosted.group.generation != mark.generation:
                continue
            if hosted.persisted(mark.term, mark.index, self._clock.tick()):
                self._touch(mark.group)
        outbox = Outbox(0)
        of = {mark.group: mark.generation for mark in done.marks}
        for node, message in done.after:
            hosted = self._hosted.get(message.group)
            # A replica that was dropped and created anew must not answer for the one before.
            if hosted is not None and hosted.group.halted is None and hosted.group.generation == of[message.group]:
                outbox.send(node, message)
        for node, channel, frame in outbox.frames():
            self._transport.send(node, channel, frame)
        for group_id, generation in done.installed:
            if (hosted := self._hosted.get(group_id)) is not None and hosted.group.row.generation == generation:
                hosted.group.switched()
                hosted.flushed = hosted.group.machine.applied_index
                self._touch(group_id)
        for tell in done.written:
            tell()

    def read_done(self, result: ReadResult) -> None:
        """What ``round`` ordered from disk."""
        if (hosted := self._hosted.get(result.order.group)) and hosted.group.generation == result.order.generation:
            hosted.group.read_done(result.order, result.entries)
            self._touch(result.order.group)

    def read_failed(self, order: ReadOrder, reason: str) -> bool:
        """What ``round`` ordered cannot be read. True if the replica was halted, False if it had gone meanwhile."""
        if (hosted := self._hosted.get(order.group)) is None or hosted.group.generation != order.generation:
            return False
        self._touch(order.group)
        return hosted.group.read_failed(order, reason)

    # -- time ------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> Tick:
        """When ``tick`` must be called next."""
        return self._deadlines.nearest(min(self._next_beat, self.upkeep.deadline()))

    def tick(self) -> None:
        """Time has passed."""
        now = self._clock.tick()
        self._deadlines.tick(now)
        if now >= self._next_beat:
            self._next_beat = Tick(now + self._settings.raft.heartbeat_interval)
            self._beat(now)
        if ops := self.upkeep.flush(now):
            self._write(ops)
        self.installs.sweep()
        for group_id in self.upkeep.propose(now, self._clock.wall_ms()):
            self._touch(group_id)

    def _beat(self, now: Tick) -> None:
        for node in self.heartbeats.nodes:
            self._transport.send(node, Channel.RAFT, Frame(heartbeat=self.heartbeats.beat(node)))
        self._deadlines.wake_silent(now)
        for group_id in sorted(self._watched):
            hosted = self._hosted[group_id]
            if hosted.leadership is None or hosted.leadership.settled():
                self._watched.discard(group_id)
            self._refresh(hosted, now)
        for hosted in self._eager.due():
            hosted.group.node.campaign(now)
            self._touch(hosted.group.id)

    # -- other nodes -----------------------------------------------------------------------------------------------

    def set_nodes(self, nodes: list[NodeId]) -> None:
        """The nodes of the cluster, this one among them or not."""
        self.heartbeats.set_peers([node for node in nodes if node != self.me.node])
        for hosted in self._hosted.values():
            self._leading.vouch(hosted)  # whoever is new does not know yet what is led here

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        now = self._clock.tick()
        restarted = self.heartbeats.heard(peer, now)
        if self.heartbeats.boot_of(peer.node) != peer.boot:
            return  # of an earlier process of that node, or of no node of this cluster
        if restarted:
            self._forget(peer.node, is_new_process=True)
        source = ReplicaId(peer.node, peer.store)
        if frame.heartbeat is not None:
            disk = self.heartbeats.disk_of(peer.node)
            ack, news = self.heartbeats.on_heartbeat(peer, frame.heartbeat)
            for group_id, term in news:
                self._step(group_id, Heartbeat(source, self.me, term, LogIndex(0)), now)
            self._transport.send(peer.node, Channel.RAFT, Frame(heartbeat_ack=ack))
            if self.heartbeats.disk_of(peer.node) is not disk:
                self._watched.update(g for g, hosted in self._hosted.items() if hosted.leadership is not None)
        if frame.heartbeat_ack is not None:
            for group_id, term in self.heartbeats.on_ack(peer, frame.heartbeat_ack, now):
                self._step(group_id, HeartbeatReply(source, self.me, term), now)
        for addressed in frame.messages:
            if addressed.message.source == source:
                self._step(addressed.group, addressed.message, now)
        for notice in frame.notices:
            self._leading.learn(notice)

    def _step(self, group_id: GroupId, message: object, now: Tick) -> None:
        hosted = self._hosted.get(group_id)
        if hosted is not None and takes(self.heartbeats.disk, message):
            hosted.group.step(message, now)  # type: ignore[arg-type]
            self._touch(group_id)

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        """A stream to `node` is new: frames before it may be lost, and it may know nothing of what we lead."""
        self.heartbeats.reached(node)
        self._forget(node, is_new_process=False)
        if channel is Channel.RAFT and (mine := self._leading.mine()) is not None:
            self._transport.send(node, Channel.RAFT, mine)

    def _forget(self, node: NodeId, is_new_process: bool) -> None:
        """What was sent to `node` may not have arrived: every replica there is probed anew."""
        for group_id, hosted in self._hosted.items():
            members = [member for member in hosted.group.node.membership.all if member.node == node]
            for member in sorted(members):
                hosted.group.forget_member(member, is_new_process)
                self._touch(group_id)

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        """Proof that the process is gone: its followers need not wait for a timeout."""
        if not self.heartbeats.lost(node, boot):
            return
        now = self._clock.tick()
        for group_id, hosted in sorted(self._hosted.items()):
            leader = hosted.group.node.leader
            if leader is not None and leader.node == node:
                hosted.group.node.leader_lost(now)
                self._touch(group_id)
            elif hosted.leadership is not None:
                self._refresh(hosted, now)
                self._touch(group_id)

    # -- leadership ------------------------------------------------------------------------------------------------

    def leadership_changed(self, group: ReplicaGroup) -> None:
        if (hosted := self._hosted.get(group.id)) is not None:
            if self._leading.changed(hosted):
                self._watched.add(group.id)
                self.upkeep.leads(group.id)
            self._events.group_progressed(group)

    def progressed(self, group: ReplicaGroup) -> None:
        if (hosted := self._hosted.get(group.id)) is None:
            return
        if hosted.leadership is not None:
            self._leading.progressed(hosted)
            if not hosted.leadership.settled():
                self._watched.add(group.id)
        self.upkeep.progressed(hosted)
        self.barriers.progressed(group)
        self._events.group_progressed(group)

    def snapshot_ordered(self, group: ReplicaGroup) -> None:
        self.installs.order(group)

    def read_granted(self, group: ReplicaGroup, request_id: int, index: LogIndex | None) -> None:
        self.barriers.granted(group, request_id, index)

    def _refresh(self, hosted: Hosted, now: Tick) -> None:
        """The in-sync set of a group that is led here may be another."""
        self._leading.tick(hosted, now)
        if self._leading.has_news:
            self._wake()

    def silence(self, node: NodeId) -> int:
        """Milliseconds since `node` was heard last; 0 for this node."""
        return 0 if node == self.me.node else self.heartbeats.silence(node, self._clock.tick())
