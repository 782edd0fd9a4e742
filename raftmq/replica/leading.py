"""Who leads what: the leaderships of this node's groups, and the notices that tell every node of them.

A leadership ends before anything of its successor leaves: the node stops vouching for the group, then ends whatever
waits for it. Notices only serve routing; a node without a replica learns from them where to send a call.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.ids import GroupId, LogIndex, NodeId, ReplicaId, Term, Tick
from raftmq.partition.machine import PartitionMachine
from raftmq.ports import Clock, Frame, LeaderNotice
from raftmq.raft.types import Role
from raftmq.replica.barriers import Barriers
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.heartbeats import NodeHeartbeats
from raftmq.replica.in_sync import nodes_of
from raftmq.replica.installing import SnapshotOrder
from raftmq.replica.outbox import Outbox
from raftmq.replica.produce import Leadership


@dataclass(slots=True)
class Hosted:
    """A group and what this node keeps beside it."""

    group: ReplicaGroup
    leadership: Leadership | None = None
    led_members: frozenset[ReplicaId] = frozenset()
    flushed: LogIndex = LogIndex(0)
    scheduled: Tick | None = None
    is_trimming: bool = False
    """A trim of it was proposed here, and is not decided yet."""

    def tick(self, now: Tick) -> bool:
        """Time has passed. Returns whether a round is to look at the group: most often nothing came of it. What else a
        round does for a group follows from an input, and whoever gave that has asked for a round."""
        self.group.tick(now)
        if self.leadership is not None:
            self.leadership.tick(now)
        node, leadership = self.group.node, self.leadership
        is_settled = leadership is None or (leadership.settled() and not node.append_targets())
        return node.has_ready() or not is_settled

    def leans_on(self, since: Tick) -> list[ReplicaId]:
        """See ``RaftNode.leans_on``; empty also where somebody's wait may run out."""
        waits = self.group.is_out_of_service or (self.leadership is not None and self.leadership.deadline() is not None)
        return [] if waits else self.group.node.leans_on(since)

    def advance(self, now: Tick, wall_ms: int, outbox: Outbox) -> None:
        """Turn everything that there is to do into orders."""
        if self.leadership is not None:
            self.leadership.flush_due(now, wall_ms)
        self.group.advance(now, wall_ms, outbox)

    def persisted(self, term: Term, index: LogIndex, now: Tick) -> bool:
        """A round of this group is durable. Returns whether that calls for another one: not on a follower, whose answer
        leaves without, nor on a leader that commits nothing by it. What the disk holds changes no more than what the
        core then wants done, a trim that waited for the disk (``ReplicaGroup._trim``), and waits of producers."""
        group = self.group
        group.persisted(term, index)
        if group.node.has_ready() or group.machine.raft_start > group.row.raft_start:
            return True
        if self.leadership is not None:
            self.leadership.progressed(now)
        return False

    def deadline(self) -> Tick | None:
        """When time alone changes something here: in the core, or because somebody's wait runs out."""
        expiry = None if self.leadership is None else self.leadership.deadline()
        return min((at for at in (self.group.deadline(), expiry) if at is not None), default=None)


class Events:
    """What the node above wants to hear. The default hears nothing."""

    def leader_known(self, notice: LeaderNotice) -> None:
        """Another leader, or another in-sync set, of a group is known."""

    def group_progressed(self, group: ReplicaGroup) -> None:
        """A replica on this node applied something, or its role changed."""

    def snapshot_ordered(self, order: SnapshotOrder) -> None:
        """Fetch a snapshot: its parts go to ``Replicas.installs``."""

    def campaign_began(self, group: ReplicaGroup) -> None:
        """A replica on this node asks for votes in a new term. (A pre-vote that fails begins none.)"""

    def leadership_began(self, group: ReplicaGroup) -> None:
        """A replica on this node was elected."""

    def leadership_ended(self, group: ReplicaGroup) -> None:
        """A replica on this node leads no more, or leads in another term now."""

    def replica_started_over(self, group: GroupId, reason: str) -> None:
        """What this node held of the group is damaged; its replica begins with nothing, suspect."""

    def replica_halted(self, group: ReplicaGroup) -> None:
        """A replica on this node takes no further part; ``group.halted`` says why."""


