"""Asking around until this node belongs to a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog
from google.protobuf.message import DecodeError

from raftmq.config import NodeConfig
from raftmq.controller.formation import FORMATION_KEY, Formation, decide, is_reported, question
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId, ReplicaId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import PutNode, StorageError, StorageStalled, Store

_log = structlog.get_logger(__name__)

PAUSE_S = 0.2
ANSWER_WITHIN_S = 1.0

Identify = Callable[[str, int, peer_pb2.IdentifyRequest, float], Awaitable[peer_pb2.IdentifyResponse]]
"""(host, port, request, timeout in seconds) -> answer. Raises RaftmqError where there is none."""


def known_formation(store: Store) -> Formation | None:
    """The cluster that this disk belongs to, None if it is empty. Raises StorageError where it cannot be read."""
    row = store.node_value(FORMATION_KEY)
    try:
        return None if row is None else Formation.decode(row)
    except DecodeError as error:
        raise StorageError(f"the row that names the cluster cannot be read: {error}") from error


async def join(
    config: NodeConfig, me: ReplicaId, store: Store, identify: Identify, waiting: Callable[[str], None]
) -> Formation:
    """Return once this node belongs to a cluster, and has written that down durably.

    ``waiting`` is told why it does not yet, whenever the reason is another.
    """
    said = ""
    before: Formation | None = None
    while True:
        answers = await _ask_all(config, me, identify)
        decided = decide(config.cluster.cluster, config.cluster.seed_digest, me, config.cluster.initial_voters, answers)
        if isinstance(decided, Formation):
            is_sure = decided == before or is_reported(decided, answers)
            before = decided
            if not is_sure:
                continue
            if _written(store, decided):
                _log.info("in a cluster", cluster=decided.cluster_id, voters=[str(voter) for voter in decided.voters])
                return decided
        else:
            before = None
            if decided.reason != said:
                said = decided.reason
                waiting(said)
        await asyncio.sleep(PAUSE_S)


def _written(store: Store, formation: Formation) -> bool:
    """Once in a disk's life, and before there is anything that the event loop could be kept from. False: the disk has
    to catch its breath, and nothing was written."""
    try:
        store.write([PutNode(FORMATION_KEY, formation.encode())])
    except StorageStalled:
        return False
    store.sync()
    return True


async def _ask_all(
    config: NodeConfig, me: ReplicaId, identify: Identify
) -> dict[NodeId, peer_pb2.IdentifyResponse | None]:
    request = question(config.cluster.cluster, me, config.cluster.seed_digest)
    dialled = {node: config.dial(node) for node in config.peers}
    return await ask_all({node: (at.host, at.port) for node, at in dialled.items()}, identify, request)


async def ask_all(
    addresses: Mapping[NodeId, tuple[str, int]], identify: Identify, request: peer_pb2.IdentifyRequest
) -> dict[NodeId, peer_pb2.IdentifyResponse | None]:
    """Who is at these addresses, all asked at once. None: not up, or cut off; to be asked again shortly."""

    async def ask(host: str, port: int) -> peer_pb2.IdentifyResponse | None:
        try:
            return await identify(host, port, request, ANSWER_WITHIN_S)
        except RaftmqError:
            return None

    answers = await asyncio.gather(*(ask(host, port) for host, port in addresses.values()))
    return dict(zip(addresses, answers, strict=True))
