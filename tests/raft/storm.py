"""A random storm over a small cluster, and what must hold at every step of it.

One seed decides everything: which message comes next (or twice, or never), whose disk syncs, who crashes and
loses what was not synced, which links are cut, what is proposed, who is to lead, who is to be a member.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from raftmq.ids import LogIndex, ReplicaId, Term, Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.core import LONG_AGO
from raftmq.raft.errors import RaftRefusal
from raftmq.raft.messages import AppendReply, Message, VoteReply
from raftmq.raft.quorum import quorum_value
from raftmq.raft.types import Entry, EntryKind, Membership, Role

from .harness import ELECTION, HEARTBEAT, Cluster, Host, members, replica


class Invariants:
    """Global knowledge that no replica has, kept up to date step by step (Raft, figure 3, and more)."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.leaders: dict[Term, int] = {}
        self.entries: dict[tuple[int, int], tuple[object, int | None]] = {}
        self.committed: dict[int, tuple[Term, object, Term]] = {}
        self.votes: dict[tuple[int, Term], ReplicaId] = {}
        self.newest_commit = LogIndex(0)
        self.reads: dict[int, LogIndex] = {}
        self.reads_granted = 0
        self._seen: dict[int, tuple[Term, Role, LogIndex, Term]] = {}
        self._readies: dict[int, int] = {}

    def on_commit(self, host: Host, entry: Entry) -> None:
        """State machine safety: nobody applies another entry at an index."""
        known = self.committed.setdefault(entry.index, (entry.term, entry.payload, host.node.term))
        assert known[:2] == (entry.term, entry.payload), f"{host.me} applies {entry}, others {known}"
        self.newest_commit = max(self.newest_commit, entry.index)

    def on_send(self, host: Host, message: Message) -> None:
        """Nothing is promised that a power cut could take back."""
        disk = host.synced
        if isinstance(message, VoteReply) and message.granted and not message.pre_vote:
            assert disk.hard_state.term >= message.term, "vote sent before it was synced"
            if disk.hard_state.term == message.term:
                assert disk.hard_state.vote == message.target, "vote sent before it was synced"
        if isinstance(message, AppendReply) and not message.rejected and message.term == disk.hard_state.term:
            assert message.match_index <= disk.last, "entries acknowledged before they were synced"

    def check(self, number: int) -> None:
        """Everything that a step on host `number` can have broken."""
        host = self.cluster.hosts[number]
        self._check_terms_and_votes(number, host)
        self._check_log(number, host)
        if host.node.role is Role.LEADER:
            self._check_leader(number, host)
        node = host.node
        self._seen[number] = (node.term, node.role, node.commit_index, host.synced.hard_state.term)

    def crashed(self, number: int) -> None:
        self._seen.pop(number, None)
        self._readies.pop(number, None)

    def _check_terms_and_votes(self, number: int, host: Host) -> None:
        node, state = host.node, host.synced.hard_state
        if state.vote is not None:
            vote = self.votes.setdefault((number, state.term), state.vote)
            assert vote == state.vote, f"{number} voted for {vote} and {state.vote} in term {state.term}"
        term, _, commit, synced_term = self._seen.get(number, (Term(0), Role.FOLLOWER, LogIndex(0), Term(0)))
        assert node.term >= term, "the term fell"
        assert state.term >= synced_term, "the durable term fell"
        assert node.commit_index >= commit, "the commit index fell"
        assert host.written.applied <= node.commit_index <= node.last_index
        persisted = node.persisted_index
        assert host.synced.term_at(persisted) == node.term_at(persisted), f"{persisted} is not durable"

    def _check_log(self, number: int, host: Host) -> None:
        """Log matching: the same index and term means the same entry, and the same one before it."""
        for ready in host.readies[self._readies.get(number, 0) :]:
            if ready.role is Role.LEADER:
                assert ready.truncate_from is None or ready.entries[0].term == ready.term
            for entry in ready.entries:
                before = entry.index - 1, host.written.term_at(entry.index - 1)
                if host.written.term_at(entry.index) != entry.term or before[1] is None:
                    continue
                known = self.entries.setdefault((entry.index, entry.term), (entry.payload, before[1]))
                assert known == (entry.payload, before[1]), f"two entries at {entry.index} in {entry.term}"
        self._readies[number] = len(host.readies)

    def _check_leader(self, number: int, host: Host) -> None:
        node = host.node
        assert self.leaders.setdefault(node.term, number) == number, f"two leaders in term {node.term}"
        term, role, commit, _ = self._seen.get(number, (Term(0), Role.FOLLOWER, LogIndex(0), Term(0)))
        if (term, role) != (node.term, Role.LEADER):
            for index, (entry_term, _, commit_term) in self.committed.items():
                if commit_term < node.term and index >= host.written.start:
                    assert host.written.term_at(index) == entry_term, f"leader {number} lacks {index}"
        elif node.commit_index > commit:
            self._check_commit(host, node.commit_index)

    def _check_commit(self, host: Host, index: LogIndex) -> None:
        """Committed means durable on a quorum, in the very version that the leader has."""
        term = host.node.term_at(index)

        def holds(member: ReplicaId) -> int:
            disk = self.cluster.hosts[member.node].synced
            return index if disk.start > index or disk.term_at(index) == term else 0

        assert quorum_value(host.node.membership, holds) == index, f"{index} is committed without a quorum"

    def read_granted(self, request_id: int, index: LogIndex) -> None:
        self.reads_granted += 1
        assert index >= self.reads[request_id], f"read {request_id} misses acknowledged entries"


