"""What the controller's leader decides about operations: whether one may begin, what it does next, when it is over.

As in ``decisions``: nothing is changed here, and a refusal names the field of the request. What a decision needs to
know beside the image (who answers at an address, which replicas are in sync) is given to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import islice

from raftmq.errors import (
    AlreadyExists,
    InvalidArgument,
    NotEnoughReplicas,
    PreconditionFailed,
    UnknownNode,
    UnknownOperation,
    UnknownPartition,
    UnknownTopic,
)
from raftmq.ids import GroupId, NodeId, ReplicaId
from raftmq.metadata.decisions import check_host, loads, majority
from raftmq.metadata.events import (
    AssignmentChanged,
    Event,
    MoveAbandoned,
    MoveBegun,
    OperationCancelled,
    OperationEnded,
    OperationStarted,
)
from raftmq.metadata.image import MetadataImage, NodeRecord, PartitionRecord, TopicRecord
from raftmq.metadata.operation import OperationKind, OperationRecord, OperationState
from raftmq.metadata.placement import Candidate, substitute
from raftmq.metadata.voters import VOTERS_LEAST

MOVES_AT_ONCE = 3
"""Of one operation. Each sends a whole log to a node that goes on serving."""

InSync = Mapping[GroupId, Collection[NodeId]]
"""Nodes whose replicas are in sync, as the groups' leaders told. A group without a leader is missing, or has none."""

_NO_GROUP, _NO_NODE = GroupId(0), NodeId(0)
_PORT_MAX = 65_535
NAME_SHOWN = 100
"""Characters of a name from a request that an error repeats."""


# -- may it begin? -------------------------------------------------------------------------------------------------


def add_node(
    image: MetadataImage, node: NodeId, answered: ReplicaId, peer_host: str, peer_port: int, wall_ms: int
) -> list[Event]:
    """Admit the disk that `answered` at the address, or take a drained node back.

    Raises AlreadyExists, PreconditionFailed.
    """
    if answered.node != node:
        raise PreconditionFailed(
            f"{peer_host}:{peer_port} is answered by node {answered.node}, not by node {node}", field="peer_port"
        )
    _refuse_busy(image, node)
    known = image.nodes.get(node)
    if known is not None and known.id != answered:
        raise PreconditionFailed(
            f"node {node} is in the cluster with another disk, which this one may take the place of: repair the node",
            field="node_id",
        )
    if known is not None and not known.leaving:
        raise AlreadyExists(f"node {node} is in the cluster", field="node_id")
    if answered in image.removed:
        raise PreconditionFailed(
            f"the disk of node {node} was removed from the cluster: empty its data directory first", field="node_id"
        )
    return [_started(image, OperationKind.ADD_NODE, node, wall_ms, answered, peer=(peer_host, peer_port))]


def drain_node(image: MetadataImage, node: NodeId, in_sync: InSync, wall_ms: int) -> list[Event]:
    """Raises UnknownNode, AlreadyExists (it is drained), PreconditionFailed (nobody could take its replicas or vote),
    NotEnoughReplicas (a partition would lose its quorum on the way)."""
    known = _node(image, node, "node_id")
    _refuse_busy(image, node)
    if known.leaving:
        raise AlreadyExists(f"node {node} is drained already", field="node_id")
    _refuse_last(image, node)
    held = _held(image, lambda replica: replica.node == node)
    for topic, partition in held:
        _healthy(topic, partition, node, in_sync, "node_id")
        if _place(image, partition, node) is None:
            raise PreconditionFailed(
                f"partition {partition.partition} of {topic.name} has replicas on nodes {_nodes(partition)}, and no "
                f"other node is live and stays: its {topic.replication_factor} replicas need another node first",
                field="node_id",
            )
    return [_started(image, OperationKind.DRAIN_NODE, node, wall_ms, known.id, moves=len(held))]


