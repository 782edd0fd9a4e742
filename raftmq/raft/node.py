"""``RaftNode``: one replica of one Raft group, without IO, clock, threads or a random source of its own.

The caller's contract, in order. After any call below that may have changed something, and as long as
``has_ready()`` is true, the host

1.  takes ``ready()`` (which hands the work over: it is not repeated);
2.  sends ``send_now``; then, for every member of ``append_targets()``, takes ``next_append(member)`` until it is
    None, fills each order with entries and calls ``sent``; these messages may leave at once too;
3.  writes ``hard_state``, ``truncate_from`` and ``entries`` in ONE atomic batch, in that order, after the batches
    of every earlier Ready;
4.  makes it durable, and only then sends ``send_after_persist`` and calls
    ``persisted(ready.term, ready.persist_mark)``, in the order of the Readies;
5.  applies entries up to ``committed_to`` in log order, each exactly once, and calls ``applied``.

It must never send a message of ``send_after_persist`` early, never apply what is not committed, never lose a
Ready, and never go on after a failed write: it ends the process instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from raftmq.ids import LogIndex, ReplicaId, Term, Tick
from raftmq.raft import voting
from raftmq.raft.admission import FROM_LEADER, admits
from raftmq.raft.config import RaftConfig
from raftmq.raft.core import Core
from raftmq.raft.errors import NotLeader
from raftmq.raft.follower import Follower, snapshot_reply
from raftmq.raft.leader import Leader
from raftmq.raft.log_terms import LogTerms
from raftmq.raft.messages import (
    AppendEntries,
    AppendOrder,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from raftmq.raft.ready import Ready
from raftmq.raft.transitions import Transitions
from raftmq.raft.types import Entry, EntryKind, Membership, RaftStatus, Restored, Role, SnapshotMeta


class RaftNode:
    """See the module docstring for the contract.

    ``last_contact(member)``: the newest tick at which the host knows that `member` was alive *and agreed with this
    replica on the present term and leader* of this group (a very old tick if never). For a follower it is asked
    about the leader, for a leader about its followers. Its answer is merged (max) with what the core saw itself,
    whenever the core must decide whether someone is alive: at its own deadlines and before it answers a vote.

    A *suspect* replica (``Restored.suspect``: its disk may have lost synced entries) never campaigns and grants
    neither votes nor pre-votes. It is cleared when a leader of a term at or above the raised one has committed an
    entry of that term and this replica's verified log reaches that commit index: such a leader was elected without
    its vote, after the loss, so it holds every committed entry.
    """

    def __init__(
        self,
        config: RaftConfig,
        me: ReplicaId,
        restored: Restored,
        rng: Random,
        now: Tick,
        last_contact: Callable[[ReplicaId], Tick] | None = None,
    ) -> None:
        core = Core(config, me, restored, rng, now, last_contact)
        core.roles = Transitions(core)
        core.role = Follower(core)
        self._core = core
        self._told = self._view()
        self._told_hard_state = core.hard_state

    # -- inputs ------------------------------------------------------------------------------------------------
    def tick(self, now: Tick) -> None:
        """Time has passed. May be called at any time; needs to be called when ``deadline()`` is reached."""
        self._core.advance_clock(now)
        self._core.role.tick()

    def set_clock(self, now: Tick) -> None:
        """It is `now`, and nothing else has happened. To be said before anything leaves: patience is counted from what
        the core takes for the present, and in a group that was idle its last input is long ago."""
        self._core.advance_clock(now)

    def step(self, message: Message, now: Tick) -> None:
        """Take a message from another replica. Never raises for anything that a correct peer can send, however
        late, doubled or reordered. A forged append that contradicts a committed entry is an AssertionError: the
        group's log is not what it seems, and to go on would mean to lose what was acknowledged."""
        core = self._core
        core.advance_clock(now)
        if not admits(core, message):
            return
        if isinstance(message, RequestVote):
            voting.answer(core, message)
            core.role.asked_for_vote(message.source)
            return
        if message.term < core.term:
            self._answer_stale(message)
            return
        if message.term > core.term and not self._answers_pre_vote(message):
            core.roles.follow(term=message.term)
        core.role.step(message)

    def _answers_pre_vote(self, message: Message) -> bool:
        """A granted pre-vote names the term that was asked about, which nobody has entered."""
        return isinstance(message, VoteReply) and message.pre_vote and message.granted

    def _answer_stale(self, message: Message) -> None:
        """A leader of an older term is told the newer one, so that it steps down; everything else is dropped."""
        core = self._core
        reply: Message
        if isinstance(message, Heartbeat):
            reply = HeartbeatReply(core.me, message.source, core.term)
        elif isinstance(message, FROM_LEADER) and not isinstance(message, TimeoutNow):
            reply = AppendReply(core.me, message.source, core.term, LogIndex(0), rejected=True)
        else:
            return
        core.send_after_persist(reply)

    def propose(self, kind: EntryKind, payload: object, size: int) -> LogIndex:
        """Append an entry as leader; it comes out in the next Ready with this index and ``self.term``. Raises NotLeader
        (also while leadership is being transferred away) or TooMuchUncommitted; nothing changed then."""
        assert kind in (EntryKind.DATA, EntryKind.COMMAND), "no-ops and configurations are the core's own"
        return self._leader().propose(kind, payload, size)

    def expect_room(self, size: int) -> None:
        """Raises what ``propose`` of so many bytes would."""
        self._leader().expect_room(size)

    def change_membership(self, target: Membership) -> LogIndex:
        """Propose a new configuration. Needs a committed entry of this term and no change under way.

        More than one voter changed, or any voter replaced: goes by joint consensus, and the leader proposes the
        second half by itself when the first commits. Raises NotLeader, MembershipRefused.
        """
        return self._leader().change_membership(target)

    def transfer_leadership(self, target: ReplicaId, now: Tick) -> None:
        """Stop proposals, bring `target` up to date, tell it to campaign; give up after one election timeout.

        Raises NotLeader, TransferRefused (unknown, learner, suspect or self).
        """
        self._core.advance_clock(now)
        self._leader().transfer_leadership(target)

    def read_index(self, request_id: int, now: Tick) -> None:
        """Ask for a linearizable read; answered in ``Ready.reads`` or ``Ready.reads_failed``. Raises NotLeader."""
        self._core.advance_clock(now)
        self._leader().read_index(request_id)

    def campaign(self, now: Tick) -> None:
        """Start an election without waiting for the timer (through pre-vote)."""
        core = self._core
        core.advance_clock(now)
        if core.may_campaign and core.role.role is not Role.LEADER:
            core.roles.pre_campaign()

    def leader_lost(self, now: Tick) -> None:
        """The host has proof that the leader's process is gone: forget it and draw a short timer."""
        core = self._core
        core.advance_clock(now)
        if core.leader not in (None, core.me):
            core.forget_leader()
            core.hurry()

    def member_restarted(self, member: ReplicaId, is_new_process: bool = True) -> None:
        """The host saw a new boot count of `member`, or (not `is_new_process`) a new stream to the same one: its
        progress goes back to probe.

        What it acknowledged before stays counted (it was durable), but is probed again. A new process is not in sync
        before its first answer (``member_suspect``): its disk may have lost what the one before had synced.
        """
        if isinstance(self._core.role, Leader):
            self._core.role.member_restarted(member, is_new_process)

    def persisted(self, term: Term, index: LogIndex) -> None:
        """The batches of every Ready up to the one with this mark are durable. To be called at most once for each, in
        their order: marks may look alike, and the oldest is meant. Late or stale marks are ignored."""
        if self._core.durability.persisted(term, index):
            self._core.role.persisted()

    def nothing_to_persist(self) -> None:
        """The newest Ready has no hard state, truncation or entries, and its mark will not come back."""
        self._core.durability.withdraw()

    def applied(self, index: LogIndex) -> None:
        """The state machine has taken everything up to `index` (at most the commit index; never less than before)."""
        self._core.applied(index)
        if isinstance(self._core.role, Leader):
            self._core.role.news = True

    def wants_snapshot(self, meta: SnapshotMeta) -> bool:
        """Whether a snapshot is of use: it leads further than the commit index, and the log does not hold its end."""
        return self._core.wants_snapshot(meta)

    def begin_install(self, meta: SnapshotMeta) -> bool:
        """Whether a snapshot that was ordered a while ago is still of use. Then there may be a new Ready.

        To be asked right before the host puts it in place of the log: meanwhile the log may have caught up, and the
        snapshot would throw away what this replica has acknowledged. It may also be of a term that this replica has
        not heard of, which says the same as any message of that term: no log may hold an entry of a term that its
        replica never entered, and who leads in an older one leads no more.
        """
        core = self._core
        if not core.wants_snapshot(meta):
            return False
        core.roles.follow(term=meta.term if meta.term > core.term else None)
        return True

    def snapshot_installed(self, meta: SnapshotMeta, log: LogTerms | None = None) -> None:
        """The snapshot that a Ready ordered (or a newer one) is durable in place of the log up to ``meta.index``.

        `log`: entries up to there that came with it, and can be sent on. None: there are none.

        Everything that the log held is gone: it ended before the snapshot, or conflicted with it (otherwise
        ``begin_install`` said no, and the host did nothing but call this). Readies taken before are durable too.
        """
        core = self._core
        if not core.install(meta, log) and meta.index > core.commit_index:
            core.commit_to(meta.index)
        snapshot_reply(core, meta.index)

    def compact(self, start_index: LogIndex) -> None:
        """The host no longer has entries below ``start_index`` (which must not exceed applied + 1)."""
        assert start_index <= self._core.applied_index + 1, "entries that are not applied are still needed"
        self._core.log.compact(start_index)

    def _leader(self) -> Leader:
        role = self._core.role
        if not isinstance(role, Leader):
            raise NotLeader(f"{self._core.me} is {role.role.value}")
        return role

    # -- outputs -----------------------------------------------------------------------------------------------
    def has_ready(self) -> bool:
        """Whether the host has something to do: work in a Ready, or appends that became available."""
        core = self._core
        if core.outbox or core.hard_state != self._told_hard_state or self._view() != self._told:
            return True
        role = core.role
        return isinstance(role, Leader) and (role.read_round_due or (role.news and bool(role.replication.targets())))

    def ready(self) -> Ready:
        """Hand over everything that waits."""
        core = self._core
        if isinstance(core.role, Leader):
            core.role.news = False
            if core.role.read_round_due:
                core.role.begin_read_round()
        changed = core.hard_state != self._told_hard_state
        self._told, self._told_hard_state = self._view(), core.hard_state
        entries = core.take_entries()
        outbox = core.take_outbox()
        core.durability.issue(core.term, core.log.last)
        return Ready(
            hard_state=core.hard_state if changed else None,
            truncate_from=outbox.truncate_from,
            entries=entries,
            snapshot=outbox.snapshot,
            send_now=tuple(outbox.send_now),
            send_after_persist=tuple(outbox.send_after_persist),
            committed_to=core.commit_index,
            reads=tuple(outbox.reads),
            reads_failed=tuple(outbox.reads_failed),
            role=core.role.role,
            leader=core.leader,
            term=core.term,
            suspect=core.suspect,
            persist_mark=core.log.last,
        )

    def _view(self) -> tuple[LogIndex, Role, ReplicaId | None, Term, bool]:
        core = self._core
        return core.commit_index, core.role.role, core.leader, core.term, core.suspect

    def append_targets(self) -> Iterable[ReplicaId]:
        """Members for whom ``next_append`` has something, in order. Empty unless leader."""
        role = self._core.role
        return role.replication.targets() if isinstance(role, Leader) else []

    def next_append(self, target: ReplicaId) -> AppendOrder | None:
        """The next message to `target`; the same one again until ``sent`` was called for it.

        It may find that `target` needs a snapshot instead: then there is a new Ready.
        """
        role = self._core.role
        return role.replication.next_append(target) if isinstance(role, Leader) else None

    def sent(self, order: AppendOrder, entries: tuple[Entry, ...]) -> AppendEntries:
        """The message for `order`, with `entries`: all of its range or a beginning of it, at least one."""
        return self._leader().replication.sent(order, entries)

    def deadline(self) -> Tick | None:
        """The next tick at which ``tick`` matters. None: only an input can change anything."""
        return self._core.role.deadline()

    def leans_on(self, since: Tick) -> list[ReplicaId]:
        """Replicas for whose sake alone there is a deadline, with a ``last_contact`` of `since` or later: while that is
        never an election timeout old, ``tick`` is not needed before the next input. Empty: there are none such."""
        return self._core.role.leans_on(since)

    def status(self) -> RaftStatus:
        """A consistent picture of this replica."""
        core = self._core
        leader = core.role if isinstance(core.role, Leader) else None
        learners = core.membership.learners
        peers = {m: p.status(m in learners) for m, p in leader.replication.items()} if leader else {}
        return RaftStatus(
            role=core.role.role,
            term=core.term,
            vote=core.hard_state.vote,
            leader=core.leader,
            last_index=core.log.last,
            persisted_index=core.durability.index,
            commit_index=core.commit_index,
            applied_index=core.applied_index,
            membership=core.membership,
            membership_index=core.memberships.current_index,
            suspect=core.suspect,
            transfer_target=leader.transfer_target if leader else None,
            peers=peers,
        )

    @property
    def terms_refused(self) -> int:
        """Messages dropped since the start for a term that no honest cluster can have come to: somebody forges them."""
        return self._core.terms_refused

    # cheap views, for the host's every round
    @property
    def term(self) -> Term:
        return self._core.term

    @property
    def role(self) -> Role:
        return self._core.role.role

    @property
    def leader(self) -> ReplicaId | None:
        return self._core.leader

    @property
    def last_index(self) -> LogIndex:
        return self._core.log.last

    @property
    def persisted_index(self) -> LogIndex:
        """The end of what is known to be durable of the log as it is now."""
        return self._core.durability.index

    @property
    def commit_index(self) -> LogIndex:
        return self._core.commit_index

    @property
    def heard_commit(self) -> LogIndex | None:
        """The highest commit index that a leader has named to this process; None: none has. Not capped by this log."""
        return self._core.heard_commit

    @property
    def applied_index(self) -> LogIndex:
        return self._core.applied_index

    @property
    def membership(self) -> Membership:
        return self._core.membership

    @property
    def suspect(self) -> bool:
        return self._core.suspect

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of the entry at `index`. None: not in the log (any more)."""
        return self._core.log.term_at(index)

    def membership_at(self, index: LogIndex) -> Membership | None:
        """The configuration in force at `index`, applied or later. None: it is not known any more."""
        return self._core.memberships.at(index)

    def match_index(self, member: ReplicaId) -> LogIndex:
        """Leader only: what `member` is known to hold durably (for itself: its own persisted index)."""
        return self._leader().match_index(member)

    def member_suspect(self, member: ReplicaId) -> bool:
        """Leader only: whether `member` called itself suspect, or has not answered since it restarted."""
        progress = self._leader().replication.get(member)
        return progress is not None and progress.suspect

    def can_serve(self) -> bool:
        """Leader, and its own term's no-op is committed AND applied."""
        role = self._core.role
        return isinstance(role, Leader) and role.can_serve
