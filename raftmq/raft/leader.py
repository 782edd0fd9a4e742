"""A leader: orders appends, commits what a quorum holds, confirms reads (Raft, sections 5.3, 5.4, 6, 8).

Its own disk is a voter like any other: its match index is what ``persisted`` reported. Appends may leave
before that (dissertation, section 10.2.1), so a follower's disk may well be first.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from raftmq.ids import LogIndex, ReplicaId, Tick
from raftmq.raft.core import LONG_AGO, Core
from raftmq.raft.errors import MembershipRefused, NotLeader, TooMuchUncommitted, TransferRefused
from raftmq.raft.membership import first_step, leave
from raftmq.raft.messages import AppendReply, HeartbeatReply, TimeoutNow
from raftmq.raft.quorum import quorum_value
from raftmq.raft.read_index import ReadRounds
from raftmq.raft.replication import Replication
from raftmq.raft.roles import RoleBehaviour
from raftmq.raft.types import Entry, EntryKind, Membership, Role

ALWAYS = 2**62
"""What this replica counts for in quorums over contacts and read rounds: it always agrees with itself."""


class Leader(RoleBehaviour):
    """One instance for one term."""

    role: ClassVar[Role] = Role.LEADER

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        core.leader = core.me
        self.replication = Replication(core)
        self.reads = ReadRounds()
        self.transfer_target: ReplicaId | None = None
        self.news = False
        """Something may have become available from ``next_append`` since the last Ready."""
        self._transfer_until = core.now
        self._first_index = LogIndex(core.log.last + 1)  # this term's no-op
        self._uncommitted: deque[tuple[LogIndex, int]] = deque()
        self._uncommitted_bytes = 0
        self._heartbeat_at = core.now
        self._quorum_until = Tick(core.now + core.config.election_timeout)

    def start(self) -> None:
        self.membership_changed()
        self._append(EntryKind.NOOP, None, 0)

    # -- proposals -----------------------------------------------------------------------------------------------

    def propose(self, kind: EntryKind, payload: object, size: int) -> LogIndex:
        self.expect_room(size)
        return self._append(kind, payload, size)

    def expect_room(self, size: int) -> None:
        self._refuse_in_transfer()
        limit = self.core.config.max_uncommitted_bytes
        if self._uncommitted_bytes and self._uncommitted_bytes + size > limit:
            raise TooMuchUncommitted(f"{self._uncommitted_bytes} bytes wait for a quorum, {limit} are allowed")

    def _append(self, kind: EntryKind, payload: object, size: int, membership: Membership | None = None) -> LogIndex:
        core = self.core
        index = LogIndex(core.log.last + 1)
        self._uncommitted.append((index, size))
        self._uncommitted_bytes += size
        self.news = True
        core.append(Entry(index, core.term, kind, payload, size, membership))
        return index

    # -- commitment ----------------------------------------------------------------------------------------------

    @property
    def commits_own_term(self) -> bool:
        """Its no-op is committed, and with it everything that earlier leaders have committed."""
        return self.core.commit_index >= self._first_index

    @property
    def can_serve(self) -> bool:
        """... and applied: its state machine is as new as anything that was ever acknowledged."""
        return self.core.applied_index >= self._first_index

    def match_index(self, member: ReplicaId) -> LogIndex:
        if member == self.core.me:
            return self.core.durability.index
        progress = self.replication.get(member)
        return progress.match_index if progress is not None else LogIndex(0)

    def persisted(self) -> None:
        self._advance_commit()

    def _advance_commit(self) -> None:
        """Commit what a quorum holds, if it ends with an entry of this term: an older one may still be
        overwritten, however many replicas hold it (section 5.4.2, figure 8)."""
        core = self.core
        reached = quorum_value(core.membership, self.match_index)
        if reached is None or reached <= core.commit_index or not core.log.matches(LogIndex(reached), core.term):
            return
        core.commit_to(LogIndex(reached))
        self.replication.committed()
        while self._uncommitted and self._uncommitted[0][0] <= reached:
            self._uncommitted_bytes -= self._uncommitted.popleft()[1]
        self.news = True
        self._configuration_committed()

    # -- membership ----------------------------------------------------------------------------------------------

    def change_membership(self, target: Membership) -> LogIndex:
        self._refuse_in_transfer()
        if not self.commits_own_term:
            raise MembershipRefused("no entry of this term is committed yet")
        if self.core.memberships.current_index > self.core.commit_index:
            raise MembershipRefused("the previous change is not committed yet")
        return self._append(EntryKind.MEMBERSHIP, None, 0, first_step(self.core.membership, target))

    def membership_changed(self) -> None:
        self.replication.membership_changed()

    def _configuration_committed(self) -> None:
        """Leave a joint configuration as soon as it is committed; go when committed out of the group."""
        core = self.core
        if core.memberships.current_index > core.commit_index:
            return
        if core.membership.is_joint:
            if self.transfer_target is None:
                self._append(EntryKind.MEMBERSHIP, None, 0, leave(core.membership))
        elif core.me not in core.membership.voters:
            self._depart()

    def _depart(self) -> None:
        """Removed, and the removal is committed (section 6). Whoever holds most of the log is asked to take
        over at once; if it cannot, the rest elect somebody when their timers run out."""
        core = self.core
        best = max(core.membership.voters, key=lambda voter: (self.match_index(voter), voter))
        core.send_now(TimeoutNow(core.me, best, core.term))
        core.roles.follow()

    # -- transfer of leadership ----------------------------------------------------------------------------------

    def transfer_leadership(self, target: ReplicaId) -> None:
        core = self.core
        if target == core.me or target not in core.membership.voters:
            raise TransferRefused(f"{target} is not another voter")
        progress = self.replication.get(target)
        assert progress is not None
        if progress.suspect:
            raise TransferRefused(f"{target} is suspect")
        if self.transfer_target == target:
            return
        self.transfer_target = target
        self._transfer_until = Tick(core.now + core.config.election_timeout)
        self._hand_over()

    def _hand_over(self) -> None:
        """Only once the target holds the whole log; it would lose the election otherwise."""
        core, target = self.core, self.transfer_target
        if target is not None and self.match_index(target) == core.log.last:
            core.send_now(TimeoutNow(core.me, target, core.term))

    def _refuse_in_transfer(self) -> None:
        if self.transfer_target is not None:
            raise NotLeader(f"leadership is being handed over to {self.transfer_target}")

    # -- reads ---------------------------------------------------------------------------------------------------

    def read_index(self, request_id: int) -> None:
        self.reads.request(request_id)

    @property
    def read_round_due(self) -> bool:
        return self.reads.has_requests and self.commits_own_term

    def begin_read_round(self) -> None:
        """One round for everything that was asked since the last one."""
        self.replication.heartbeat(self.reads.begin(self.core.commit_index))
        self._heartbeat_at = self.core.now
        self._confirm_reads()

    def _confirm_reads(self) -> None:
        confirmed = quorum_value(self.core.membership, self._round_acked)
        if confirmed is not None:
            self.core.outbox.reads.extend(self.reads.confirm(confirmed))

    def _round_acked(self, member: ReplicaId) -> int:
        if member == self.core.me:
            return ALWAYS
        progress = self.replication.get(member)
        return progress.round_acked if progress is not None else 0

    # -- replies -------------------------------------------------------------------------------------------------

    def on_append_reply(self, reply: AppendReply) -> None:
        core, progress = self.core, self.replication.get(reply.source)
        if progress is None or (reply.match_index > core.log.last and not reply.rejected):
            return
        if reply.admission != progress.admission:
            return  # of a replica that was removed since, which had the same name
        progress.heard(core.now)
        progress.reported(reply.suspect)
        self.news = True
        if reply.rejected:
            # Back to where the logs may agree: both sides skip whole terms at once (end of section 5.3).
            agreed = reply.match_index
            if agreed >= core.log.start:
                agreed, _ = core.log.conflict_hint(agreed, reply.hint_term)
            progress.rejected(reply.prev_index, agreed)
            return
        progress.confirmed_commit(LogIndex(min(reply.commit_index, core.commit_index)))
        if progress.accepted(reply.match_index, core.log.start, core.now):
            if reply.source == self.transfer_target:
                self._hand_over()
            self._advance_commit()

    def on_heartbeat_reply(self, reply: HeartbeatReply) -> None:
        progress = self.replication.get(reply.source)
        if progress is None or reply.round > self.reads.newest:
            return
        progress.heard(self.core.now)
        progress.confirmed_round(reply.round)
        self._confirm_reads()

    handlers: ClassVar = {AppendReply: on_append_reply, HeartbeatReply: on_heartbeat_reply}

    def asked_for_vote(self, candidate: ReplicaId) -> None:
        """A member that looks for a leader does not know that there is one: it gets a message at once."""
        progress = self.replication.get(candidate)
        if progress is not None:
            progress.poke()
            self.news = True

    def member_restarted(self, member: ReplicaId, is_new_process: bool) -> None:
        progress = self.replication.get(member)
        if progress is not None:
            if is_new_process:
                progress.new_process()
            else:
                progress.restart()
            self.news = True

    # -- time ----------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        core = self.core
        if core.now >= self._quorum_until and not self._has_quorum():
            core.roles.follow()
            return
        if self.transfer_target is not None and core.now >= self._transfer_until:
            self.transfer_target = None
            self._configuration_committed()
            if core.role is not self:
                return
        self._heartbeat()
        if self.replication.retry():
            self.news = True

    def _has_quorum(self) -> bool:
        """Whether a quorum answered within the last election timeout; a leader without one steps down, so that
        the other side of a partition is not alone in knowing (dissertation, section 6.2)."""
        core = self.core
        heard = quorum_value(core.membership, self._last_contact)
        if heard is None:
            return False
        self._quorum_until = Tick(heard + core.config.election_timeout)
        return core.now < self._quorum_until

    def _last_contact(self, member: ReplicaId) -> int:
        if member == self.core.me:
            return ALWAYS
        progress = self.replication.get(member)
        if progress is None:
            return LONG_AGO
        progress.heard(self.core.host_contact(member))
        return progress.contact

    def _heartbeat(self) -> None:
        core, reads = self.core, self.reads
        if core.now < self._heartbeat_at + core.config.heartbeat_interval:
            return
        if core.config.group_heartbeats:
            self.replication.heartbeat(reads.newest)
        elif reads.unconfirmed:
            self.replication.heartbeat(reads.newest, unanswered_only=True)
        self._heartbeat_at = core.now

    def deadline(self) -> Tick | None:
        """The earliest of: what there is to do, loss of quorum."""
        due = self._work_due()
        if self.core.membership.all_voters - {self.core.me}:
            due.append(self._quorum_until)
        return min(due, default=None)

    def _work_due(self) -> list[Tick]:
        """Heartbeat or repetition of a read round, retry, end of a transfer."""
        core, retry_at = self.core, self.replication.retry_at()
        due = [] if retry_at is None else [retry_at]
        if self.transfer_target is not None:
            due.append(self._transfer_until)
        heartbeats = core.config.group_heartbeats and core.membership.all - {core.me}
        if heartbeats or self.reads.unconfirmed:
            due.append(Tick(self._heartbeat_at + core.config.heartbeat_interval))
        return due

    def leans_on(self, since: Tick) -> list[ReplicaId]:
        core = self.core
        if self._work_due() or self.replication.snapshot_due:
            return []
        heard = {member for member in core.others(core.membership.all_voters) if core.host_contact(member) >= since}
        has_quorum = quorum_value(core.membership, lambda member: member == core.me or member in heard)
        return sorted(heard) if has_quorum else []

    def retire(self) -> None:
        self.core.outbox.reads_failed.extend(self.reads.abandon())