def remove_node(image: MetadataImage, node: NodeId, wall_ms: int) -> list[Event]:
    """Raises UnknownNode, or PreconditionFailed (it holds replicas, or too few nodes would stay)."""
    known = _node(image, node, "node_id")
    _refuse_busy(image, node)
    if not known.leaving:
        raise PreconditionFailed(f"node {node} is not drained: drain it first", field="node_id")
    if held := _held(image, lambda replica: replica.node == node, is_coming_too=True):
        topic, partition = held[0]
        raise PreconditionFailed(
            f"node {node} holds {len(held)} replicas, or is to get them (one of partition {partition.partition} of "
            f"{topic.name}): drain it first",
            field="node_id",
        )
    _refuse_last(image, node)
    peer = known.peer_host, known.peer_port
    return [_started(image, OperationKind.REMOVE_NODE, node, wall_ms, known.id, peer=peer)]


def repair_node(image: MetadataImage, node: NodeId, answered: ReplicaId, in_sync: InSync, wall_ms: int) -> list[Event]:
    """Put the disk that `answered` for the node in the place of every other that it ever had.

    Raises UnknownNode, PreconditionFailed (nothing is lost; or a topic had no other replica), NotEnoughReplicas.
    """
    known = _node(image, node, "node_id")
    _refuse_busy(image, node)
    if answered.node != node:
        raise PreconditionFailed(
            f"{known.peer_host}:{known.peer_port} is answered by node {answered.node}, not by node {node}",
            field="node_id",
        )
    if answered in image.removed:
        raise PreconditionFailed(f"the disk of node {node} was removed from the cluster", field="node_id")
    lost = _held(image, lambda replica: replica.node == node and replica != answered)
    if known.id == answered and not lost:
        raise PreconditionFailed(
            f"node {node} runs with the disk that the cluster knows: nothing is to be repaired", field="node_id"
        )
    for topic, partition in lost:
        if len(partition.replicas) == 1:
            raise PreconditionFailed(
                f"partition {partition.partition} of {topic.name} had its only replica on the disk that is lost: "
                "restore the old directory, or delete the topic",
                field="node_id",
            )
        living = {partition.group: [one for one in in_sync.get(partition.group, ()) if one != node]}
        _healthy(topic, partition, node, living, "node_id")
    return [_started(image, OperationKind.REPAIR_NODE, node, wall_ms, answered, moves=len(lost))]


def move_replica(
    image: MetadataImage, topic_name: str, number: int, source: NodeId, target: NodeId, in_sync: InSync, wall_ms: int
) -> list[Event]:
    """Raises InvalidArgument, UnknownTopic, UnknownPartition, UnknownNode, AlreadyExists (it is a replica),
    PreconditionFailed, NotEnoughReplicas."""
    topic, partition = _partition(image, topic_name, number)
    held = next((replica for replica in partition.replicas if replica.node == source), None)
    _node(image, source, "from_node_id")
    if held is None:
        raise PreconditionFailed(
            f"node {source} holds no replica of partition {number} of {topic_name}: nodes {_nodes(partition)} do",
            field="from_node_id",
        )
    to = _node(image, target, "to_node_id")
    if any(replica.node == target for replica in partition.replicas_after):
        raise AlreadyExists(f"node {target} holds a replica of partition {number} of {topic_name}", field="to_node_id")
    if to.fenced:
        raise PreconditionFailed(f"node {target} is not heard: it must be live to take a replica", field="to_node_id")
    if to.leaving:
        raise PreconditionFailed(f"node {target} is drained: it gets no replicas", field="to_node_id")
    if partition.move is not None:
        raise PreconditionFailed(
            f"operation {partition.move.operation} is moving a replica of partition {number} of {topic_name}: "
            "one change at a time",
            field="partition",
        )
    _healthy(topic, partition, source, in_sync, "partition")
    started = _started(
        image, OperationKind.MOVE_REPLICA, source, wall_ms, None, group=partition.group, to_node=target, moves=1
    )
    return [started, MoveBegun(started.operation, partition.group, held, to.id)]


