"""Which toxics make which fault: pure, and tested as such.

Of the proxy ``1-2``, through which node 1 dials node 2, *upstream* is what 1 says, and *downstream* what 2
answers to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

from raftmq.chaos.plans import Cut, Disturb
from raftmq.chaos.proxies import Stream, Toxic
from raftmq.chaos.topology import client_link, peer_link

UP: Stream = "upstream"
DOWN: Stream = "downstream"
Direction = tuple[str, Stream]


_TITLES = {
    "isolate": "isolate",
    "deaf": "deafen",
    "mute": "mute",
    "one-link": "cut one link of",
    "clients": "cut clients from",
    "halves": "cut off a minority with",
    "bridge": "leave one bridge between halves, away from",
    "ring": "leave a ring of links around",
}
_MANNERS = {"black-hole": "", "hold": " (held)", "refuse": " (refused)"}


def title(plan: Cut, target: int | None) -> str:
    """A few words for people; `target`: None before it is chosen."""
    return f"{_TITLES[plan.shape]} {f'node {target}' if target else plan.target}{_MANNERS[plan.manner]}"


def silences(plan: Cut, target: int, peers: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of nodes of which the second does not hear the first while `target` is cut off as planned."""
    if plan.shape == "clients":
        return []
    if plan.shape == "mute":
        return [(target, peer) for peer in peers]
    if plan.shape == "deaf":
        return [(peer, target) for peer in peers]
    apart = _apart(plan.shape, [target, *peers])
    return apart + [(b, a) for a, b in apart]


def _apart(shape: str, nodes: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of nodes, the first of which is the target, that do not hear each other."""
    count = len(nodes)
    if shape == "isolate":
        return [(nodes[0], other) for other in nodes[1:]]
    if shape == "one-link":
        return [(nodes[0], nodes[1])]
    if shape == "ring":
        return [(nodes[i], nodes[j]) for i, j in combinations(range(count), 2) if j - i not in (1, count - 1)]
    if shape == "bridge":
        sides = [node for node in nodes if node != nodes[1]]
        return list(product(sides[: len(sides) // 2], sides[len(sides) // 2 :]))
    assert shape == "halves"
    minority = (count - 1) // 2
    return list(product(nodes[:minority], nodes[minority:]))


def directions(plan: Cut, target: int, peers: Sequence[int]) -> list[Direction]:
    """The directions of proxies that carry nothing while `target` is cut off as planned."""
    if plan.shape == "clients":
        return [(client_link(target), UP), (client_link(target), DOWN)]
    return [
        way
        for speaker, listener in silences(plan, target, peers)
        for way in ((peer_link(speaker, listener), UP), (peer_link(listener, speaker), DOWN))
    ]


def cutting(plan: Cut, target: int, peers: Sequence[int]) -> list[Toxic]:
    """Toxics of a cut that is not a refusal."""
    # A `timeout` of 0 drops what comes and never ends; a `bandwidth` of 0 keeps it until it is removed.
    kind, attributes = ("timeout", {"timeout": 0}) if plan.manner == "black-hole" else ("bandwidth", {"rate": 0})
    return [Toxic(proxy, kind, stream, attributes) for proxy, stream in directions(plan, target, peers)]


def disturbing(plan: Disturb, target: int, nodes: Sequence[int]) -> list[Toxic]:
    """Toxics of both directions of the links that are meant."""
    if plan.links == "clients":
        names = [client_link(node) for node in nodes]
    else:
        names = [
            peer_link(i, j)
            for i in nodes
            for j in nodes
            if i != j and (plan.links == "peers" or target in (i, j))
        ]  # fmt: skip
    return [Toxic(name, plan.toxic, stream, plan.attributes) for name in names for stream in (UP, DOWN)]
