"""Asks every node what it leads, past all proxies, and writes it down: the leadership timeline of a run."""

from __future__ import annotations

import asyncio

from raftmq.chaos.proxies import HOST
from raftmq.chaos.recorder import Recorder
from raftmq.client import Client, connect
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

ASK_EVERY_S = 0.25
CALL_TIMEOUT_MS = 1_000


class Observer:
    """One task a node, so that a silent node hides nobody else."""

    def __init__(self, ports: dict[NodeId, int], address_of: Client, recorder: Recorder) -> None:
        self._ports = ports
        self._client = address_of
        self._recorder = recorder
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
            await asyncio.sleep(ASK_EVERY_S)


def direct_client(ports: dict[NodeId, int], address_map: dict[int, int]) -> Client:
    """A client that reaches every node past its proxy. `address_map`: from advertised ports to the nodes' own."""
    return connect(
        ",".join(f"{HOST}:{port}" for port in ports.values()),
        connect_timeout_ms=30_000,
        address_map=lambda host, port: (host, address_map.get(port, port)),
    )
