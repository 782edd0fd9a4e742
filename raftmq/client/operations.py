"""Operations: changes of who holds what in a cluster, which take time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from raftmq.client import convert
from raftmq.client.connection import NodeChannel
from raftmq.client.retry import may_retry_read, may_retry_write
from raftmq.client.router import Router
from raftmq.client.types import OperationDescription
from raftmq.errors import DeadlineExceeded, Outcome
from raftmq.v1 import cluster_pb2

DEFAULT_TIMEOUT_MS = 15_000
LOOK_EVERY_S = 0.25


class ClusterOperations:
    """Part of ``client.cluster``. A change is checked, written down and begun when its method returns; `wait` waits for
    its end. What is refused changes nothing, and its error names the field. With `validate_only` it is only checked."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def add_node(
        self,
        node_id: int,
        peer_host: str = "",
        peer_port: int = 0,
        *,
        validate_only: bool = False,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> OperationDescription:
        """Admit a node that runs, and that other nodes reach at this address; without one, take a drained node back.

        Raises AlreadyExists, PreconditionFailed.
        """
        request = cluster_pb2.AddNodeRequest(
            node_id=node_id, peer_host=peer_host, peer_port=peer_port, validate_only=validate_only
        )
        return await self._begin(lambda node: node.cluster.AddNode, request, timeout_ms)

    async def drain_node(
        self, node_id: int, *, validate_only: bool = False, timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> OperationDescription:
        """Move all replicas off a node, and its vote on the metadata.

        Raises UnknownNode, AlreadyExists (it is drained), PreconditionFailed, NotEnoughReplicas.
        """
        request = cluster_pb2.DrainNodeRequest(node_id=node_id, validate_only=validate_only)
        return await self._begin(lambda node: node.cluster.DrainNode, request, timeout_ms)

    async def remove_node(
        self, node_id: int, *, validate_only: bool = False, timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> OperationDescription:
        """Take a drained node out of the cluster, for good. Raises UnknownNode, PreconditionFailed."""
        request = cluster_pb2.RemoveNodeRequest(node_id=node_id, validate_only=validate_only)
        return await self._begin(lambda node: node.cluster.RemoveNode, request, timeout_ms)

    async def move_replica(
        self,
        topic: str,
        partition: int,
        from_node: int,
        to_node: int,
        *,
        validate_only: bool = False,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> OperationDescription:
        """Move one replica of a partition.

        Raises UnknownTopic, UnknownPartition, UnknownNode, AlreadyExists, PreconditionFailed, NotEnoughReplicas.
        """
        request = cluster_pb2.MoveReplicaRequest(
            topic=topic, partition=partition, from_node_id=from_node, to_node_id=to_node, validate_only=validate_only
        )
        return await self._begin(lambda node: node.cluster.MoveReplica, request, timeout_ms)

    async def repair_node(
        self, node_id: int, *, validate_only: bool = False, timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> OperationDescription:
        """Put a node's new, empty disk in the place of the one that it lost.

        Raises UnknownNode, PreconditionFailed, NotEnoughReplicas.
        """
        request = cluster_pb2.RepairNodeRequest(node_id=node_id, validate_only=validate_only)
        return await self._begin(lambda node: node.cluster.RepairNode, request, timeout_ms)

    async def operations(self, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> tuple[OperationDescription, ...]:
        """Those that run, and the newest of those that are over; oldest first."""
        answer = await self._router.to_any(
            lambda node: node.cluster.ListOperations,
            cluster_pb2.ListOperationsRequest(),
            timeout_ms=timeout_ms,
            judge=may_retry_read,
        )
        return tuple(convert.operation(one) for one in answer.operations)

    async def operation(self, operation_id: int, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> OperationDescription:
        """Raises UnknownOperation."""
        answer = await self._router.to_any(
            lambda node: node.cluster.GetOperation,
            cluster_pb2.GetOperationRequest(operation_id=operation_id),
            timeout_ms=timeout_ms,
            judge=may_retry_read,
        )
        return convert.operation(answer.operation)

    async def cancel_operation(
        self, operation_id: int, *, timeout_ms: int = DEFAULT_TIMEOUT_MS
    ) -> OperationDescription:
        """Begin no further step, and take back those under way where that can be. Raises UnknownOperation,
        PreconditionFailed (it is over)."""
        answer = await self._router.to_any(
            lambda node: node.cluster.CancelOperation,
            cluster_pb2.CancelOperationRequest(operation_id=operation_id),
            timeout_ms=timeout_ms,
            judge=may_retry_write,
        )
        return convert.operation(answer.operation)

    async def wait(
        self,
        operation_id: int,
        *,
        timeout_ms: int,
        told: Callable[[OperationDescription], None] = lambda operation: None,
    ) -> OperationDescription:
        """Wait for an operation's end; look at its state then. `told` hears of every look.

        Raises UnknownOperation, and DeadlineExceeded: it goes on all the same.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        while True:
            operation = await self.operation(operation_id)
            told(operation)
            if operation.is_over:
                return operation
            if loop.time() >= deadline:
                raise DeadlineExceeded(f"operation {operation_id} goes on: {operation.reason}", outcome=Outcome.APPLIED)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _begin(self, method: Callable[[NodeChannel], Any], request: Any, timeout_ms: int) -> OperationDescription:
        answer = await self._router.to_any(method, request, timeout_ms=timeout_ms, judge=may_retry_write)
        return convert.operation(answer.operation)