def cancel(image: MetadataImage, operation: int) -> list[Event]:
    """Raises UnknownOperation, or PreconditionFailed (it is over, or cannot be taken back)."""
    known = image.operations.get(operation)
    if known is None:
        raise UnknownOperation(f"there is no operation {operation}", field="operation_id")
    if known.is_over:
        raise PreconditionFailed(f"operation {operation} is over: {known.state.name}", field="operation_id")
    if known.kind is OperationKind.REMOVE_NODE:
        raise PreconditionFailed(
            f"node {known.node} is removed already; what is left of operation {operation} is to forget it",
            field="operation_id",
        )
    return [] if known.state is OperationState.CANCELLING else [OperationCancelled(operation)]


# -- what next? ----------------------------------------------------------------------------------------------------


def next_moves(image: MetadataImage, operation: OperationRecord) -> list[Event]:
    """Moves that the operation begins now, so that ``MOVES_AT_ONCE`` are under way. Each knows the ones before."""
    room = MOVES_AT_ONCE - len(image.moves_of(operation.id))
    begun: list[Event] = []
    waiting = (partition for _, partition in left(image, operation) if partition.move is None)
    for partition in islice(waiting, max(0, room)):
        source = next(replica for replica in partition.replicas if _is_to_go(image, operation, replica))
        if operation.kind is OperationKind.REPAIR_NODE:
            known = image.nodes.get(operation.node)
            target = None if known is None else known.id
        else:
            target = _place(image, partition, operation.node)
        if target is None:
            continue
        event = MoveBegun(operation.id, partition.group, source, target)
        image = image.replay(event)
        begun.append(event)
    return begun


def left(image: MetadataImage, operation: OperationRecord) -> list[tuple[TopicRecord, PartitionRecord]]:
    """Partitions with a replica that the operation still has to move, by group; also one that another operation is
    moving to where this one takes replicas from: it is moved on when it has come."""
    if operation.kind is OperationKind.MOVE_REPLICA:
        found = image.partition(operation.group)
        moving = found is not None and found[1].move is not None and found[1].move.operation == operation.id
        return [found] if found is not None and moving else []
    if operation.kind not in (OperationKind.DRAIN_NODE, OperationKind.REPAIR_NODE):
        return []
    return _held(image, lambda replica: _is_to_go(image, operation, replica), is_coming_too=True)


def moved(image: MetadataImage, group: GroupId) -> list[Event]:
    """The group's configuration is what the move under way wanted."""
    found = image.partition(group)
    return [] if found is None or found[1].move is None else [AssignmentChanged(group, found[1].replicas_after)]


def abandoned(image: MetadataImage, group: GroupId) -> list[Event]:
    """The group's configuration is what it was before the move."""
    found = image.partition(group)
    return [] if found is None or found[1].move is None else [MoveAbandoned(group)]


def ended(
    image: MetadataImage, operation: int, wall_ms: int, *, is_cancelled: bool = False, reason: str = ""
) -> list[Event]:
    known = image.operations.get(operation)
    if known is None or known.is_over:
        return []
    return [OperationEnded(operation, is_cancelled, reason, wall_ms)]


# -- inside --------------------------------------------------------------------------------------------------------


def _started(
    image: MetadataImage,
    kind: OperationKind,
    node: NodeId,
    wall_ms: int,
    replica: ReplicaId | None,
    *,
    group: GroupId = _NO_GROUP,
    to_node: NodeId = _NO_NODE,
    peer: tuple[str, int] = ("", 0),
    moves: int = 0,
) -> OperationStarted:
    return OperationStarted(
        image.next_operation_id, kind, node, replica, group, to_node, peer[0], peer[1], moves, wall_ms
    )


def check_address(peer_host: str, peer_port: int) -> None:
    """Raises InvalidArgument where it can be no node's."""
    check_host(peer_host, "peer_host")
    if not 1 <= peer_port <= _PORT_MAX:
        raise InvalidArgument(f"is {peer_port}, allowed are 1 to {_PORT_MAX}", field="peer_port")


