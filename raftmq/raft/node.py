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
# (Interface only: the implementation is being written against this.)

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from raftmq.ids import LogIndex, ReplicaId, Term, Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.messages import AppendEntries, AppendOrder, Message
from raftmq.raft.ready import Ready
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
    ) -> None: ...

    # -- inputs ------------------------------------------------------------------------------------------------
    def tick(self, now: Tick) -> None:
        """Time has passed. May be called at any time; needs to be called when ``deadline()`` is reached."""

    def step(self, message: Message, now: Tick) -> None:
        """Take a message from another replica. Never raises for anything that a peer can send."""

    def propose(self, kind: EntryKind, payload: object, size: int) -> LogIndex:
        """Append an entry as leader; the entry comes out in the next Ready with this index and ``self.term``.

        Raises NotLeader (also while leadership is being transferred away) or TooMuchUncommitted; nothing changed then.
        """

    def change_membership(self, target: Membership) -> LogIndex:
        """Propose a new configuration. Needs a committed entry of this term and no change under way.

        More than one voter changed, or any voter replaced: goes by joint consensus, and the leader proposes the
        second half by itself when the first commits. Raises NotLeader, MembershipRefused.
        """

    def transfer_leadership(self, target: ReplicaId, now: Tick) -> None:
        """Stop proposals, bring `target` up to date, tell it to campaign; give up after one election timeout.

        Raises NotLeader, TransferRefused (unknown, learner, suspect or self).
        """

    def read_index(self, request_id: int, now: Tick) -> None:
        """Ask for a linearizable read; answered in ``Ready.reads`` or ``Ready.reads_failed``. Raises NotLeader."""

    def campaign(self, now: Tick) -> None:
        """Start an election without waiting for the timer (through pre-vote)."""

    def leader_lost(self, now: Tick) -> None:
        """The host has proof that the leader's process is gone: forget it and draw a short timer."""

    def member_restarted(self, member: ReplicaId) -> None:
        """The host saw a new boot count (or a broken stream) of `member`: its progress goes back to probe.

        After a new boot what it acknowledged before stays counted (it was durable), but is probed again.
        """

    def persisted(self, term: Term, index: LogIndex) -> None:
        """The batches of every Ready up to the one with this mark are durable. Late or stale marks are ignored."""

    def applied(self, index: LogIndex) -> None: ...

    def snapshot_installed(self, meta: SnapshotMeta) -> None:
        """The snapshot that a Ready ordered is durable in place of the log up to ``meta.index``."""

    def compact(self, start_index: LogIndex) -> None:
        """The host no longer has entries below ``start_index`` (which must not exceed applied + 1)."""

    # -- outputs -----------------------------------------------------------------------------------------------
    def has_ready(self) -> bool: ...
    def ready(self) -> Ready: ...
    def append_targets(self) -> Iterable[ReplicaId]: ...
    def next_append(self, target: ReplicaId) -> AppendOrder | None: ...
    def sent(self, order: AppendOrder, entries: tuple[Entry, ...]) -> AppendEntries: ...
    def deadline(self) -> Tick | None: ...
    def status(self) -> RaftStatus: ...

    # cheap views, for the host's every round
    @property
    def term(self) -> Term: ...
    @property
    def role(self) -> Role: ...
    @property
    def leader(self) -> ReplicaId | None: ...
    @property
    def last_index(self) -> LogIndex: ...
    @property
    def commit_index(self) -> LogIndex: ...
    @property
    def membership(self) -> Membership: ...
    @property
    def suspect(self) -> bool: ...
    def term_at(self, index: LogIndex) -> Term | None: ...
    def match_index(self, member: ReplicaId) -> LogIndex:
        """Leader only: what `member` is known to hold durably (for itself: its own persisted index)."""

    def member_suspect(self, member: ReplicaId) -> bool: ...
    def can_serve(self) -> bool:
        """Leader, and its own term's no-op is committed AND applied."""
