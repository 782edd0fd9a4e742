"""A small deterministic cluster: real ``RaftNode``s, disks that can lose what was not synced, a network in a list.

Nothing happens by itself. A test moves time (``tick``), disks (``sync``) and messages (``deliver``), or lets
``run`` do all three in a fixed order. ``Host`` does what the caller's contract of ``RaftNode`` asks, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from random import Random

from raftmq.ids import LogIndex, NodeId, ReplicaId, StoreId, Term, Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.messages import AppendEntries, AppendOrder, AppendReply, Message, RequestVote, VoteReply
from raftmq.raft.node import RaftNode
from raftmq.raft.ready import ReadGrant, Ready
from raftmq.raft.types import Entry, EntryKind, HardState, Membership, Restored, Role, SnapshotMeta

ELECTION = 1000
HEARTBEAT = 100


def replica(number: int) -> ReplicaId:
    return ReplicaId(NodeId(number), StoreId(number))


def members(*voters: int, outgoing: Iterable[int] = (), learners: Iterable[int] = ()) -> Membership:
    return Membership(
        frozenset(map(replica, voters)), frozenset(map(replica, outgoing)), frozenset(map(replica, learners))
    )


@dataclass
class Disk:
    """What a replica has written. The log, hard state and configurations; and how far it has applied."""

    memberships: list[tuple[LogIndex, Membership]]
    hard_state: HardState = field(default_factory=HardState)
    start: LogIndex = LogIndex(1)
    start_term: Term = Term(0)
    entries: list[Entry] = field(default_factory=list)
    applied: LogIndex = LogIndex(0)
    suspect: bool = False

    @property
    def last(self) -> LogIndex:
        return LogIndex(self.start + len(self.entries) - 1)

    def entry(self, index: int) -> Entry:
        assert self.start <= index <= self.last, f"no entry {index} in {self.start}..{self.last}"
        return self.entries[index - self.start]

    def term_at(self, index: int) -> Term | None:
        if index == self.start - 1:
            return self.start_term
        return self.entry(index).term if self.start <= index <= self.last else None

    def copy(self) -> Disk:
        return replace(self, memberships=list(self.memberships), entries=list(self.entries))

    def write(self, ready: Ready) -> None:
        """One atomic batch."""
        if ready.hard_state is not None:
            assert ready.hard_state.term >= self.hard_state.term, "the term falls"
            if ready.hard_state.term == self.hard_state.term:
                assert self.hard_state.vote in (None, ready.hard_state.vote), "a vote is taken back"
            self.hard_state = ready.hard_state
        if ready.truncate_from is not None:
            del self.entries[ready.truncate_from - self.start :]
            self.memberships = [pair for pair in self.memberships if pair[0] < ready.truncate_from]
        for entry in ready.entries:
            assert entry.index == self.last + 1, f"a hole before {entry.index}"
            self.entries.append(entry)
            if entry.membership is not None:
                self.memberships.append((entry.index, entry.membership))
        self.suspect = ready.suspect

    def install(self, meta: SnapshotMeta) -> None:
        self.start, self.start_term, self.entries = LogIndex(meta.index + 1), meta.term, []
        self.memberships = [(meta.index, meta.membership)]
        self.applied = meta.index

    def compact(self, start: LogIndex) -> None:
        term = self.term_at(start - 1)
        assert term is not None
        del self.entries[: start - self.start]
        self.start, self.start_term = start, term

    def restored(self) -> Restored:
        runs = [(term, next(run).index) for term, run in groupby(self.entries, key=lambda entry: entry.term)]
        commit = max(self.applied, LogIndex(self.start - 1))
        newest = max(n for n, (index, _) in enumerate(self.memberships) if n == 0 or index <= commit)
        return Restored(
            hard_state=self.hard_state,
            memberships=tuple(self.memberships[newest:]),
            start_index=self.start,
            start_term=self.start_term,
            last_index=self.last,
            runs=tuple(runs),
            commit_index=commit,
            applied_index=commit,
            suspect=self.suspect,
        )


@dataclass
class Batch:
    """A Ready that is written, and waits for its sync."""

    ready: Ready
    applied: LogIndex

    @property
    def matters(self) -> bool:
        ready = self.ready
        return ready.hard_state is not None or ready.truncate_from is not None or bool(ready.entries)


class Host:
    """One replica's host: its disk (synced, and as written), and what it is asked to send."""

    def __init__(
        self,
        me: ReplicaId,
        disk: Disk,
        send: Callable[[Message], None],
        config: RaftConfig,
        rng: Random,
        now: Tick = Tick(0),
        contact: Callable[[ReplicaId], Tick] | None = None,
    ) -> None:
        self.me = me
        self.synced = disk
        self.config = config
        self.send = send
        self.rng = rng
        self.contact = contact
        self.marks_of_empty_readies = True
        self.on_commit: Callable[[Host, Entry], None] = lambda host, entry: None
        self.start(now)

    def start(self, now: Tick) -> None:
        """Start the process on what was synced."""
        self.written = self.synced.copy()
        self.unsynced: list[Batch] = []
        self.reads: list[ReadGrant] = []
        self.reads_failed: list[int] = []
        self.ordered: SnapshotMeta | None = None
        self.readies: list[Ready] = []
        self.node = RaftNode(self.config, self.me, self.written.restored(), self.rng, now, self.contact)

    def crash(self, now: Tick) -> None:
        self.start(now)

    def pump(self) -> None:
        """Take every Ready: write it, send what may leave at once, fill the append orders, apply."""
        while self.node.has_ready():
            ready = self.node.ready()
            self.readies.append(ready)
            for message in ready.send_now:
                self.send(message)
            if ready.snapshot is not None:
                self.ordered = ready.snapshot
            self.reads += ready.reads
            self.reads_failed += ready.reads_failed
            self.written.write(ready)
            self.unsynced.append(Batch(ready, self.written.applied))
            self._append()
            self._apply(ready.committed_to)

    def _append(self) -> None:
        for target in self.node.append_targets():
            while (order := self.node.next_append(target)) is not None:
                self.send(self.node.sent(order, self._fill(order)))

    def _fill(self, order: AppendOrder) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        size = 0
        for index in range(order.first, order.last + 1):
            entry = self.written.entry(index)
            run_term = max((first, term) for term, first in order.runs if first <= index)[1]
            assert entry.term == run_term, "the order does not fit the log"
            size += entry.size
            if entries and size > order.max_bytes:
                break
            entries.append(entry)
        return tuple(entries)

    def _apply(self, to: LogIndex) -> None:
        for index in range(self.written.applied + 1, to + 1):
            self.on_commit(self, self.written.entry(index))
        if to > self.written.applied:
            self.written.applied = to
            self.node.applied(to)

    def sync(self, count: int | None = None) -> None:
        """Make the oldest `count` batches durable (default: all), and do what waited for it."""
        batches, self.unsynced = self.unsynced[:count], self.unsynced[count:] if count is not None else []
        for batch in batches:
            self.synced.write(batch.ready)
            self.synced.applied = max(self.synced.applied, min(batch.applied, self.synced.last))
            for message in batch.ready.send_after_persist:
                self.send(message)
            if batch.matters or self.marks_of_empty_readies:
                self.node.persisted(batch.ready.term, batch.ready.persist_mark)
        self.pump()

    def compact(self, start: int) -> None:
        """Drop what lies before `start`; everything written is synced first."""
        self.sync()
        if self.written.start < start <= self.written.applied + 1:
            self.synced.applied = self.written.applied
            for disk in (self.written, self.synced):
                disk.compact(LogIndex(start))
                newest = max(n for n, (index, _) in enumerate(disk.memberships) if n == 0 or index < start)
                del disk.memberships[:newest]
            self.node.compact(LogIndex(start))

    def install(self, meta: SnapshotMeta) -> None:
        """The ordered snapshot has arrived: put it in place of the log, if it is still wanted."""
        self.sync()
        self.ordered = None
        if self.node.begin_install(meta):
            self.written.install(meta)
            self.synced.install(meta)
        self.node.snapshot_installed(meta)
        self.pump()


