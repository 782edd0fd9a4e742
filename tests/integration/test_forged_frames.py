"""Real nodes, and somebody at the port for nodes who knows the cluster's id: what cannot be right changes nothing.

What each kind of message is refused for is tested where it is refused (tests/rpc/test_codec_hostile.py, tests/raft,
tests/replica/test_manager.py). Here the whole way is: bytes on a stream of gRPC, to a process that leads and follows.
Snapshots cannot be pushed at a node, it fetches them: their parts are forged in tests/replica/test_snapshots.py and
tests/rpc/test_snapshots.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from grpc import aio

from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Client
from raftmq.client.types import ReplicaDescription
from raftmq.ids import NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.raft.admission import TERM_JUMP_MAX
from raftmq.records.entry import LogEntry
from tests.integration.workload import TOPIC, Workload, until
from tests.observe.asking import page
from tests.rpc.nodes import entry, hello, open_stream

pytestmark = pytest.mark.integration

ONE = NodeId(1)
STRANGER = peer_pb2.ReplicaId(node=9, store=9_000)


async def metric(cluster: LocalCluster, node: NodeId, name: str) -> str:
    """The first sample of a metric, as it is exposed."""
    _, text = await page(cluster.config.node(node).entry.http_port, "/metrics")
    found = re.search(rf"^{name}.*$", text, re.MULTILINE)
    assert found is not None, name
    return found[0]


async def replica_id(cluster: LocalCluster, node: NodeId) -> peer_pb2.ReplicaId:
    store = re.search(r'store_id="(\w+)"', await metric(cluster, node, "raftmq_node_info"))
    assert store is not None
    return peer_pb2.ReplicaId(node=node, store=int(store[1], 16))


async def send(cluster: LocalCluster, cluster_id: str, source: peer_pb2.ReplicaId, frames: Sequence[bytes]) -> None:
    """All of `frames` to node 1, on a new stream of `source`, until it has taken them."""
    async with aio.insecure_channel(f"127.0.0.1:{cluster.config.node(ONE).entry.peer_port}") as channel:
        call = open_stream(channel)
        greeting = hello(source.node, to_node=1, cluster_id=cluster_id, store=source.store, channel=2)
        for message in (greeting, *frames):
            await call.write(message)
        await call.done_writing()
        assert (await call.code()).name == "OK"


def forged(
    source: peer_pb2.ReplicaId, target: peer_pb2.ReplicaId, replica: ReplicaDescription
) -> list[peer_pb2.RaftMessage]:
    """To a replica, in the name of another one."""

    def message(term: int, group: int = replica.group_id) -> peer_pb2.RaftMessage:
        made = peer_pb2.RaftMessage(group=group, source=source, target=target, term=term)
        messages.append(made)
        return made

    messages: list[peer_pb2.RaftMessage] = []
    for term in (replica.term + TERM_JUMP_MAX + 1, 2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1):
        message(term).request_vote.transfer = True
        message(term).append_reply.match_index = 1
        message(term).timeout_now.SetInParent()
    for index in (2**62, 2**63, 2**64 - 1):
        message(replica.term).append_reply.match_index = index
        message(replica.term).append_entries.prev_index = index
        message(replica.term).append_entries.commit_index = index
        message(replica.term).heartbeat.commit_index = index
    message(replica.term, group=2**62).timeout_now.SetInParent()
    message(replica.term, group=2**64 - 1).timeout_now.SetInParent()
    hole = message(replica.term).append_entries
    for sealed in (entry(5).payload, entry(7).payload):
        assert isinstance(sealed, LogEntry)
        hole.entries.add(header=sealed.row, payload=sealed.payload)
    return messages


async def test_forged_and_repeated_frames_change_nothing(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        await load.more()
        cluster_id = load.client.cluster_id
        me, two = await replica_id(cluster, ONE), await replica_id(cluster, NodeId(2))
        replicas = await load.client.cluster.list_replicas(ONE)
        frames = [
            peer_pb2.Frame(messages=[message]).SerializeToString()
            for source in (two, STRANGER)
            for replica in replicas
            for message in forged(source, me, replica)
        ]
        beyond = peer_pb2.RaftMessage(group=replicas[0].group_id, source=STRANGER, target=me, term=replicas[0].term + 1)
        beyond.request_vote.last_index, beyond.request_vote.transfer = 2**40, True
        frames.append(peer_pb2.Frame(messages=[beyond]).SerializeToString())
        for source in (STRANGER, two, two):  # the second time it is what was recorded, on another connection
            await send(cluster, cluster_id, source, frames)
        await load.more()
        assert await _highest_term(load.client) < 1_000
        refused = float((await metric(cluster, ONE, "raftmq_terms_refused_total")).split()[-1])
        faults = float((await metric(cluster, ONE, "raftmq_inbound_faults_total")).split()[-1])
        assert refused > 0, "an operator can see it"
        assert faults > 0
        await load.check()


async def _highest_term(client: Client) -> int:
    described = await client.cluster.describe()
    held = [await client.cluster.list_replicas(node.info.node_id) for node in described.nodes]
    return max(replica.term for replicas in held for replica in replicas)


async def test_a_node_tells_of_its_replicas_while_nobody_leads(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        await load.more()
        await load.stop()
        await cluster.kill(NodeId(2))
        await cluster.kill(NodeId(3))

        async def nobody_leads() -> bool:
            held = await load.client.cluster.list_replicas(ONE)
            return all(replica.role != "leader" and replica.leader is None for replica in held)

        await until(nobody_leads)
        held = await load.client.cluster.list_replicas(ONE)
        assert sorted((one.topic, one.partition) for one in held) == [("", 0), *((TOPIC, n) for n in range(3))]
        assert sum(replica.log_end_offset for replica in held if replica.topic) >= len(load.acked)
        assert all(len(replica.chain_hash) > 0 for replica in held)
