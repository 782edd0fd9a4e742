"""Every way in which the links of a small group can be broken, one direction at a time.

A leader needs, from one and the same majority, votes (a request out, an answer back) and then answers to its
appends. So a leader can exist **exactly when some replica reaches a majority over links that work both ways**
(itself counted). Of three replicas: when some pair can talk both ways.

Necessary: a candidate counts only answers that came back over the link its request went out on, in reverse.
Without such a majority nobody is ever elected, however long they try; and since nobody wins a pre-vote, no term
rises either.

Sufficient, and the leader stays: whoever is elected has just shown that it has such a majority, which keeps
hearing it and answering it. The replicas of that majority refuse pre-votes while they hear it, and any rival
needs one of them. A rival that had won its pre-vote just before may still enter a higher term; it then deposes
the leader once, when it can answer it, and both try again with fresh random timers.
"""

from __future__ import annotations

from itertools import combinations, product
from random import Random

import pytest

from raftmq.ids import Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.types import Role

from .harness import ELECTION, HEARTBEAT, Cluster

Link = tuple[int, int]


def can_lead(size: int, up: set[Link]) -> bool:
    """Whether some replica reaches a majority over links that work both ways."""
    numbers = range(1, size + 1)
    both = {(a, b) for a, b in up if (b, a) in up}
    return any(1 + sum((a, b) in both for b in numbers) > size // 2 for a in numbers)


def run(cluster: Cluster, up: set[Link], timeouts: int) -> None:
    step = HEARTBEAT // 2
    for _ in range(timeouts * ELECTION // step):
        cluster.now = Tick(cluster.now + step)
        for host in cluster.hosts.values():
            host.node.tick(cluster.now)
        cluster.settle()
        for _ in range(3):
            cluster.drop(lambda m: (m.source.node, m.target.node) not in up)
            cluster.deliver()


def check(size: int, up: set[Link], seed: int, led_by: int | None = None) -> None:
    """From the start, or from a working group led by `led_by` whose links then break."""
    cluster = Cluster(size, RaftConfig(ELECTION, HEARTBEAT), seed=seed)
    if led_by is not None:
        cluster.elect(led_by)
    terms = [node.term for node in cluster]
    run(cluster, up, 10)
    if not can_lead(size, up):
        assert cluster.leader is None
        assert [node.term for node in cluster] == terms
        return
    leader = cluster.leader
    assert leader is not None, "nobody leads"
    term = cluster[leader].term
    index = cluster.propose("x")
    run(cluster, up, 10)
    assert (cluster.leader, cluster[leader].term) == (leader, term), "the leader did not stay"
    assert cluster[leader].commit_index >= index
    assert [node.role for node in cluster].count(Role.LEADER) == 1


LINKS = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b]


@pytest.mark.parametrize("first", list(product((False, True), repeat=2)))
def test_item_14_all_64_graphs_of_three(first: tuple[bool, bool]) -> None:
    for rest in product((False, True), repeat=4):
        up = {link for link, works in zip(LINKS, (*first, *rest), strict=True) if works}
        check(3, up, seed=1)
        check(3, up, seed=2, led_by=1)


def test_item_14_sampled_graphs_of_five() -> None:
    for seed in range(30):
        rng = Random(seed)
        pairs = combinations(range(1, 6), 2)
        up = {link for a, b in pairs for link in ((a, b), (b, a)) if rng.random() < 0.7}
        check(5, up, seed, led_by=None if seed % 2 else 1)