class Leading:
    """See the module docstring. ``known`` holds the newest notice of each group; whoever changes it calls ``learn``."""

    def __init__(
        self, me: NodeId, clock: Clock, heartbeats: NodeHeartbeats, barriers: Barriers, events: Events, lag_max: int
    ) -> None:
        self.known: dict[GroupId, LeaderNotice] = {}
        self._me = me
        self._clock = clock
        self._heartbeats = heartbeats
        self._barriers = barriers
        self._events = events
        self._lag_max = lag_max
        self._untold: dict[GroupId, LeaderNotice] = {}
        self.led: dict[GroupId, ReplicaGroup] = {}
        """Groups with a leadership here."""

    # -- leaderships -------------------------------------------------------------------------------------------------

    def changed(self, hosted: Hosted) -> bool:
        """Role, term or leader is another. Returns whether a leadership began."""
        group = hosted.group
        leads = group.is_leader
        if hosted.leadership is not None and (not leads or hosted.leadership.term != group.node.term):
            self.end(hosted)
        self._heartbeats.term_changed(group.id)
        if group.halted is not None:
            self._events.replica_halted(group)
        elif group.node.role is Role.CANDIDATE:
            self._events.campaign_began(group)
        begins = leads and hosted.leadership is None
        if begins:
            machine = group.machine if isinstance(group.machine, PartitionMachine) else None
            hosted.leadership = Leadership(group, machine, self._heartbeats, self._clock.tick(), self._lag_max)
            hosted.led_members = frozenset()
            self.led[group.id] = group
            self._events.leadership_began(group)
        leader = group.node.leader
        if leader is not None and not leads:
            self.learn(LeaderNotice(group.id, group.node.term, leader.node, ()))
        return begins

    def end(self, hosted: Hosted) -> None:
        """This node no longer leads the group."""
        if hosted.leadership is not None:
            self._heartbeats.unlead(hosted.group.id)
            hosted.leadership.lost()
            hosted.leadership = None
            del self.led[hosted.group.id]
            self._events.leadership_ended(hosted.group)
        self._barriers.lost(hosted.group.id)

    def progressed(self, hosted: Hosted) -> None:
        """Something was persisted, committed, applied or acknowledged in a group that is led here."""
        group, leadership = hosted.group, hosted.leadership
        assert leadership is not None
        if group.node.membership.all != hosted.led_members:
            self.vouch(hosted)
        now = self._clock.tick()
        leadership.progressed(now)
        self._announce(hosted, now)

    def vouch(self, hosted: Hosted) -> None:
        """If this group is led here, let the heartbeats say so to every node that has a replica of it."""
        if hosted.leadership is not None:
            hosted.led_members = hosted.group.node.membership.all
            nodes = {member.node for member in hosted.led_members} - {self._me}
            self._heartbeats.lead(hosted.group.id, hosted.leadership.term, nodes)

    def tick(self, hosted: Hosted, now: Tick) -> None:
        """Time has passed, or a node is known to be dead: the in-sync set may be another."""
        if hosted.leadership is not None:
            hosted.leadership.tick(now)
            self._announce(hosted, now)

    # -- notices -----------------------------------------------------------------------------------------------------

    def _announce(self, hosted: Hosted, now: Tick) -> None:
        """Tell every node who leads and who is in sync, when that is news."""
        leadership = hosted.leadership
        if leadership is None or not hosted.group.can_serve():
            return
        members = tuple(leadership.in_sync.members(now))
        if members != leadership.announced:
            leadership.announced = members
            notice = LeaderNotice(hosted.group.id, leadership.term, self._me, nodes_of(members))
            self._untold[notice.group] = notice
            self.learn(notice)

    def learn(self, notice: LeaderNotice) -> None:
        """Take a notice, unless a newer one is known."""
        known = self.known.get(notice.group)
        if known is not None and (known.term > notice.term or (known.term == notice.term and not notice.in_sync)):
            return
        self.known[notice.group] = notice
        self._events.leader_known(notice)

    @property
    def has_news(self) -> bool:
        """Whether ``news`` has something to tell."""
        return bool(self._untold)

    def news(self) -> Frame:
        """What every other node is to be told now."""
        untold, self._untold = self._untold, {}
        return Frame(notices=tuple(untold[group_id] for group_id in sorted(untold)))

    def mine(self) -> Frame | None:
        """Everything that this node leads, for a node that may know nothing of it."""
        notices = tuple(notice for _, notice in sorted(self.known.items()) if notice.leader == self._me)
        return Frame(notices=notices) if notices else None
