"""How a cluster comes to be, exactly once.

``cluster.yml`` seeds a cluster; it never joins one. A node whose directory is empty asks every initial voter of the
seed who it is (``Peer.Identify``) and forms the cluster only when *all* of them answer "empty, same digest of the
seed". The cluster's id is a digest over the name, the seed and the voters' (node, store) pairs, so that two nodes
can only ever speak to each other if they formed the very same cluster.

Why that is safe. A node writes its formation down, durably, before it acts on it, and writes it once. Suppose a
voter is wiped while others form: it comes back with another store id. Whoever formed with the old pair has another
cluster id than whoever formed with the new one, their frames are refused, and since each surviving node is in one
formation only, at most one of the two can gather a majority of its own voters.

A node that is still empty may also *adopt* a formation that a peer reports, if its own (node, store) pair is among
the voters named there: the peer has seen it empty, with this very disk. If its node id is named with another store
id, the cluster knows it with another disk: it waits, and says that it must be re-admitted. If its node id is not
named at all it never was a first voter: it joins as one who learns, and the controller decides whether it may ever
vote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from raftmq.ids import NodeId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2

FORMATION_KEY = "formation"
"""Name of the formation's row in the ``node`` family."""


@dataclass(frozen=True, slots=True)
class Formation:
    """The cluster that this node belongs to."""

    cluster_id: str
    seed_digest: bytes
    voters: tuple[ReplicaId, ...]
    """The first voters, as they were then; sorted."""

    def encode(self) -> bytes:
        return self.answer(ReplicaId(NodeId(0), StoreId(0))).SerializeToString(deterministic=True)

    @classmethod
    def decode(cls, row: bytes) -> Formation:
        return cls.from_answer(peer_pb2.IdentifyResponse.FromString(row))

    def answer(self, me: ReplicaId) -> peer_pb2.IdentifyResponse:
        """What this node says to ``Identify``."""
        return peer_pb2.IdentifyResponse(
            me=_to_proto(me),
            cluster_id=self.cluster_id,
            seed_digest=self.seed_digest,
            initial_voters=[_to_proto(voter) for voter in self.voters],
        )

    @classmethod
    def from_answer(cls, answer: peer_pb2.IdentifyResponse) -> Formation:
        voters = tuple(sorted(_from_proto(voter) for voter in answer.initial_voters))
        return cls(answer.cluster_id, answer.seed_digest, voters)


@dataclass(frozen=True, slots=True)
class Waiting:
    """No cluster yet, and why."""

    reason: str


def empty_answer(me: ReplicaId, seed_digest: bytes) -> peer_pb2.IdentifyResponse:
    """What a node says to ``Identify`` that has formed nothing yet."""
    return peer_pb2.IdentifyResponse(me=_to_proto(me), seed_digest=seed_digest)


def cluster_id_of(name: str, seed_digest: bytes, voters: tuple[ReplicaId, ...]) -> str:
    """32 hexadecimal digits: equal exactly for equal name, seed and voters."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (name.encode(), seed_digest, *(f"{voter.node}/{voter.store}".encode() for voter in sorted(voters))):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.hexdigest()


def decide(
    name: str,
    seed_digest: bytes,
    me: ReplicaId,
    voters: tuple[NodeId, ...],
    answers: Mapping[NodeId, peer_pb2.IdentifyResponse | None],
) -> Formation | Waiting:
    """What an empty node makes of what the others said.

    ``voters``: the initial voters of the seed. ``answers``: by node, this one excepted; None or absent: no answer.
    Pure: the caller writes a Formation down before it acts on it.
    """
    for node, answer in sorted(answers.items()):
        if answer is not None and answer.cluster_id:
            return _adopt(me, node, Formation.from_answer(answer))
    if me.node not in voters:
        return Waiting("this node is not among the initial voters: waiting for them to form the cluster")
    pairs = [me]
    for node in voters:
        if node == me.node:
            continue
        answer = answers.get(node)
        if answer is None:
            return Waiting(f"node {node} does not answer yet: all of nodes {_list(voters)} must, the first time")
        if answer.seed_digest != seed_digest:
            return Waiting(f"node {node} was started with another cluster.yml (cluster name, nodes or peer addresses)")
        if answer.me.node != node:
            return Waiting(f"the peer address of node {node} is answered by node {answer.me.node}: check the ports")
        pairs.append(_from_proto(answer.me))
    members = tuple(sorted(pairs))
    return Formation(cluster_id_of(name, seed_digest, members), seed_digest, members)


def _adopt(me: ReplicaId, node: NodeId, formation: Formation) -> Formation | Waiting:
    if me in formation.voters:
        return formation
    if any(voter.node == me.node for voter in formation.voters):
        return Waiting(
            f"node {node} belongs to cluster {formation.cluster_id}, which knows node {me.node} with another disk: "
            "this directory is empty or was replaced, and must not vote under the old name. "
            "Restore the old directory, or have the node re-admitted"
        )
    # Never a first voter, so nothing depends on what this disk once said: it learns, and is admitted by the controller.
    return formation


def _list(nodes: tuple[NodeId, ...]) -> str:
    return ", ".join(str(node) for node in nodes)


def _to_proto(replica: ReplicaId) -> peer_pb2.ReplicaId:
    return peer_pb2.ReplicaId(node=replica.node, store=replica.store)


def _from_proto(replica: peer_pb2.ReplicaId) -> ReplicaId:
    return ReplicaId(NodeId(replica.node), StoreId(replica.store))