class Cluster:
    """Hosts, a clock, and messages in flight in the order in which they were sent."""

    def __init__(
        self,
        voters: int | Membership,
        config: RaftConfig | None = None,
        seed: int = 1,
        spares: Iterable[int] = (),
    ) -> None:
        membership = members(*range(1, voters + 1)) if isinstance(voters, int) else voters
        self.config = config or RaftConfig(ELECTION, HEARTBEAT)
        self.seed = seed
        self.now = Tick(0)
        self.network: list[Message] = []
        self.hosts: dict[int, Host] = {}
        for member in sorted(membership.all):
            self.add(member.node, membership)
        for number in spares:
            self.add(number, Membership(frozenset()))

    def add(self, number: int, membership: Membership, disk: Disk | None = None) -> Host:
        rng = Random(f"{self.seed}/{number}")
        disk = disk or Disk([(LogIndex(0), membership)])
        host = Host(replica(number), disk, self.network.append, self.config, rng, self.now)
        self.hosts[number] = host
        return host

    def __getitem__(self, number: int) -> RaftNode:
        return self.hosts[number].node

    def __iter__(self) -> Iterator[RaftNode]:
        return (host.node for host in self.hosts.values())

    @property
    def leader(self) -> int | None:
        """The leader of the highest term, if there is one."""
        leading = [(host.node.term, number) for number, host in self.hosts.items() if host.node.role is Role.LEADER]
        return max(leading)[1] if leading else None

    # -- steps ---------------------------------------------------------------------------------------------------

    def settle(self, sync: bool = True) -> None:
        """Let every host do its work, without moving messages or time."""
        for host in self.hosts.values():
            host.pump()
            if sync:
                host.sync()

    def tick(self, by: int) -> None:
        self.now = Tick(self.now + by)
        for host in self.hosts.values():
            host.node.tick(self.now)
        self.settle()

    def deliver(self, choose: Callable[[Message], bool] = lambda message: True, sync: bool = True) -> int:
        """Deliver every message that is in flight now and chosen; return how many."""
        chosen = [message for message in self.network if choose(message)]
        self.network[:] = [message for message in self.network if not choose(message)]
        for message in chosen:
            host = self.hosts.get(message.target.node)
            if host is not None:
                host.node.step(message, self.now)
                host.pump()
                if sync:
                    host.sync()
        return len(chosen)

    def drop(self, choose: Callable[[Message], bool] = lambda message: True) -> list[Message]:
        dropped = [message for message in self.network if choose(message)]
        self.network[:] = [message for message in self.network if not choose(message)]
        return dropped

    def exchange(self, cut: Iterable[int] = (), rounds: int = 50) -> None:
        """Deliver until nothing is in flight. Messages from and to `cut` are lost."""
        gone = set(cut)
        for _ in range(rounds):
            self.drop(lambda m: m.source.node in gone or m.target.node in gone)
            if not self.deliver():
                return
        raise AssertionError(f"still talking after {rounds} rounds: {self.network[:3]}")

    def run(self, ticks: int, cut: Iterable[int] = (), step: int = 50) -> None:
        for _ in range(ticks // step):
            self.tick(step)
            self.exchange(cut)

    # -- shorthands ----------------------------------------------------------------------------------------------

    def elect(self, number: int) -> RaftNode:
        """Make `number` the leader, by forcing an election when nobody stands in the way."""
        node = self[number]
        self.now = Tick(self.now + 2 * ELECTION)
        for other in self.hosts.values():
            other.node.leader_lost(self.now)
        node.campaign(self.now)
        self.settle()
        self.exchange()
        assert node.role is Role.LEADER, f"{number} is {node.role}"
        return node

    def elect_by(self, number: int, *voters: int) -> None:
        """Make `number` the leader by the votes of `voters`, which alone are reached; what it says first as the
        leader is still in flight."""
        self.drop()
        self.now = Tick(self.now + 2 * ELECTION)
        for member in (number, *voters):
            self[member].leader_lost(self.now)
        for _ in ("learns the newest term from refusals", "wins"):
            self[number].campaign(self.now)
            self.settle()
            for _ in ("pre-votes", "answers", "votes", "answers"):
                self.drop(lambda m: not {m.source.node, m.target.node} <= {number, *voters})
                self.deliver()
            if self[number].role is Role.LEADER:
                return
        raise AssertionError(f"{number} was not elected")

    def propose(self, payload: object, number: int | None = None, size: int = 1) -> LogIndex:
        at = number if number is not None else self.leader
        assert at is not None
        index = self[at].propose(EntryKind.DATA, payload, size)
        self.settle()
        return index

    def log(self, number: int) -> list[tuple[int, int]]:
        """(index, term) of every entry that `number` has written."""
        return [(entry.index, entry.term) for entry in self.hosts[number].written.entries]


class Solo:
    """One replica alone with a list of what it sends: for tests that assert on exact output.

    `terms` is its log: the term of entry 1, 2, ... Peers exist only as senders of messages.
    """

    def __init__(
        self,
        terms: Iterable[int] = (),
        term: int | None = None,
        voters: int | Membership = 3,
        me: int = 1,
        vote: int | None = None,
        commit: int = 0,
        config: RaftConfig | None = None,
        suspect: bool = False,
        seed: int = 1,
    ) -> None:
        log = [Entry(LogIndex(n), Term(t), EntryKind.DATA, f"{n}.{t}", 1) for n, t in enumerate(terms, 1)]
        membership = members(*range(1, voters + 1)) if isinstance(voters, int) else voters
        in_term = term if term is not None else (log[-1].term if log else 0)
        disk = Disk(
            [(LogIndex(0), membership)],
            HardState(Term(in_term), replica(vote) if vote is not None else None),
            entries=log,
            applied=LogIndex(commit),
            suspect=suspect,
        )
        self.now = Tick(0)
        self.out: list[Message] = []
        self.host = Host(replica(me), disk, self.out.append, config or RaftConfig(ELECTION, HEARTBEAT), Random(seed))
        self.me = replica(me)

    @property
    def node(self) -> RaftNode:
        return self.host.node

    def take(self) -> list[Message]:
        """Do all work, and return what was sent."""
        self.host.pump()
        self.host.sync()
        sent, self.out[:] = list(self.out), []
        return sent

    def step(self, message: Message) -> list[Message]:
        self.node.step(message, self.now)
        return self.take()

    def tick(self, by: int) -> list[Message]:
        self.now = Tick(self.now + by)
        self.node.tick(self.now)
        return self.take()

    def log(self) -> list[int]:
        """The term of every entry."""
        return [entry.term for entry in self.host.written.entries]

    @staticmethod
    def appends_up_to(leader: Host, follower: Host, last: int) -> list[Message]:
        """What `leader` may send `follower` when a frame ends after entry `last`."""
        log, begin = leader.written, follower.written.last
        entries = tuple(log.entry(index) for index in range(begin + 1, last + 1))
        before = log.term_at(begin)
        assert before is not None
        term, commit = leader.node.term, leader.node.commit_index
        return [AppendEntries(leader.me, follower.me, term, begin, before, entries, commit)]

    # -- messages from peers -------------------------------------------------------------------------------------

    def append(
        self, source: int, term: int, prev: tuple[int, int] = (0, 0), terms: Iterable[int] = (), commit: int = 0
    ) -> list[Message]:
        """An ``AppendEntries`` from `source` with entries of `terms` after `prev` = (index, term)."""
        entries = tuple(
            Entry(LogIndex(n), Term(t), EntryKind.DATA, f"{n}.{t}", 1) for n, t in enumerate(terms, prev[0] + 1)
        )
        message = AppendEntries(
            replica(source), self.me, Term(term), LogIndex(prev[0]), Term(prev[1]), entries, LogIndex(commit)
        )
        return self.step(message)

    def ask(
        self, source: int, term: int, last: tuple[int, int] = (0, 0), pre_vote: bool = False, transfer: bool = False
    ) -> list[Message]:
        """A ``RequestVote`` from `source`, whose log ends with `last` = (index, term)."""
        return self.step(
            RequestVote(replica(source), self.me, Term(term), LogIndex(last[0]), Term(last[1]), pre_vote, transfer)
        )

    def voted(self, source: int, granted: bool = True, pre_vote: bool = False) -> list[Message]:
        """An answer to this replica's present request."""
        term = self.node.term + (1 if pre_vote and granted else 0)
        return self.step(VoteReply(replica(source), self.me, Term(term), granted, pre_vote))

    def acked(self, source: int, match: int, term: int | None = None) -> list[Message]:
        """A follower's good answer."""
        at = Term(term if term is not None else self.node.term)
        return self.step(AppendReply(replica(source), self.me, at, LogIndex(match)))

    def lead(self, *supporters: int) -> list[Message]:
        """Win an election with the votes of `supporters`; return what the new leader sends first."""
        self.now = Tick(self.now + 2 * ELECTION)
        self.node.campaign(self.now)
        self.take()
        for peer in supporters:
            self.voted(peer, pre_vote=True)
        sent: list[Message] = []
        for peer in supporters:
            sent += self.voted(peer)
        assert self.node.role is Role.LEADER, f"not elected: {self.node.role}"
        return sent


def vote_reply(source: int, target: int, term: int, granted: bool, pre_vote: bool = False) -> VoteReply:
    return VoteReply(replica(source), replica(target), Term(term), granted, pre_vote)


def append_reply(source: int, target: int, term: int, match: int, commit: int = 0) -> AppendReply:
    return AppendReply(replica(source), replica(target), Term(term), LogIndex(match), commit_index=LogIndex(commit))


def rejection(
    source: int, target: int, term: int, prev: int, hint: int, hint_term: int, commit: int = 0
) -> AppendReply:
    return AppendReply(
        replica(source), replica(target), Term(term), LogIndex(hint), True, LogIndex(prev), Term(hint_term),
        commit_index=LogIndex(commit),
    )  # fmt: skip
