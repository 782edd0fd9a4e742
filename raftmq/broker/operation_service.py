"""raftmq.v1.Cluster, the part that changes who holds what: operations, as resources."""

from __future__ import annotations

from typing import Any

from raftmq.broker.cluster import Operations
from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, Target
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument
from raftmq.ids import CONTROLLER_GROUP, NodeId
from raftmq.metadata import operating
from raftmq.metadata.operation import OperationKind, OperationRecord
from raftmq.v1 import cluster_pb2

TIMEOUT_MS = 10_000


class OperationService:
    """Every method is answered by the controller's leader: it drives the operations, and knows what they wait for."""

    def __init__(self, view: View, operations: Operations) -> None:
        self._view = view
        self._operations = operations

    def entries(self) -> dict[str, Entry]:
        """For the table of methods."""
        return {
            "Cluster.AddNode": Entry(self.add_node, reads=False, target=_of_node),
            "Cluster.DrainNode": Entry(self.drain_node, reads=False, target=_of_node),
            "Cluster.RemoveNode": Entry(self.remove_node, reads=False, target=_of_node),
            "Cluster.MoveReplica": Entry(self.move_replica, reads=False, target=_of_move),
            "Cluster.RepairNode": Entry(self.repair_node, reads=False, target=_of_node),
            "Cluster.ListOperations": Entry(self.list_operations, reads=True, target=_of_controller),
            "Cluster.GetOperation": Entry(self.get_operation, reads=True, target=_of_operation),
            "Cluster.CancelOperation": Entry(self.cancel_operation, reads=False, target=_of_operation),
        }

    async def add_node(self, request: cluster_pb2.AddNodeRequest, context: CallContext) -> cluster_pb2.AddNodeResponse:
        operation = await self._operations.add_node(
            NodeId(request.node_id), request.peer_host, request.peer_port, context.within(TIMEOUT_MS),
            validate_only=request.validate_only,
        )  # fmt: skip
        return cluster_pb2.AddNodeResponse(header=self._header(), operation=self._begun(operation, request))

    async def drain_node(
        self, request: cluster_pb2.DrainNodeRequest, context: CallContext
    ) -> cluster_pb2.DrainNodeResponse:
        operation = await self._operations.drain_node(
            NodeId(request.node_id), context.within(TIMEOUT_MS), validate_only=request.validate_only
        )
        return cluster_pb2.DrainNodeResponse(header=self._header(), operation=self._begun(operation, request))

    async def remove_node(
        self, request: cluster_pb2.RemoveNodeRequest, context: CallContext
    ) -> cluster_pb2.RemoveNodeResponse:
        operation = await self._operations.remove_node(
            NodeId(request.node_id), context.within(TIMEOUT_MS), validate_only=request.validate_only
        )
        return cluster_pb2.RemoveNodeResponse(header=self._header(), operation=self._begun(operation, request))

    async def move_replica(
        self, request: cluster_pb2.MoveReplicaRequest, context: CallContext
    ) -> cluster_pb2.MoveReplicaResponse:
        operation = await self._operations.move_replica(
            request.topic, request.partition, NodeId(request.from_node_id), NodeId(request.to_node_id),
            context.within(TIMEOUT_MS), validate_only=request.validate_only,
        )  # fmt: skip
        return cluster_pb2.MoveReplicaResponse(header=self._header(), operation=self._begun(operation, request))

    async def repair_node(
        self, request: cluster_pb2.RepairNodeRequest, context: CallContext
    ) -> cluster_pb2.RepairNodeResponse:
        operation = await self._operations.repair_node(
            NodeId(request.node_id), context.within(TIMEOUT_MS), validate_only=request.validate_only
        )
        return cluster_pb2.RepairNodeResponse(header=self._header(), operation=self._begun(operation, request))

    async def list_operations(
        self, _request: cluster_pb2.ListOperationsRequest, _context: CallContext
    ) -> cluster_pb2.ListOperationsResponse:
        known = self._view.cluster.image.operations
        return cluster_pb2.ListOperationsResponse(
            header=self._header(), operations=[self._told(operation) for _, operation in sorted(known.items())]
        )

    async def get_operation(
        self, request: cluster_pb2.GetOperationRequest, _context: CallContext
    ) -> cluster_pb2.GetOperationResponse:
        operation = self._operations.get(request.operation_id)
        return cluster_pb2.GetOperationResponse(header=self._header(), operation=self._told(operation))

    async def cancel_operation(
        self, request: cluster_pb2.CancelOperationRequest, context: CallContext
    ) -> cluster_pb2.CancelOperationResponse:
        operation = await self._operations.cancel(request.operation_id, context.within(TIMEOUT_MS))
        return cluster_pb2.CancelOperationResponse(header=self._header(), operation=self._told(operation))

    # -- in the words of the API -------------------------------------------------------------------------------------

    def _header(self) -> Any:
        return self._view.controller_header()

    def _begun(self, operation: OperationRecord, request: Any) -> cluster_pb2.Operation:
        told = self._told(operation)
        if request.validate_only:
            told.ClearField("operation_id")
            told.ClearField("reason")
        return told

    def _told(self, operation: OperationRecord) -> cluster_pb2.Operation:
        image = self._view.cluster.image
        found = image.partition(operation.group) if operation.kind is OperationKind.MOVE_REPLICA else None
        told = cluster_pb2.Operation(
            operation_id=operation.id,
            kind=cluster_pb2.OperationKind.ValueType(operation.kind),
            state=cluster_pb2.OperationState.ValueType(operation.state),
            node_id=operation.node,
            topic="" if found is None else found[0].name,
            partition=0 if found is None else found[1].partition,
            to_node_id=operation.to_node,
            moves=operation.moves,
            moves_left=0 if operation.is_over else len(operating.left(image, operation)),
            reason=self._operations.waits(operation),
        )
        told.started.FromMilliseconds(operation.started_ms)
        if operation.is_over:
            told.ended.FromMilliseconds(operation.ended_ms)
        return told


def _of_controller(_request: Any) -> Target:
    return Target(CONTROLLER_GROUP, TIMEOUT_MS)


def _of_node(request: Any) -> Target:
    if not request.node_id:
        raise InvalidArgument("names no node", field="node_id")
    return Target(CONTROLLER_GROUP, TIMEOUT_MS)


def _of_move(request: cluster_pb2.MoveReplicaRequest) -> Target:
    for field in ("topic", "from_node_id", "to_node_id"):
        if not getattr(request, field):
            raise InvalidArgument("is missing", field=field)
    return Target(CONTROLLER_GROUP, TIMEOUT_MS)


def _of_operation(request: Any) -> Target:
    if not request.operation_id:
        raise InvalidArgument("names no operation", field="operation_id")
    return Target(CONTROLLER_GROUP, TIMEOUT_MS)
