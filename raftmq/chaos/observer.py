"""Asks every node what it leads, and what it says of the cluster, past all proxies, and writes it down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio

from raftmq.chaos.proxies import HOST
from raftmq.chaos.recorder import Recorder
from raftmq.client import Client, connect
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId
from raftmq.v1 import broker_pb2, broker_pb2_grpc

ASK_EVERY_S = 0.25
METADATA_EVERY = 4
"""Of so many questions one is about the cluster."""
CALL_TIMEOUT_MS = 1_000


class Observer:
    """One task a node, so that a silent node hides nobody else."""

    def __init__(
        self, ports: dict[NodeId, int], address_of: Client, recorder: Recorder, pid: Callable[[NodeId], int | None]
    ) -> None:
        self._ports = ports
        self._client = address_of
        self._recorder = recorder
        self._pid = pid
        self._tasks: list[asyncio.Task[None]] = []
        self._led: dict[NodeId, dict[str, tuple[int, int, int]]] = {}
        self.answering: dict[NodeId, bool] = dict.fromkeys(ports, False)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._watch(node), name=f"observe-{node}") for node in self._ports]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def leaders(self) -> dict[str, tuple[int, NodeId]]:
        """Of each partition ("topic/0", the controller's is "/0") that somebody says to lead: newest term, and node."""
        newest: dict[str, tuple[int, NodeId]] = {}
        for node, led in self._led.items():
            for partition, (term, _, _) in led.items():
                newest[partition] = max(newest.get(partition, (0, NodeId(0))), (term, node))
        return newest

    def leader(self, topic: str, partition: int) -> NodeId | None:
        found = self.leaders().get(f"{topic}/{partition}")
        return found[1] if found else None

    async def _watch(self, node: NodeId) -> None:
        turn = 0
        while True:
            try:
                replicas = await self._client.cluster.list_replicas(node, timeout_ms=CALL_TIMEOUT_MS)
            except RaftmqError:
                self.answering[node] = False
                self._led[node] = {}
            else:
                self.answering[node] = True
                self._led[node] = {
                    f"{replica.topic}/{replica.partition}": (replica.term, replica.high_watermark, replica.group_id)
                    for replica in replicas
                    if replica.role == "leader"
                }
                self._recorder.write("observe", node=node, leads=self._led[node])
                if turn % METADATA_EVERY == 0:
                    await self.write_metadata(node)
            turn += 1
            await asyncio.sleep(ASK_EVERY_S)

    async def write_metadata(self, node: NodeId, *, is_last: bool = False) -> int:
        """Write down what a node says of the cluster. Returns its version; 0 where it does not say, or is restarted."""
        pid, timeout = self._pid(node), CALL_TIMEOUT_MS / 1000
        options = [("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(f"{HOST}:{self._ports[node]}", options=options) as channel:
            stub = broker_pb2_grpc.BrokerStub(channel)
            try:
                server = await stub.GetServerInfo(broker_pb2.GetServerInfoRequest(), timeout=timeout)
                answer = await stub.GetMetadata(broker_pb2.GetMetadataRequest(), timeout=timeout)
            except grpc.aio.AioRpcError:
                return 0
        if pid is None or pid != self._pid(node):
            return 0
        self._recorder.write(
            "metadata",
            node=node,
            pid=pid,
            boot=server.boot_count,
            version=answer.metadata_version,
            last=is_last,
            nodes=sorted(one.node_id for one in answer.nodes),
            topics={
                topic.name: (
                    topic.topic_id,
                    topic.replication_factor,
                    [sorted(partition.replicas) for partition in topic.partitions],
                )
                for topic in answer.topics
            },
        )
        return int(answer.metadata_version)


def direct_client(ports: dict[NodeId, int], address_map: dict[int, int]) -> Client:
    """A client that reaches every node past its proxy. `address_map`: from advertised ports to the nodes' own."""
    return connect(
        ",".join(f"{HOST}:{port}" for port in ports.values()),
        connect_timeout_ms=30_000,
        address_map=lambda host, port: (host, address_map.get(port, port)),
    )
