"""Every way in which a change of members can interleave with an election, up to a bound: breadth first over bare
``RaftNode``s. A step delivers what is in flight on one link, loses it, or delivers its newest message before the rest;
or a replica asks for votes; or a leader changes the members. States that were seen before are not entered again.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from raftmq.ids import ReplicaId, Tick
from raftmq.raft.errors import RaftRefusal
from raftmq.raft.messages import Message, TimeoutNow
from raftmq.raft.types import Membership, Role

from .harness import ELECTION, Cluster, Host, replica
from .storm import Invariants

Action = tuple[str, int, int]


class Fixed:
    """In place of the random numbers of election timers, which play no part: no time passes."""

    def randrange(self, bound: int) -> int:
        return 0


@dataclass
class Sender:
    """Where a host sends to: a part of the world, so that it is copied with it."""

    cluster: Cluster
    truth: Invariants
    host: Host

    def __call__(self, message: Message) -> None:
        self.truth.on_send(self.host, message)
        self.cluster.network.append(message)


@dataclass
class Budget:
    """How often things may still happen on the way from the start."""

    elections: int = 1
    changes: int = 1
    losses: int = 1
    overtakings: int = 1


@dataclass
class World:
    """A group in some state. ``targets``: the memberships that its leaders are asked to bring about, in this order."""

    cluster: Cluster
    truth: Invariants
    targets: list[Membership]
    wanted: tuple[Membership, ...]
    """All of them, those that were asked for already too."""
    budget: Budget = field(default_factory=Budget)

    def fingerprint(self) -> bytes:
        """Of everything that can influence what happens next."""
        cluster = self.cluster
        state = []
        for number, host in cluster.hosts.items():
            node, disk = host.node, host.written
            log = [(entry.index, entry.term) for entry in disk.entries]
            peers = [(str(peer), str(status)) for peer, status in sorted(node.status().peers.items())]
            memberships = [(index, str(membership)) for index, membership in disk.memberships]
            facts = (str(disk.hard_state), node.role.value, str(node.leader), node.commit_index)
            state.append((number, facts, log, peers, memberships))
        links = {link: [str(message) for message in self.on(link)] for link in self.links()}
        return pickle.dumps((state, links, self.budget, len(self.targets)))

    def links(self) -> list[tuple[int, int]]:
        return sorted({(int(m.source.node), int(m.target.node)) for m in self.cluster.network})

    def on(self, link: tuple[int, int]) -> list[Message]:
        return [m for m in self.cluster.network if (m.source.node, m.target.node) == link]

    def actions(self) -> Iterator[Action]:
        """What may happen next."""
        for link in self.links():
            yield "deliver", *link
            if self.budget.losses:
                yield "lose", *link
            if self.budget.overtakings and len(self.on(link)) > 1:
                yield "overtake", *link
        for number, host in self.cluster.hosts.items():
            if host.node.role is Role.LEADER:
                if self.targets and self.budget.changes:
                    yield "change", number, 0
            elif self.budget.elections and host.node.leader is not None:
                yield "campaign", number, 0

    def take(self, action: Action) -> None:
        """Raises AssertionError where something happens that must not."""
        kind, one, other = action
        getattr(self, f"_{kind}")(one, other)
        for number, host in self.cluster.hosts.items():
            self.truth.check(number)
            overlap([membership for _, membership in host.written.memberships])
            if host.node.role is Role.LEADER:
                self._decided(host)

    def _decided(self, leader: Host) -> None:
        """What is committed is durable on a quorum of the configuration that was in force there. By the time it is
        looked at, the leader may have gone on to the next one."""
        commit, log = leader.node.commit_index, leader.written
        memberships = [membership for index, membership in log.memberships if index <= commit]
        hosts = self.cluster.hosts.values()
        holders = frozenset(
            host.me
            for host in hosts
            if host.synced.last >= commit and host.synced.term_at(commit) == log.term_at(commit)
        )
        assert any(quorum <= holders for quorum in quorums(memberships[-1])), f"{commit} is committed without a quorum"

    def _deliver(self, source: int, target: int) -> None:
        self.cluster.deliver(lambda m: (m.source.node, m.target.node) == (source, target))

    def _lose(self, source: int, target: int) -> None:
        self.budget.losses -= 1
        self.cluster.drop(lambda m: (m.source.node, m.target.node) == (source, target))

    def _overtake(self, source: int, target: int) -> None:
        self.budget.overtakings -= 1
        newest = self.on((source, target))[-1]
        self.cluster.deliver(lambda m: m is newest)

    def _campaign(self, number: int, _: int) -> None:
        """Without a pre-vote, as after a transfer: nobody's timer matters."""
        self.budget.elections -= 1
        node = self.cluster[number]
        assert node.leader is not None
        node.step(TimeoutNow(node.leader, replica(number), node.term), self.cluster.now)
        self.cluster.settle()

    def _change(self, number: int, _: int) -> None:
        self.budget.changes -= 1
        try:
            self.cluster[number].change_membership(self.targets[0])
        except RaftRefusal:
            return
        self.targets.pop(0)
        self.cluster.settle()


