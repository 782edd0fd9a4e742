"""The real client, over the simulated network: everything of ``raftmq.client`` but its sockets."""

from __future__ import annotations

from random import Random
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from raftmq import status
from raftmq.client.client import Client
from raftmq.client.connection import Address, ConnectionPool, NodeChannel
from raftmq.client.retry import RetryPolicy
from raftmq.errors import RaftmqError, Unavailable
from raftmq.ids import NodeId
from raftmq.sim.network import Network
from raftmq.sim.node import CLIENT_PORT, NodeProcess
from raftmq.sim.process import Process
from raftmq.v1 import admin_pb2, broker_pb2, cluster_pb2, exchanges_pb2, groups_pb2, queue_pb2


class _Method:
    """A method of a stub: what to call, and how to read the answer."""

    def __init__(self, name: str, response_class: type[Message]) -> None:
        self.name = name
        self.response_class = response_class


class _Stub:
    """In place of a generated stub."""

    def __init__(self, service: ServiceDescriptor) -> None:
        for method in service.methods:
            full_name = f"/{service.full_name}/{method.name}"
            setattr(self, method.name, _Method(full_name, GetMessageClass(method.output_type)))


_BROKER = _Stub(broker_pb2.DESCRIPTOR.services_by_name["Broker"])
_ADMIN = _Stub(admin_pb2.DESCRIPTOR.services_by_name["Admin"])
_CLUSTER = _Stub(cluster_pb2.DESCRIPTOR.services_by_name["Cluster"])
_EXCHANGES = _Stub(exchanges_pb2.DESCRIPTOR.services_by_name["Exchanges"])
_GROUPS = _Stub(groups_pb2.DESCRIPTOR.services_by_name["Groups"])
_QUEUE = _Stub(queue_pb2.DESCRIPTOR.services_by_name["Queue"])


class SimChannel(NodeChannel):
    """A channel to one node, without gRPC."""

    def __init__(self, network: Network, process: Process, number: int, address: Address) -> None:
        self.address = address
        self.broker: Any = _BROKER
        self.admin: Any = _ADMIN
        self.cluster: Any = _CLUSTER
        self.exchanges: Any = _EXCHANGES
        self.groups: Any = _GROUPS
        self.queue: Any = _QUEUE
        self._avoid_until = 0.0
        self._network = network
        self._process = process
        self._number = number

    @property
    def boot(self) -> int:
        """Of the process that answers there now; 0: none."""
        process = self._network.find(NodeId(self.address.port - CLIENT_PORT))
        return 0 if process is None else process.info.boot

    async def ready(self) -> None:
        """The network says by itself where there is no connection."""

    async def call(self, method: Any, request: Any, *, timeout_ms: int) -> Any:
        """See ``NodeChannel.call``."""
        data = request.SerializeToString()

        async def serve(target: NodeProcess) -> bytes:
            return await target.serve_client(method.name, data, timeout_ms)

        try:
            answer = await self._network.call(
                self._process, self._number, NodeId(self.address.port - CLIENT_PORT), serve, timeout_ms / 1000
            )
        except RaftmqError as error:
            if status.is_bare(error) or (isinstance(error, Unavailable) and error.message.startswith("no connection")):
                self._failed()
            raise
        return method.response_class.FromString(answer)

    async def close(self) -> None:
        """Nothing is open."""


def sim_channels(network: Network, process: Process, number: int, nodes: list[NodeId]) -> list[SimChannel]:
    """A channel to each node, for whoever wants no client above it."""
    return [SimChannel(network, process, number, Address(f"n{node}", CLIENT_PORT + node)) for node in nodes]


def sim_client(network: Network, process: Process, number: int, nodes: list[NodeId], rng: Random) -> Client:
    """A ``raftmq.Client`` that lives in `process` and knows all `nodes`."""
    pool = ConnectionPool(None, lambda address: SimChannel(network, process, number, address))
    addresses = ",".join(f"n{node}:{CLIENT_PORT + node}" for node in nodes)
    retry = RetryPolicy(rng=rng)
    return Client(addresses, connect_timeout_ms=20_000, retry=retry, address_map=None, pool=pool)
