"""Operations: begun when somebody asks, then driven to their end by whichever node leads the controller.

Nothing of the driving is kept but what the metadata says. Each round looks at the groups that an operation concerns
and takes at most one step in each; a leader that comes later looks again, and goes on.

Why two leaders of the controller cannot undo each other's work. A round begins with a read barrier, so that the image
it acts on has everything that was decided before; groups are inspected behind a barrier of their own; and a group
changes its configuration only if it still is the one that was looked at. So a leader that was deposed has one command
under way in a group at most. If that gives a vote or takes one, the configuration that it expects is one which nobody
has called the end of a move: those have no learners. What is left is a learner too many, which counts for nothing, and
goes with the group's next move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from raftmq.controller.controller import Controller
from raftmq.controller.formation import question
from raftmq.controller.groups import Groups
from raftmq.controller.metadata_group import MetadataGroup
from raftmq.controller.steps import back, towards
from raftmq.errors import NotLeader, PreconditionFailed, RaftmqError, UnknownOperation
from raftmq.ids import CONTROLLER_GROUP, GroupId, NodeId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.metadata import operating
from raftmq.metadata.events import Event
from raftmq.metadata.image import MetadataImage, PartitionRecord
from raftmq.metadata.operation import OperationKind, OperationRecord, OperationState
from raftmq.ports import Clock
from raftmq.replica.host import ReplicaHost

_log = structlog.get_logger(__name__)

INTERVAL_S = 0.25
BUSY_INTERVAL_S = 0.05
"""After a round that took a step."""
CALL_TIMEOUT_MS = 3_000
IDENTIFY_WITHIN_S = 2.0


class Identify(Protocol):
    """Asks who listens at an address. Raises RaftmqError where nobody answers."""

    async def __call__(
        self, host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
    ) -> peer_pb2.IdentifyResponse: ...


class Operations:
    """One per node; it acts while its node leads the controller. ``run`` until cancelled."""

    def __init__(
        self,
        controller: Controller,
        host: ReplicaHost,
        groups: Groups,
        metadata_group: MetadataGroup,
        identify: Identify,
        clock: Clock,
    ) -> None:
        self._controller = controller
        self._host = host
        self._groups = groups
        self._metadata_group = metadata_group
        self._identify = identify
        self._clock = clock
        self._waits: dict[int, str] = {}
        self._stepped = False

    # -- wishes ------------------------------------------------------------------------------------------------------

    async def add_node(
        self, node: NodeId, peer_host: str, peer_port: int, timeout_ms: int, *, validate_only: bool = False
    ) -> OperationRecord:
        """Raises as ``operating.add_node``, and PreconditionFailed where the node does not answer. Without an address:
        a node that was drained is taken back."""
        known = self._controller.image.nodes.get(node)
        if not peer_host and not peer_port and known is not None:
            peer_host, peer_port = known.peer_host, known.peer_port
        operating.check_address(peer_host, peer_port)
        answered = await self._who(peer_host, peer_port, "peer_host")
        return await self._begin(
            lambda image, now: operating.add_node(image, node, answered, peer_host, peer_port, now),
            timeout_ms,
            validate_only,
        )

    async def drain_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord:
        """Raises as ``operating.drain_node``."""
        return await self._begin(
            lambda image, now: operating.drain_node(image, node, self._in_sync(image), now), timeout_ms, validate_only
        )

    async def remove_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord:
        """Raises as ``operating.remove_node``."""
        return await self._begin(lambda image, now: operating.remove_node(image, node, now), timeout_ms, validate_only)

    async def move_replica(
        self,
        topic: str,
        partition: int,
        source: NodeId,
        target: NodeId,
        timeout_ms: int,
        *,
        validate_only: bool = False,
    ) -> OperationRecord:
        """Raises as ``operating.move_replica``."""

        def decide(image: MetadataImage, now: int) -> Sequence[Event]:
            return operating.move_replica(image, topic, partition, source, target, self._in_sync(image), now)

        return await self._begin(decide, timeout_ms, validate_only)

    async def repair_node(self, node: NodeId, timeout_ms: int, *, validate_only: bool = False) -> OperationRecord:
        """Raises as ``operating.repair_node``, and PreconditionFailed where the node does not answer."""
        image = self._controller.image
        known = image.nodes.get(node)
        # Of a node that nobody knows the decision says so.
        answered = known.id if known is not None else ReplicaId(node, StoreId(0))
        if known is not None:
            answered = await self._who(known.peer_host, known.peer_port, "node_id")
        return await self._begin(
            lambda image, now: operating.repair_node(image, node, answered, self._in_sync(image), now),
            timeout_ms,
            validate_only,
        )

    async def cancel(self, operation: int, timeout_ms: int) -> OperationRecord:
        """Raises as ``operating.cancel``."""
        await self._controller.decide(lambda image: operating.cancel(image, operation), timeout_ms)
        return self._controller.image.operations[operation]

    def get(self, operation: int) -> OperationRecord:
        """Raises UnknownOperation."""
        known = self._controller.image.operations.get(operation)
        if known is None:
            raise UnknownOperation(f"there is no operation {operation}", field="operation_id")
        return known

    def waits(self, operation: OperationRecord) -> str:
        """What an operation waits for now, as its driver saw it last; why it ended, where it is over."""
        return operation.reason if operation.is_over else self._waits.get(operation.id, "it has yet to be looked at")

    async def _who(self, host: str, port: int, field: str) -> ReplicaId:
        """The node and disk behind an address. Raises PreconditionFailed."""
        me = self._host.replicas.me
        try:
            request = question(self._controller.cluster_name, me)
            answer = await self._identify(host, port, request, IDENTIFY_WITHIN_S)
        except RaftmqError as error:
            raise PreconditionFailed(
                f"no node answers at {host}:{port} ({error.message}): is it started, and is its peer port right?",
                field=field,
            ) from None
        if answer.cluster_id not in ("", self._controller.cluster_id):
            raise PreconditionFailed(
                f"the node at {host}:{port} belongs to another cluster, {answer.cluster_id}", field=field
            )
        return ReplicaId(NodeId(answer.me.node), StoreId(answer.me.store))

    async def _begin(
        self, decide: Callable[[MetadataImage, int], Sequence[Event]], timeout_ms: int, validate_only: bool
    ) -> OperationRecord:
        now = self._clock.wall_ms()
        if validate_only:
            image = self._controller.image
            number = image.next_operation_id
            for event in decide(image, now):
                image = image.replay(event)
            return image.operations[number]
        decided = await self._controller.decide(lambda image: decide(image, now), timeout_ms)
        started = decided[0]
        operation = self._controller.image.operations[started.operation]  # type: ignore[union-attr]
        _log.info("operation began", operation=operation.id, kind=operation.kind.name, node=operation.node)
        return operation

    def _in_sync(self, image: MetadataImage) -> dict[GroupId, tuple[NodeId, ...]]:
        return {group: self._host.in_sync(group) for group in image.groups if self._host.leader_of(group) is not None}

    # -- driving -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            await asyncio.sleep(BUSY_INTERVAL_S if self._stepped else INTERVAL_S)
            self._stepped = False
            if not self._host.leads(CONTROLLER_GROUP) or not self._controller.image.running():
                self._waits.clear()
                continue
            try:
                await self._round()
            except RaftmqError as error:
                _log.info("operations wait", reason=error.reason, detail=error.message)
            except Exception:  # noqa: BLE001  a mistake here must not leave operations undriven for good
                _log.exception("driving operations failed")

    async def _round(self) -> None:
        await self._host.barrier(CONTROLLER_GROUP, CALL_TIMEOUT_MS)
        image = self._controller.image
        running = image.running()
        waits = await asyncio.gather(*(self._told(self._drive(image, operation)) for operation in running))
        self._waits = {operation.id: told for operation, told in zip(running, waits, strict=True)}

    async def _told(self, work: Awaitable[str]) -> str:
        """What came of `work`, in words. A leader that is none any more has nothing to say."""
        try:
            return await work
        except NotLeader:
            if not self._host.leads(CONTROLLER_GROUP):
                raise
            return "a leader is being elected"
        except RaftmqError as error:
            return error.message

    async def _drive(self, image: MetadataImage, operation: OperationRecord) -> str:
        """One round of one operation; what it waits for."""
        if operation.state is OperationState.RUNNING and operating.next_moves(image, operation):
            await self._decide(lambda image: operating.next_moves(image, operation))
            return "moves begin"
        moving = image.moves_of(operation.id)
        if moving:
            waits = await asyncio.gather(*(self._told(self._move(image, operation, partition)) for partition in moving))
            return "; ".join(
                f"{image.groups[partition.group][0]}/{partition.partition}: {told}"
                for partition, told in zip(moving, waits, strict=True)
                if told
            )
        if operation.state is OperationState.CANCELLING:
            await self._end(operation, is_cancelled=True)
            return ""
        if left := operating.left(image, operation):
            topic, partition = left[0]
            return f"no live node can take the replica of {topic.name}/{partition.partition}, or it is being moved"
        if operation.kind is OperationKind.MOVE_REPLICA:
            await self._end(operation, is_cancelled=True, reason="the topic was deleted")
            return ""
        if waits_for := self._unsettled(image, operation):
            return waits_for
        await self._end(operation)
        return ""

    async def _move(self, image: MetadataImage, operation: OperationRecord, partition: PartitionRecord) -> str:
        """The next step in one group; what it waits for. A move to a disk that is lost would never come to its end: it
        is taken back, and begun anew elsewhere if its operation still wants it."""
        found = await self._groups.configuration(partition.group, CALL_TIMEOUT_MS)
        after = partition.replicas_after
        if operation.state is OperationState.CANCELLING or _is_lost(image, partition):
            step = back(found, partition.replicas, after)
        else:
            step = towards(found, after)
        if step.target is not None:
            self._stepped = True
            await self._groups.change(partition.group, found.index, step.target, CALL_TIMEOUT_MS)
            return "the group's configuration changes"
        if not step.arrived:
            return step.waits
        self._stepped = True
        has_moved = found.membership.voters == frozenset(after)
        await self._decide(lambda image: _settled(image, operation, partition, has_moved, self._clock.wall_ms()))
        return ""

    def _unsettled(self, image: MetadataImage, operation: OperationRecord) -> str:
        """What the controller's own group still lacks; empty if nothing."""
        members = self._metadata_group.membership
        node, waits = operation.node, self._metadata_group.waits
        if operation.kind is OperationKind.ADD_NODE:
            known = image.nodes.get(node)
            if known is None or known.id != operation.replica:
                return f"node {node} has yet to register: it must be up, and reach this cluster"
            return waits if known.id not in members.all else ""
        if operation.kind is OperationKind.DRAIN_NODE:
            votes = any(voter.node == node for voter in members.all_voters)
            return (waits or f"node {node} still votes on the metadata") if votes else ""
        stale = {one for one in members.all if one.node == node and not image.admits(one)}
        known = image.nodes.get(node)
        if known is not None and known.id not in members.all:
            return f"node {node} has yet to learn the metadata"
        return waits or ("the controller's group forgets the old disk" if stale else "")

    async def _end(self, operation: OperationRecord, *, is_cancelled: bool = False, reason: str = "") -> None:
        self._stepped = True
        wall_ms = self._clock.wall_ms()
        await self._decide(
            lambda image: operating.ended(image, operation.id, wall_ms, is_cancelled=is_cancelled, reason=reason)
        )
        state = "CANCELLED" if is_cancelled else "DONE"
        _log.info("operation is over", operation=operation.id, kind=operation.kind.name, state=state)

    async def _decide(self, decide: Callable[[MetadataImage], Sequence[Event]]) -> None:
        self._stepped = True
        await self._controller.decide(decide, CALL_TIMEOUT_MS)


def _is_lost(image: MetadataImage, partition: PartitionRecord) -> bool:
    """The move under way leads to a disk that was replaced, or to a node that was removed."""
    return partition.move is not None and not image.admits(partition.move.target)


def _settled(
    image: MetadataImage, operation: OperationRecord, partition: PartitionRecord, has_moved: bool, wall_ms: int
) -> list[Event]:
    """The end of a move, and of the operation where that was all of it."""
    found = image.partition(partition.group)
    if found is None or found[1] != partition:
        return []
    end_move = operating.moved if has_moved else operating.abandoned
    decided = end_move(image, partition.group)
    if operation.kind is OperationKind.MOVE_REPLICA:
        was_late = has_moved and operation.state is OperationState.CANCELLING
        reason = "it had gone too far to be taken back" if was_late else ""
        if not has_moved and operation.state is OperationState.RUNNING:
            reason = "the disk that it led to is not the node's any more"
        decided += operating.ended(image, operation.id, wall_ms, is_cancelled=not has_moved, reason=reason)
    return decided
