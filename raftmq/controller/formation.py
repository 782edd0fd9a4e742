"""How a cluster comes to be, exactly once.

``cluster.yml`` seeds a cluster; it never joins one. A node whose directory is empty asks every initial voter of the
seed who it is (``Peer.Identify``) and forms the cluster only when *all* of them answer "empty, same digest of the
seed", and answer the same once more when they are all asked again. The cluster's id is a digest over the name, the
seed and the voters' (node, store) pairs, so that two nodes can only ever speak to each other if they formed the very
same cluster. A node writes its formation down, durably, before it acts on it, and writes it once.

Why that is safe though a voter's disk may be replaced meanwhile. Between the two rounds of questions lies an instant
at which every pair of the formation existed (each had answered before) and none belonged to a cluster (each says so
afterwards). Take two formations, the instant of the second later. Whoever had formed the first by then is no pair of
the second: it was replaced. If those were a majority, a majority of disks was lost. If not, the first could not have
committed anything by then, and from then on the pairs that live share themselves out: each forms one of the two, so at
most one gathers a majority. With a single round, an "empty" heard long ago would count beside a replaced disk's: two
clusters could have a majority one after the other, and what the first had acknowledged would be left behind.

A node that is still empty may also *adopt* a formation that a peer reports, if its own (node, store) pair is among
the voters named there: the peer has seen it empty, with this very disk. If its node id is named with another store
id, the cluster knows it with another disk: it waits, and says so, until the metadata admits the new disk (an operator
has the node repaired); then it joins as one who learns. If its node id is not named at all it never was a first voter:
it joins as one who learns, and the controller decides whether it may ever vote.
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

    def question(self, cluster_name: str, me: ReplicaId) -> peer_pb2.IdentifyRequest:
        """What a node of this cluster asks others with."""
        return question(cluster_name, me, self.seed_digest)

    def answer(
        self, me: ReplicaId, *, admits: bool = False, nodes: Mapping[NodeId, tuple[str, int]] | None = None
    ) -> peer_pb2.IdentifyResponse:
        """What this node says to ``Identify``. `admits`: by the metadata, whoever asks belongs to the cluster. `nodes`:
        the cluster's, and where they are reached by others."""
        return peer_pb2.IdentifyResponse(
            me=_to_proto(me),
            cluster_id=self.cluster_id,
            seed_digest=self.seed_digest,
            initial_voters=[_to_proto(voter) for voter in self.voters],
            admits_you=admits,
            nodes=[
                peer_pb2.NodeAddress(node=node, peer_host=host, peer_port=port)
                for node, (host, port) in sorted((nodes or {}).items())
            ],
        )

    @classmethod
    def from_answer(cls, answer: peer_pb2.IdentifyResponse) -> Formation:
        voters = tuple(sorted(_from_proto(voter) for voter in answer.initial_voters))
        return cls(answer.cluster_id, answer.seed_digest, voters)


def question(cluster_name: str, me: ReplicaId, seed_digest: bytes = b"") -> peer_pb2.IdentifyRequest:
    """What `me` asks others with."""
    request = peer_pb2.IdentifyRequest(cluster_name=cluster_name, seed_digest=seed_digest)
    getattr(request, "from").CopyFrom(_to_proto(me))  # a keyword in Python
    return request


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
    Pure. A formation that nobody reports must come out twice, of answers to questions that were asked anew; the caller
    sees to that, and writes a formation down before it acts on it.
    """
    known = [(node, answer) for node, answer in sorted(answers.items()) if answer is not None and answer.cluster_id]
    if known:
        return _adopt(name, me, [(node, answer, Formation.from_answer(answer)) for node, answer in known])
    if me.node not in voters:
        return Waiting("this node is not among the initial voters: waiting for them to form the cluster")
    pairs = [me]
    for node in voters:
        if node == me.node:
            continue
        answer = answers.get(node)
        if answer is None:
            return Waiting(f"node {node} does not answer yet: all of nodes {_list(voters)} must, the first time")
        if answer.me.node != node:
            return Waiting(_misdirected(node, answer))
        if answer.seed_digest != seed_digest:
            return Waiting(f"node {node} was started with another cluster.yml (cluster name, nodes or peer addresses)")
        pairs.append(_from_proto(answer.me))
    members = tuple(sorted(pairs))
    return Formation(cluster_id_of(name, seed_digest, members), seed_digest, members)


def is_reported(formation: Formation, answers: Mapping[NodeId, peer_pb2.IdentifyResponse | None]) -> bool:
    """Whether a peer belongs to it already: it then exists, and need not be asked for twice."""
    return any(answer is not None and answer.cluster_id == formation.cluster_id for answer in answers.values())


def _adopt(
    name: str, me: ReplicaId, known: list[tuple[NodeId, peer_pb2.IdentifyResponse, Formation]]
) -> Formation | Waiting:
    for node, answer, formation in known:
        if answer.me.node != node:
            return Waiting(_misdirected(node, answer))
        if cluster_id_of(name, formation.seed_digest, formation.voters) != formation.cluster_id:
            return Waiting(f"node {node} belongs to a cluster of another name than {name!r}: check the addresses")
    for _, _, formation in known:
        if me in formation.voters:
            return formation
    for _, answer, formation in known:
        if answer.admits_you:
            return formation
    for node, _, formation in known:
        if any(voter.node == me.node for voter in formation.voters):
            return Waiting(
                f"node {node} belongs to cluster {formation.cluster_id}, which knows node {me.node} with another disk: "
                "this directory is empty or was replaced, and must not vote under the old name. "
                f"Restore the old directory, or run 'raftmq cluster repair-node {me.node}'"
            )
    ids = sorted({formation.cluster_id for _, _, formation in known})
    if len(ids) > 1:
        return Waiting(f"the nodes belong to different clusters ({', '.join(ids)}): all but one must be started anew")
    # Never a first voter, so nothing depends on what this disk once said: it learns, and is admitted by the controller.
    return known[0][2]


def _misdirected(node: NodeId, answer: peer_pb2.IdentifyResponse) -> str:
    return f"the peer address of node {node} is answered by node {answer.me.node}: check the ports"


def _list(nodes: tuple[NodeId, ...]) -> str:
    return ", ".join(str(node) for node in nodes)


def _to_proto(replica: ReplicaId) -> peer_pb2.ReplicaId:
    return peer_pb2.ReplicaId(node=replica.node, store=replica.store)


def _from_proto(replica: peer_pb2.ReplicaId) -> ReplicaId:
    return ReplicaId(NodeId(replica.node), StoreId(replica.store))
