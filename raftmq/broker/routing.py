"""Who answers a call that only a leader can answer? Pure: facts in, a decision out.

Any node takes any call and hands it on at most once. The table, first line that fits::

    this node leads                                Local
    came by Peer.Forward, or must not be forwarded
        another leader known                       Refuse NOT_LEADER   (names it)
        none known                                 Refuse NO_LEADER
    another leader known                           Forward
    none known                                     Wait                (an election takes a second or two)

A node that believes itself to be the leader without leading (it has just stepped down) knows no leader.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.errors import NoLeader, NotLeader, NotReady, Outcome, RaftmqError, ShuttingDown, Unavailable
from raftmq.ids import NodeId, Term


@dataclass(frozen=True, slots=True)
class Local:
    """Answer here."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Hand the call to `node`."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again shortly; `error` is the answer when there is no time left."""

    error: RaftmqError


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with `error`, now."""

    error: RaftmqError


Decision = Local | Forward | Wait | Refuse


def route(
    me: NodeId, *, leads: bool, leader: tuple[NodeId, Term] | None, no_forward: bool, forwarded: bool
) -> Decision:
    """Decide by the table above. `leader`: as far as this node knows; `forwarded`: the hop mark."""
    if leads:
        return Local()
    if leader is not None and leader[0] == me:
        leader = None
    if leader is not None:
        return Refuse(not_leader(*leader)) if no_forward or forwarded else Forward(leader[0])
    error = NoLeader("no leader is known: an election is under way, or a quorum is missing")
    return Refuse(error) if no_forward or forwarded else Wait(error)


def not_leader(node: NodeId, term: Term) -> NotLeader:
    """Names who leads, for a client that asked not to be forwarded."""
    return NotLeader(f"node {node} leads", metadata={"leader_node": str(node), "leader_epoch": str(term)})


def may_route_again(error: RaftmqError, *, reads: bool) -> bool:
    """True where another attempt, perhaps at another node, can help and cannot do anything twice.

    Of errors that a leader gives on purpose (too few replicas, overload) none is tried again here: the client should
    know, and has the patience. `reads`: the call changes nothing, so that an unknown outcome is as good as none.
    """
    if not reads and error.outcome is not Outcome.NOT_APPLIED:
        return False
    return isinstance(error, (NotLeader, NoLeader, NotReady, ShuttingDown)) or type(error) is Unavailable
