"""What one replica is made of, whatever its role: term, vote, log, commit, configuration, and its outbox.

Roles decide, and change this state through the methods below, each of which keeps one invariant:

    set_term       the term never falls, and a new term comes without a vote
    append         entries are contiguous; a configuration is in force from here on
    truncate       never at or below the commit index; configurations are rolled back
    commit_to      the commit index never falls, never passes the end of the log

The outbox is what the next ``Ready`` is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

from raftmq.ids import LogIndex, ReplicaId, Term, Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.durability import Durability
from raftmq.raft.log_terms import LogTerms
from raftmq.raft.membership import MembershipLog
from raftmq.raft.messages import AppendReply, Message
from raftmq.raft.ready import ReadGrant
from raftmq.raft.types import Entry, HardState, Membership, Restored, SnapshotMeta

if TYPE_CHECKING:
    from raftmq.raft.roles import RoleBehaviour, Roles

LONG_AGO = Tick(-(2**62))


@dataclass(slots=True)
class Outbox:
    """Work that gathers until the host takes it."""

    entries: list[Entry] = field(default_factory=list)
    truncate_from: LogIndex | None = None
    snapshot: SnapshotMeta | None = None
    send_now: list[Message] = field(default_factory=list)
    send_after_persist: list[Message] = field(default_factory=list)
    reads: list[ReadGrant] = field(default_factory=list)
    reads_failed: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.entries
            or self.truncate_from is not None
            or self.snapshot is not None
            or self.send_now
            or self.send_after_persist
            or self.reads
            or self.reads_failed
        )


HURRIED_TRIES = 8
"""Elections that follow each other quickly after the leader was lost for certain."""


class Core:
    """The state that roles share. Its methods are for roles and the facade only."""

    def __init__(
        self,
        config: RaftConfig,
        me: ReplicaId,
        restored: Restored,
        rng: Random,
        now: Tick,
        last_contact: Callable[[ReplicaId], Tick] | None,
    ) -> None:
        self.config = config
        self.me = me
        self.now = now
        self.rng = rng
        self.hard_state = restored.hard_state
        self.log = LogTerms(restored.start_index, restored.start_term, restored.last_index, restored.runs)
        self.memberships = MembershipLog(restored.memberships)
        # Invariant: applied <= commit <= log.last, and neither ever falls.
        self.commit_index = restored.commit_index
        self.applied_index = restored.applied_index
        assert restored.applied_index <= restored.commit_index <= restored.last_index
        assert restored.start_index <= restored.applied_index + 1
        self.durability = Durability(restored.hard_state.term, restored.last_index)
        self.suspect = restored.suspect
        self.terms_refused = 0
        """Messages dropped for a term that no honest cluster can have come to."""
        self.heard_commit: LogIndex | None = None
        """The highest commit index that a leader has named to this process, whether the log reaches so far or not."""
        self.leader: ReplicaId | None = None
        self.snapshot_ordered_in: tuple[Term, int] = (Term(0), 0)
        """The term of the last order to install a snapshot, and its admission."""
        self.outbox = Outbox()
        self._handed_out = restored.last_index  # the end of the log as the host knows it
        self._last_contact = last_contact
        self._leader_seen = LONG_AGO
        self._timer_start = now
        self._timer_length = 0
        self._hurried = 0
        """How many more timers are drawn short: the leader is known to be gone, and no other has been heard yet."""
        self.draw_timer()
        self.role: RoleBehaviour
        self.roles: Roles

    # -- identity ------------------------------------------------------------------------------------------------

    @property
    def term(self) -> Term:
        return self.hard_state.term

    @property
    def membership(self) -> Membership:
        return self.memberships.current

    @property
    def may_campaign(self) -> bool:
        """A voter, with a disk that can be believed.

        Also one that its newest configuration removes, as long as that is not known to be committed: nobody but
        it may hold that entry, and no other log may then be as up to date (dissertation, section 4.2.2). It does
        not count itself, because votes are counted by the newest configuration.
        """
        in_doubt = self.memberships.since(self.commit_index)
        return not self.suspect and any(self.me in membership.all_voters for membership in in_doubt)

    def others(self, members: frozenset[ReplicaId]) -> list[ReplicaId]:
        """`members` without this replica, in an order that is the same everywhere."""
        return sorted(members - {self.me})

    # -- term and vote -------------------------------------------------------------------------------------------

    def set_term(self, term: Term, vote: ReplicaId | None = None) -> None:
        """Enter a higher term. What was about to be answered in an older one is of no use to anybody now."""
        assert term > self.term, f"term would fall from {self.term} to {term}"
        self.merge_leader_contact()  # the timer runs from there, and who led is forgotten now
        self.hard_state = HardState(term, vote)
        self.leader = None
        replies = self.outbox.send_after_persist
        replies[:] = [m for m in replies if not (isinstance(m, AppendReply) and m.term < term)]

    def vote_for(self, candidate: ReplicaId) -> None:
        assert self.hard_state.vote in (None, candidate), "one vote a term"
        self.hard_state = HardState(self.term, candidate)

    # -- log -----------------------------------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        self.log.append(entry.index, entry.term)
        self.outbox.entries.append(entry)
        if entry.membership is not None:
            self.memberships.append(entry.index, entry.membership)
            self.role.membership_changed()

    def truncate(self, index: LogIndex) -> None:
        """Remove what conflicts with the leader's log. Acknowledged data would vanish if that were committed."""
        assert index > self.commit_index, f"conflict at {index}, but {self.commit_index} is committed"
        self.log.truncate(index)
        self.durability.truncated(index)
        self.outbox.entries = [entry for entry in self.outbox.entries if entry.index < index]
        if index <= self._handed_out:
            self.outbox.truncate_from = index
            self._handed_out = LogIndex(index - 1)
        if self.memberships.truncate(index):
            self.role.membership_changed()

    def take_entries(self) -> tuple[Entry, ...]:
        """What is to be appended to the host's log now."""
        entries, self.outbox.entries = tuple(self.outbox.entries), []
        self._handed_out = self.log.last
        return entries

    def commit_to(self, index: LogIndex) -> None:
        assert self.commit_index <= index <= self.log.last, f"commit {self.commit_index} -> {index}"
        self.commit_index = index

    def applied(self, index: LogIndex) -> None:
        assert self.applied_index <= index <= self.commit_index, f"applied {index} of {self.commit_index}"
        self.applied_index = index
        self.memberships.drop_below(index)

    def completed(self, meta: SnapshotMeta) -> SnapshotMeta:
        """`meta` with the configuration in force, where its sender did not know it.

        A replica that was created as a newcomer, without one, has read the whole log since: if that holds no
        configuration up to ``meta.index``, the one that the group was created with is still in force there. Whoever
        was there at the time knows it; other newcomers learn the next one from the log, like the sender did.
        """
        return meta if meta.membership.voters else replace(meta, membership=self.memberships.oldest)

    def install(self, meta: SnapshotMeta, log: LogTerms | None) -> bool:
        """A snapshot took the place of the log up to ``meta.index``; `log`: the entries that came with it.
        Returns False when it came too late."""
        if not self.wants_snapshot(meta):
            return False
        meta = self.completed(meta)
        assert meta.term <= self.term, f"entries of term {meta.term} in term {self.term}"
        if log is None:
            self.log.reset(meta.index, meta.term)
        else:
            assert (log.last, log.last_term) == (meta.index, meta.term), "the log must end where the snapshot does"
            self.log = log
        self.durability.truncated(LogIndex(meta.index + 1))
        self.durability.snapshot(meta.index)
        self.outbox.entries, self.outbox.truncate_from = [], None
        self._handed_out = meta.index
        self.memberships.reset(meta.index, meta.membership)
        self.commit_index = self.applied_index = meta.index
        self.role.membership_changed()
        return True

    def wants_snapshot(self, meta: SnapshotMeta) -> bool:
        """Whether installing would lead forward. Not when the log holds its last entry: committing suffices."""
        return meta.index > self.commit_index and not self.log.matches(meta.index, meta.term)

    # -- time and leader -----------------------------------------------------------------------------------------

    def advance_clock(self, now: Tick) -> None:
        self.now = max(self.now, now)

    def draw_timer(self, length: int | None = None) -> None:
        """Start the election timer anew, with a new random length (Raft, section 5.2)."""
        timeout = self.config.election_timeout
        if self._hurried:
            self._hurried -= 1
            timeout = self.config.lost_leader_timeout
        self._timer_start = self.now
        self._timer_length = timeout + self.rng.randrange(timeout) if length is None else length

    def hurry(self) -> None:
        """The leader is gone for certain: ask for votes soon, and soon again if an election comes to nothing.

        A lost or split election would otherwise cost a full timeout, although nobody is waited for. After some tries
        the usual pace is better: then it is not bad luck that keeps the group from electing.
        """
        self._hurried = HURRIED_TRIES
        self.draw_timer(self.rng.randrange(self.config.lost_leader_timeout + 1))

    @property
    def election_deadline(self) -> Tick:
        return Tick(self._timer_start + self._timer_length)

    @property
    def is_patient(self) -> bool:
        """The timer that runs is none of the short ones."""
        return self._timer_length >= self.config.election_timeout

    def heard_leader(self, leader: ReplicaId) -> None:
        """A message of the present term's leader arrived: the election timer starts over."""
        self.leader = leader
        self._hurried = 0
        self._leader_seen = self._timer_start = self.now
        if self._timer_length < self.config.election_timeout:
            self.draw_timer()

    def forget_leader(self) -> None:
        self.leader = None
        self._leader_seen = LONG_AGO

    def merge_leader_contact(self) -> Tick:
        """When the leader was last known alive, by what the core saw and what the host knows."""
        if self.leader is None:
            return LONG_AGO
        self._leader_seen = max(self._leader_seen, self.host_contact(self.leader))
        self._timer_start = max(self._timer_start, self._leader_seen)
        return self._leader_seen

    def host_contact(self, member: ReplicaId) -> Tick:
        if self._last_contact is None:
            return LONG_AGO
        return min(self._last_contact(member), self.now)

    # -- outbox --------------------------------------------------------------------------------------------------

    def take_outbox(self) -> Outbox:
        outbox, self.outbox = self.outbox, Outbox()
        return outbox

    def send_now(self, message: Message) -> None:
        self.outbox.send_now.append(message)

    def send_after_persist(self, message: Message) -> None:
        self.outbox.send_after_persist.append(message)