def start(first: Membership, *targets: Membership, budget: Budget) -> World:
    """1 leads, everything it said has arrived, and it has been told to bring about the first of `targets`."""
    cluster = Cluster(first)
    truth = Invariants(cluster)
    for host in cluster.hosts.values():
        host.rng = Fixed()  # type: ignore[assignment]
        host.send, host.on_commit = Sender(cluster, truth, host), truth.on_commit
        host.start(cluster.now)
    cluster.elect(1)
    cluster.propose("before")
    cluster.exchange()
    cluster.now = Tick(cluster.now + ELECTION // 2)
    for host in cluster.hosts.values():
        host.readies.clear()
        truth._readies.clear()
    cluster[1].change_membership(targets[0])
    cluster.settle()
    return World(cluster, truth, list(targets[1:]), targets, budget)


@dataclass
class Walked:
    """What a walk came by. ``elected``: states with another leader than the first; ``left_joint``: with a leader whose
    configuration is a new one, and joint no more."""

    states: int = 0
    depth: int = 0
    elected: int = 0
    left_joint: int = 0


def walk(world: World, states_max: int) -> Walked:
    """Visit states in the order of their distance from `world`, up to `states_max` of them. Raises AssertionError with
    the way to a state that must not be."""
    seen = {world.fingerprint()}
    level: list[tuple[bytes, tuple[Action, ...]]] = [(pickle.dumps(world), ())]
    walked = Walked()
    while level and walked.states < states_max:
        following: list[tuple[bytes, tuple[Action, ...]]] = []
        walked.depth += 1
        for frozen, way in level:
            here: World = pickle.loads(frozen)
            for action in here.actions():
                world = pickle.loads(frozen)
                try:
                    world.take(action)
                except AssertionError as error:
                    raise AssertionError(f"{error}: {[*way, action]}") from error
                print_of = world.fingerprint()
                if print_of in seen:
                    continue
                seen.add(print_of)
                walked.states += 1
                leaders = [node for node in world.cluster if node.role is Role.LEADER]
                walked.elected += any(node is not world.cluster[1] for node in leaders)
                walked.left_joint += any(node.membership in world.wanted for node in leaders)
                following.append((pickle.dumps(world), (*way, action)))
                if walked.states >= states_max:
                    return walked
        level = following
    return walked


def overlap(memberships: list[Membership]) -> None:
    """Any majority of a configuration has a member in common with any majority of the next one."""
    for one, following in pairwise(memberships):
        for quorum in quorums(one):
            assert all(quorum & rival for rival in quorums(following)), f"{one} and {following} do not overlap"


def quorums(membership: Membership) -> list[frozenset[ReplicaId]]:
    """The smallest sets that decide."""
    incoming = majorities(membership.voters)
    if not membership.outgoing:
        return incoming
    return [one | other for one in incoming for other in majorities(membership.outgoing)]


def majorities(voters: frozenset[ReplicaId]) -> list[frozenset[ReplicaId]]:
    return [frozenset(chosen) for chosen in combinations(sorted(voters), len(voters) // 2 + 1)]
