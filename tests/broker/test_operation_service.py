"""Operations as resources: answered by the leader of the controller, refused by field, and checked without a trace."""

from __future__ import annotations

from typing import Any

import pytest

from raftmq.errors import (
    AlreadyExists,
    InvalidArgument,
    PreconditionFailed,
    RaftmqError,
    UnknownNode,
    UnknownOperation,
    UnknownPartition,
    UnknownTopic,
)
from raftmq.v1 import cluster_pb2 as wire
from tests.broker.cluster import Node, refusal

REFUSED: list[tuple[str, Any, type[RaftmqError], str]] = [
    ("AddNode", wire.AddNodeRequest(), InvalidArgument, "node_id"),
    ("AddNode", wire.AddNodeRequest(node_id=4), InvalidArgument, "peer_host"),
    ("AddNode", wire.AddNodeRequest(node_id=4, peer_host="h", peer_port=70_000), InvalidArgument, "peer_port"),
    ("AddNode", wire.AddNodeRequest(node_id=3, peer_host="h", peer_port=1), AlreadyExists, "node_id"),
    ("DrainNode", wire.DrainNodeRequest(), InvalidArgument, "node_id"),
    ("DrainNode", wire.DrainNodeRequest(node_id=9), UnknownNode, "node_id"),
    ("DrainNode", wire.DrainNodeRequest(node_id=1), PreconditionFailed, "node_id"),
    ("RemoveNode", wire.RemoveNodeRequest(node_id=9), UnknownNode, "node_id"),
    ("RemoveNode", wire.RemoveNodeRequest(node_id=1), PreconditionFailed, "node_id"),
    ("RepairNode", wire.RepairNodeRequest(node_id=9), UnknownNode, "node_id"),
    ("MoveReplica", wire.MoveReplicaRequest(), InvalidArgument, "topic"),
    ("MoveReplica", wire.MoveReplicaRequest(topic="orders", to_node_id=1), InvalidArgument, "from_node_id"),
    ("MoveReplica", wire.MoveReplicaRequest(topic="x", from_node_id=1, to_node_id=2), UnknownTopic, "topic"),
    ("MoveReplica", wire.MoveReplicaRequest(topic="orders", partition=9, from_node_id=1, to_node_id=2),
     UnknownPartition, "partition"),
    ("MoveReplica", wire.MoveReplicaRequest(topic="orders", from_node_id=1, to_node_id=9), UnknownNode, "to_node_id"),
    ("MoveReplica", wire.MoveReplicaRequest(topic="orders", from_node_id=1, to_node_id=2), AlreadyExists, "to_node_id"),
    ("GetOperation", wire.GetOperationRequest(), InvalidArgument, "operation_id"),
    ("GetOperation", wire.GetOperationRequest(operation_id=2**64 - 1), UnknownOperation, "operation_id"),
    ("CancelOperation", wire.CancelOperationRequest(operation_id=7), UnknownOperation, "operation_id"),
]  # fmt: skip


@pytest.mark.parametrize("method, request_, error, field", REFUSED)
async def test_what_cannot_be_is_refused_by_field(
    node: Node, method: str, request_: Any, error: type[RaftmqError], field: str
) -> None:
    before = node.cluster.image
    refused = await refusal(getattr(node.operators, method)(request_))
    assert (type(refused), refused.field) == (error, field)
    assert node.cluster.image is before


async def test_an_operation_is_checked_begun_listed_and_cancelled(node: Node) -> None:
    request = wire.RepairNodeRequest(node_id=3, validate_only=True)
    checked = (await node.operators.RepairNode(request)).operation
    assert (checked.operation_id, checked.kind, checked.moves) == (0, wire.OPERATION_KIND_REPAIR_NODE, 4)
    assert not node.cluster.image.operations
    begun = (await node.operators.RepairNode(wire.RepairNodeRequest(node_id=3))).operation
    assert (begun.operation_id, begun.state, begun.node_id) == (1, wire.OPERATION_STATE_RUNNING, 3)
    assert (begun.moves_left, begun.reason) == (4, "nobody drives it")
    assert begun.started.ToMilliseconds() == 1
    assert not begun.HasField("ended")
    assert list((await node.operators.ListOperations(wire.ListOperationsRequest())).operations) == [begun]
    assert (await node.operators.GetOperation(wire.GetOperationRequest(operation_id=1))).operation == begun
    cancelled = await node.operators.CancelOperation(wire.CancelOperationRequest(operation_id=1))
    assert cancelled.operation.state == wire.OPERATION_STATE_CANCELLING
    busy = await refusal(node.operators.RepairNode(wire.RepairNodeRequest(node_id=3)))
    assert isinstance(busy, PreconditionFailed)


async def test_any_node_takes_the_call(pair: tuple[Node, Node]) -> None:
    first, second = pair
    begun = await second.operators.RepairNode(wire.RepairNodeRequest(node_id=3))
    assert begun.operation.operation_id == 1
    assert 1 in first.cluster.image.operations
    assert [node for node, _, _ in second.hops] == [1]
