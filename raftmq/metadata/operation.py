"""An operation: a change of who holds what that takes time, written down so that it outlives whoever drives it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from raftmq.ids import GroupId, NodeId, ReplicaId


class OperationKind(IntEnum):
    """What is to happen. The numbers are on disk: never change or reuse one."""

    ADD_NODE = 1
    """A node that is not in the cluster's file becomes a node of the cluster, or one that was drained is used again."""
    DRAIN_NODE = 2
    """Every replica on the node moves elsewhere, and so does its vote in the controller's group."""
    REMOVE_NODE = 3
    """A node without replicas leaves the cluster for good."""
    MOVE_REPLICA = 4
    """One replica of one partition moves from node to node."""
    REPAIR_NODE = 5
    """A node's new disk takes the place of the one that was lost, in every group."""


class OperationState(IntEnum):
    """How far it is. The numbers are on disk: never change or reuse one."""

    RUNNING = 1
    CANCELLING = 2
    """No further step is begun, and those under way are taken back, or brought to their end where they went too far."""
    DONE = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """See ``events.OperationStarted`` for the fields they share."""

    id: int
    kind: OperationKind
    node: NodeId
    replica: ReplicaId | None
    group: GroupId
    to_node: NodeId
    peer_host: str
    peer_port: int
    moves: int
    started_ms: int
    state: OperationState = OperationState.RUNNING
    reason: str = ""
    """Why it ended as it did; empty where the state says it all."""
    ended_ms: int = 0

    @property
    def is_over(self) -> bool:
        return self.state in (OperationState.DONE, OperationState.CANCELLED)