def _node(image: MetadataImage, node: NodeId, field: str) -> NodeRecord:
    known = image.nodes.get(node)
    if known is None:
        nodes = ", ".join(map(str, sorted(image.nodes)))
        raise UnknownNode(f"there is no node {node}: the cluster has {nodes}", field=field)
    return known


def _partition(image: MetadataImage, name: str, number: int) -> tuple[TopicRecord, PartitionRecord]:
    if not name:
        raise InvalidArgument("names no topic", field="topic")
    topic = image.topics.get(name)
    if topic is None:
        raise UnknownTopic(f"there is no topic {name[:NAME_SHOWN]!r}", field="topic")
    if number >= len(topic.partitions):
        raise UnknownPartition(
            f"topic {name} has partitions 0 to {len(topic.partitions) - 1}, not {number}", field="partition"
        )
    return topic, topic.partitions[number]


def _held(
    image: MetadataImage, which: Callable[[ReplicaId], bool], *, is_coming_too: bool = False
) -> list[tuple[TopicRecord, PartitionRecord]]:
    """Partitions with such a replica, or one that a move under way is to bring, by group."""
    return [
        (topic, partition)
        for topic, partition in sorted(
            ((topic, one) for topic in image.topics.values() for one in topic.partitions),
            key=lambda pair: pair[1].group,
        )
        if any(which(one) for one in partition.replicas + (partition.replicas_after if is_coming_too else ()))
    ]


def _is_to_go(image: MetadataImage, operation: OperationRecord, replica: ReplicaId) -> bool:
    if replica.node != operation.node:
        return False
    known = image.nodes.get(operation.node)
    return operation.kind is OperationKind.DRAIN_NODE or known is None or replica != known.id


def _place(image: MetadataImage, partition: PartitionRecord, leaving: NodeId) -> ReplicaId | None:
    kept = [replica.node for replica in partition.replicas if replica.node != leaving]
    nodes = [
        Candidate(node.id, node.rack, node.fenced or node.leaving or node.id.node == leaving)
        for node in image.nodes.values()
    ]
    return substitute(nodes, kept, loads(image))


def _refuse_busy(image: MetadataImage, node: NodeId) -> None:
    for running in image.running():
        if running.node == node and running.kind is not OperationKind.MOVE_REPLICA:
            raise PreconditionFailed(
                f"operation {running.id} ({running.kind.name}) is under way for node {node}", field="node_id"
            )


def _refuse_last(image: MetadataImage, node: NodeId) -> None:
    staying = [known for known in image.nodes.values() if not known.leaving and known.id.node != node]
    least = min(VOTERS_LEAST, len(image.nodes))
    if len(staying) < least:
        raise PreconditionFailed(
            f"{len(staying)} nodes would stay, and the controller needs {least}: add a node first", field="node_id"
        )


def _healthy(topic: TopicRecord, partition: PartitionRecord, source: NodeId, in_sync: InSync, field: str) -> None:
    """A configuration is changed by a quorum of the old one and one of the new one. Raises NotEnoughReplicas."""
    replicas = len(partition.replicas)
    now = set(in_sync.get(partition.group, ()))
    where = f"partition {partition.partition} of {topic.name}"
    if len(now) < majority(replicas):
        raise NotEnoughReplicas(
            f"{where} has {len(now)} of {replicas} replicas in sync: to change them takes {majority(replicas)}",
            field=field,
        )
    after = len(now - {source}) + 1
    needed = max(majority(replicas), topic.min_in_sync_replicas)
    if after < needed:
        raise NotEnoughReplicas(
            f"{where} would be left with {after} replicas in sync, and needs {needed}: wait for the others to catch up",
            field=field,
        )


def _nodes(partition: PartitionRecord) -> str:
    return ", ".join(str(replica.node) for replica in partition.replicas)
