"""Real listeners on loopback around fake hosts: one node, or several that forward to each other in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from grpc import aio

from raftmq.broker import Calls, ClientServer, Forwarder, ServerFacts, assemble
from raftmq.broker.forwarding import error_of
from raftmq.broker.patience import LEADER_WAIT_MS
from raftmq.coordinator.coordinator import Coordinator
from raftmq.errors import RaftmqError, Unavailable
from raftmq.ids import BootCount, NodeId, StoreId
from raftmq.storage.memory import MemoryStore
from raftmq.v1 import (
    admin_pb2_grpc,
    broker_pb2,
    broker_pb2_grpc,
    cluster_pb2_grpc,
    exchanges_pb2_grpc,
    groups_pb2_grpc,
    queue_pb2_grpc,
)
from tests.broker.fakes import FakeCluster, FakeHost, FakeOperations, FakeQueues, image_of, topic_record
from tests.coordinator.fakes import GroupsHost, ManualClock

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
FACTS = ServerFacts(BootCount(3), MAX_MESSAGE_BYTES, 1024 * 1024)
ORDERS = topic_record("orders", [1, 2, 3])
SINGLE = topic_record("single", [4], topic_id=2, max_batch_bytes=4096)
LEADER_WAIT_S = LEADER_WAIT_MS / 1000
LEADERS = {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}
"""Leader of each group unless a test says otherwise: node 2 leads partition 1 of "orders", node 1 the rest."""

Response = TypeVar("Response")


@dataclass
class Node:
    """One node with its surroundings, and stubs that talk to its client port."""

    host: FakeHost
    cluster: FakeCluster
    calls: Calls
    server: ClientServer
    channel: aio.Channel
    coordinator: Coordinator
    groups_host: GroupsHost
    clock: ManualClock
    hops: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Calls that this node handed on: to whom, method, request."""

    @property
    def broker(self) -> broker_pb2_grpc.BrokerAsyncStub:
        return broker_pb2_grpc.BrokerStub(self.channel)

    @property
    def admin(self) -> admin_pb2_grpc.AdminAsyncStub:
        return admin_pb2_grpc.AdminStub(self.channel)

    @property
    def groups(self) -> groups_pb2_grpc.GroupsAsyncStub:
        return groups_pb2_grpc.GroupsStub(self.channel)

    @property
    def operators(self) -> cluster_pb2_grpc.ClusterAsyncStub:
        return cluster_pb2_grpc.ClusterStub(self.channel)

    @property
    def queue(self) -> queue_pb2_grpc.QueueAsyncStub:
        return queue_pb2_grpc.QueueStub(self.channel)

    @property
    def exchanges(self) -> exchanges_pb2_grpc.ExchangesAsyncStub:
        return exchanges_pb2_grpc.ExchangesStub(self.channel)


@asynccontextmanager
async def running(*numbers: int, leaders: dict[int, int] | None = None) -> AsyncIterator[list[Node]]:
    """Nodes with these numbers. A hop to another number fails like one to a node that is down."""
    nodes: dict[int, Node] = {}
    try:
        for number in numbers:
            nodes[number] = await _start(number, LEADERS if leaders is None else leaders, nodes)
        yield list(nodes.values())
    finally:
        for node in nodes.values():
            await node.channel.close(grace=None)
            await node.server.stop(0)


async def _start(number: int, leaders: dict[int, int], nodes: dict[int, Node]) -> Node:
    host, cluster = FakeHost(number, leaders), FakeCluster(number, image_of(ORDERS, SINGLE))
    hops: list[tuple[int, str, bytes]] = []

    async def forward(node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes:
        hops.append((node, method, request))
        if node not in nodes:
            raise Unavailable(f"no connection to node {node}")
        return await nodes[node].calls.serve(method, request, remaining_ms, forwarded=True)

    store = MemoryStore(node=NodeId(number), store_id=StoreId(100 + number))
    groups, clock = GroupsHost(host.leads), ManualClock()
    coordinator = Coordinator(groups, lambda: cluster.image, lambda: cluster.current, clock)
    operations, forwarder = FakeOperations(cluster), Forwarder(forward)
    calls = assemble(
        host, FakeQueues(), cluster, operations, store, forwarder, FACTS, Random(number), coordinator, clock
    )
    server = ClientServer("127.0.0.1:0", calls, max_message_bytes=MAX_MESSAGE_BYTES)
    port = await server.start()
    # Generous: what is too large must be refused by the node, not here.
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    channel = aio.insecure_channel(f"127.0.0.1:{port}", options=options)
    return Node(host, cluster, calls, server, channel, coordinator, groups, clock, hops)


async def refusal(call: Awaitable[Response]) -> RaftmqError:
    """The error that `call` ends in. Fails where it does not."""
    try:
        answer = await call
    except aio.AioRpcError as error:
        return error_of(error)
    raise AssertionError(f"answered instead of refused: {answer}")


async def open_streams(node: Node, count: int) -> None:
    """Wait until the node serves so many streams."""
    while node.calls.open_streams != count:
        await node.broker.GetServerInfo(broker_pb2.GetServerInfoRequest())
