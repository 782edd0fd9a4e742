"""Replicas that move while everything goes on. Proof: operations that the cluster says are done."""

from __future__ import annotations

import asyncio
from collections import Counter

from raftmq.chaos.arena import TOPIC
from raftmq.chaos.faults.base import Fault, NotAsPlanned, named
from raftmq.chaos.plans import DrainNode, MoveReplicas
from raftmq.client.types import OperationDescription
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

OPERATION_MS = 60_000
BACK_OFF_S = 0.5


class MoveReplicasFault(Fault[MoveReplicas]):
    """One after the other, always to a node that does not hold the partition. What is under way at the end is waited
    for.
    """

    means = "operations"
    _task: asyncio.Task[None] | None = None

    @property
    def title(self) -> str:
        return "move replicas"

    async def inject(self) -> None:
        self._ended: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._move_on(), name="move-replicas")

    async def _move_on(self) -> None:
        turn = 0
        while not self._stopping.is_set():
            turn += 1
            try:
                operation = await self._begin(turn)
                ended = await self.arena.admin.cluster.wait(operation.operation_id, timeout_ms=OPERATION_MS)
                self._ended[ended.state] += 1
            except RaftmqError as error:
                self._ended[error.reason] += 1
                await asyncio.sleep(BACK_OFF_S)

    async def _begin(self, turn: int) -> OperationDescription:
        partitions = (await self.arena.admin.admin.describe_topic(TOPIC)).partitions
        one = partitions[turn % len(partitions)]
        free = [node for node in self.arena.nodes if node not in one.replicas]
        if not free:
            raise NotAsPlanned("every node holds every partition: there is nowhere to move to")
        # In turn also the leader's own.
        leaves = one.replicas[turn // len(partitions) % len(one.replicas)]
        return await self.arena.admin.cluster.move_replica(TOPIC, one.partition, leaves, self.arena.rng.choice(free))

    async def heal(self) -> None:
        if self._task is None:
            return
        self._stopping.set()
        await asyncio.wait([self._task], timeout=2 * OPERATION_MS / 1000)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        self.proof.evidence = {"operations": dict(self._ended)}
        self.proof.fired = self._ended["done"] > 0
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error


class DrainNodeFault(Fault[DrainNode]):
    """Everything is moved off a node, and the node is taken back when it is healed. It is told when both are done."""

    means = "operations"
    _target: NodeId | None = None

    @property
    def title(self) -> str:
        return f"drain {named((self._target,)) if self._target else self.plan.target}"

    async def inject(self) -> None:
        (self._target,) = self.arena.choose(self.plan.target)
        drained = await self._done(await self.arena.admin.cluster.drain_node(self._target))
        held = [r.topic for r in await self.arena.admin.cluster.list_replicas(self._target) if r.topic == TOPIC]
        self.proof.evidence |= {"drained": drained, "replicas_left": len(held)}
        self.proof.fired = drained == "done" and not held

    async def heal(self) -> None:
        if self._target is not None:
            self.proof.evidence["taken_back"] = await self._done(await self.arena.admin.cluster.add_node(self._target))

    async def _done(self, operation: OperationDescription) -> str:
        ended = await self.arena.admin.cluster.wait(operation.operation_id, timeout_ms=OPERATION_MS)
        return ended.state