class Storm:
    """``run`` is the storm, ``calm`` what must come after it."""

    def __init__(
        self, seed: int, voters: int, spares: int = 0, group_heartbeats: bool = True, small: bool = False
    ) -> None:
        self.seed = seed
        self.rng = Random(seed)
        window = {"max_inflight_messages": 2, "max_inflight_bytes": 40, "max_append_bytes": 20} if small else {}
        window["commit_news_delay"] = 10 if seed % 2 else 0
        config = RaftConfig(ELECTION, HEARTBEAT, group_heartbeats, **window)
        self.cluster = Cluster(voters, config, seed, range(voters + 1, voters + spares + 1))
        self.truth = Invariants(self.cluster)
        self.cut: set[tuple[int, int]] = set()
        self.down: set[int] = set()
        self.requests = 0
        self.installed = 0
        self.contacts: dict[tuple[int, int], tuple[Term, Tick]] = {}
        for number in self.cluster.hosts:
            self._hook(self.cluster.hosts[number])

    def _hook(self, host: Host) -> None:
        def send(message: Message) -> None:
            self.truth.on_send(host, message)
            self.cluster.network.append(message)

        host.send = send
        host.on_commit = self.truth.on_commit
        host.marks_of_empty_readies = self.seed % 2 == 0
        if not self.cluster.config.group_heartbeats:
            host.contact = lambda member: self._contact(int(host.me.node), int(member.node))
            host.start(self.cluster.now)

    def _contact(self, number: int, member: int) -> Tick:
        """What heartbeats from node to node would know, for the term that `number` is in now."""
        term, at = self.contacts.get((number, member), (Term(0), LONG_AGO))
        return at if term == self.cluster[number].term else LONG_AGO

    def _node_heartbeats(self) -> None:
        """Where both directions work and both replicas follow the same leader in the same term."""
        for a in self.up():
            for b in self.up():
                one, other = self.cluster[a], self.cluster[b]
                agreed = (one.term, one.leader) == (other.term, other.leader) and one.leader is not None
                if a != b and agreed and not {(a, b), (b, a)} & self.cut:
                    self.contacts[a, b] = (one.term, self.cluster.now)

    # -- the storm -----------------------------------------------------------------------------------------------

    def run(self, steps: int, changes: bool = False) -> None:
        actions: list[tuple[Callable[[], None], int]] = [
            (self.deliver, 60), (self.pass_time, 6), (self.sync, 16), (self.propose, 8), (self.read, 2),
            (self.crash, 1), (self.wake, 2), (self.cut_links, 1), (self.heal_links, 2), (self.transfer, 1),
            (self.compact, 1), (self.install, 3), (self.lose_leader, 1), (self.isolate_leader, 1),
        ]  # fmt: skip
        if changes:
            actions.append((self.change_membership, 2))
        doers, weights = zip(*actions, strict=True)
        for action in self.rng.choices(doers, weights, k=steps):
            action()

    def touch(self, number: int) -> None:
        host = self.cluster.hosts[number]
        host.pump()
        self.truth.check(number)
        for grant in host.reads:
            self.truth.read_granted(grant.request_id, grant.index)
        host.reads.clear()

    def up(self) -> list[int]:
        return [number for number in self.cluster.hosts if number not in self.down]

    def leaders(self) -> list[int]:
        return [number for number in self.up() if self.cluster[number].role is Role.LEADER]

    def deliver(self) -> None:
        network = self.cluster.network
        if not network:
            return
        position = self.rng.randrange(min(len(network), 12))
        message = network[position] if self.rng.random() < 0.05 else network.pop(position)
        link = (int(message.source.node), int(message.target.node))
        if link in self.cut or link[1] in self.down or self.rng.random() < 0.05:
            return
        self.cluster[link[1]].step(message, self.cluster.now)
        self.touch(link[1])

    def pass_time(self) -> None:
        self.cluster.now = Tick(self.cluster.now + self.rng.choice((10, 50, 100, 300)))
        self._node_heartbeats()
        for number in self.up():
            self.cluster[number].tick(self.cluster.now)
            self.touch(number)

    def sync(self) -> None:
        number = self.rng.choice(self.up() or [1])
        if number not in self.down:
            self.cluster.hosts[number].sync(self.rng.choice((1, None)))
            self.touch(number)

    def propose(self) -> None:
        for number in self.leaders():
            self.requests += 1
            self._try(number, self.cluster[number].propose, EntryKind.DATA, self.requests, 8)

    def read(self) -> None:
        for number in self.leaders():
            self.requests += 1
            self.truth.reads[self.requests] = self.truth.newest_commit
            self._try(number, self.cluster[number].read_index, self.requests, self.cluster.now)

    def transfer(self) -> None:
        target = replica(self.rng.choice(sorted(self.cluster.hosts)))
        for number in self.leaders():
            self._try(number, self.cluster[number].transfer_leadership, target, self.cluster.now)

    def change_membership(self) -> None:
        numbers = sorted(self.cluster.hosts)
        voters = self.rng.sample(numbers, self.rng.randint(1, len(numbers)))
        learners = [number for number in numbers if number not in voters and self.rng.random() < 0.5]
        target = members(*voters, learners=learners)
        for number in self.leaders():
            self._try(number, self.cluster[number].change_membership, target)

    def _try(self, number: int, act: Callable[..., object], *args: object) -> None:
        try:
            act(*args)
        except RaftRefusal:
            return
        self.touch(number)

    def crash(self) -> None:
        if not self.up():
            return
        number = self.rng.choice(self.up())
        self.cluster.hosts[number].crash(self.cluster.now)
        self.truth.crashed(number)
        if self.rng.random() < 0.7:
            self.down.add(number)

    def wake(self) -> None:
        if self.down:
            number = self.rng.choice(sorted(self.down))
            self.down.discard(number)
            self.cluster.hosts[number].crash(self.cluster.now)

    def cut_links(self) -> None:
        numbers = sorted(self.cluster.hosts)
        if self.rng.random() < 0.5:  # one side against the other
            side = set(self.rng.sample(numbers, self.rng.randint(1, len(numbers) - 1)))
            self.cut |= {(a, b) for a in numbers for b in numbers if (a in side) != (b in side)}
        else:  # single links, one way
            self.cut |= {(a, b) for a in numbers for b in numbers if a != b and self.rng.random() < 0.3}

    def isolate_leader(self) -> None:
        """Cut it off with a log that nobody else has."""
        for number in self.leaders():
            others = [other for other in self.cluster.hosts if other != number]
            self.cut |= {(number, other) for other in others} | {(other, number) for other in others}
            for _ in range(self.rng.randint(0, 4)):
                self.propose()
        self.lose_leader()

    def lose_leader(self) -> None:
        """Somebody is told that the leader's process is gone, and believes it."""
        for number in self.up():
            if self.rng.random() < 0.8:
                self.cluster[number].leader_lost(self.cluster.now)
                self.touch(number)

    def heal_links(self) -> None:
        self.cut.clear()

    def compact(self) -> None:
        number = self.rng.choice(self.up() or [1])
        if number not in self.down:
            host = self.cluster.hosts[number]
            host.compact(self.rng.randint(0, host.written.applied) + 1)
            self.touch(number)

    def install(self) -> None:
        for number in self.up():
            host = self.cluster.hosts[number]
            if host.ordered is not None:
                self.installed += self.cluster[number].wants_snapshot(host.ordered)
                host.install(host.ordered)
                self.touch(number)

    # -- afterwards ----------------------------------------------------------------------------------------------

    def calm(self, timeouts: int = 12) -> int:
        """Everything works again: one leader, a fresh write everywhere, equal logs. Returns the leader."""
        self.cut.clear()
        while self.down:
            self.wake()
        for _ in range(timeouts * ELECTION // HEARTBEAT):
            self._calm_round()
        leader = self.cluster.leader
        assert leader is not None, "no leader after the storm"
        self.requests += 1
        index = self.cluster[leader].propose(EntryKind.DATA, self.requests, 8)
        for _ in range(2 * ELECTION // HEARTBEAT):
            self._calm_round()
        membership: Membership = self.cluster[leader].membership
        assert not membership.is_joint, "a joint configuration was not left"
        for member in membership.all:
            host = self.cluster.hosts[member.node]
            assert host.written.applied >= index, f"{member} has {host.written.applied} of {index}"
            assert host.node.last_index == self.cluster[leader].last_index
        return leader

    def _calm_round(self) -> None:
        self.cluster.now = Tick(self.cluster.now + HEARTBEAT)
        self._node_heartbeats()
        for number in self.up():
            self.cluster[number].tick(self.cluster.now)
            self.touch(number)
        for _ in range(6):
            self.install()
            for number in self.up():
                self.cluster.hosts[number].sync()
                self.touch(number)
            messages, self.cluster.network[:] = list(self.cluster.network), []
            for message in messages:
                self.cluster[message.target.node].step(message, self.cluster.now)
                self.touch(message.target.node)
