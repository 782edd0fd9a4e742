"""Which toxics make which fault: pure, and tested as such.

Of the proxy ``1-2``, through which node 1 dials node 2, *upstream* is what 1 says, and *downstream* what 2
answers to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.chaos.plans import Cut, Disturb
from raftmq.chaos.proxies import Stream, Toxic
from raftmq.chaos.topology import client_link, peer_link

UP: Stream = "upstream"
DOWN: Stream = "downstream"
Direction = tuple[str, Stream]


def directions(plan: Cut, target: int, peers: Sequence[int]) -> list[Direction]:
    """The directions of proxies that carry nothing while `target` is cut off as planned."""
    if plan.shape == "clients":
        return [(client_link(target), UP), (client_link(target), DOWN)]
    if plan.shape == "one-link":
        peers = peers[:1]
    out = [d for peer in peers for d in ((peer_link(target, peer), UP), (peer_link(peer, target), DOWN))]
    into = [d for peer in peers for d in ((peer_link(peer, target), UP), (peer_link(target, peer), DOWN))]
    if plan.shape == "mute":
        return out
    if plan.shape == "deaf":
        return into
    return out + into


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
