"""What a node does about the cluster by itself, again and again: registers, and as controller fences and balances."""

from __future__ import annotations

import asyncio

import structlog

from raftmq.controller.controller import Controller, Forward
from raftmq.controller.metadata_group import MetadataGroup
from raftmq.controller.sessions import Sessions
from raftmq.errors import NoLeader, NotReady, RaftmqError
from raftmq.ids import CONTROLLER_GROUP, GroupId, ReplicaId, Term
from raftmq.metadata.balance import Transfer, plan_transfers
from raftmq.metadata.events import NodeRegistered
from raftmq.metadata.image import MetadataImage
from raftmq.ports import Clock, DiskLevel
from raftmq.replica.host import ReplicaHost
from raftmq.v1 import cluster_pb2

_log = structlog.get_logger(__name__)

TRANSFER_LEADER = "/raftmq.v1.Cluster/TransferLeader"
INTERVAL_S = 0.25
CALL_TIMEOUT_MS = 3_000
BALANCE_EVERY = 8
"""In intervals: leaders are moved back every two seconds, a few at a time."""
TRANSFERS_AT_ONCE = 10
REST_AFTER_TRANSFER_MS = 60_000
"""A group whose leader was asked to move is left alone for so long, whatever came of it."""

REST_AFTER_YIELD_MS = 10_000


class Caretaker:
    """Runs until cancelled. Whatever fails is tried again in the next interval: nothing here is urgent."""

    def __init__(
        self,
        controller: Controller,
        host: ReplicaHost,
        me: NodeRegistered,
        forward: Forward,
        clock: Clock,
        session_timeout_ms: int,
    ) -> None:
        self._controller = controller
        self._host = host
        self._me = me
        self._forward = forward
        self._session_timeout_ms = session_timeout_ms
        self._clock = clock
        self._term: Term | None = None
        self._sessions: Sessions | None = None
        self._resting: dict[GroupId, int] = {}
        self._yielded: dict[GroupId, int] = {}
        self._complained: str | None = None
        self._registered_in: MetadataImage | None = None
        """Metadata that were found to know this node as it is."""
        self.metadata_group = MetadataGroup(host.replicas, clock, lambda one: self._silence(one) >= session_timeout_ms)

    async def run(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(INTERVAL_S)
            rounds += 1
            try:
                self._make_way()
                await self._register()
                if self._leads():
                    self.metadata_group.follow(self._controller.image)
                    await self._controller.raise_version(CALL_TIMEOUT_MS)
                    await self._watch_sessions()
                    if rounds % BALANCE_EVERY == 0:
                        await self._balance()
                self._complained = None
            except RaftmqError as error:
                self._complain(error)
            except Exception:  # noqa: BLE001  a mistake here must not leave the node without upkeep for good
                _log.exception("cluster upkeep failed")

    def _complain(self, error: RaftmqError) -> None:
        """Once per reason: an interval later it is probably the same."""
        if error.reason != self._complained:
            self._complained = error.reason
            _log.info("cluster upkeep waits", reason=error.reason, detail=error.message)

    async def _register(self) -> None:
        image = self._controller.image
        if image is self._registered_in:
            return
        known = image.nodes.get(self._me.id.node)
        if known is not None and known.id == self._me.id and image.replay(self._me).nodes == image.nodes:
            self._registered_in = image
            return
        if self.is_removed:
            raise NotReady("this node was removed from the cluster: stop it")
        try:
            await self._controller.register(self._me, CALL_TIMEOUT_MS)
        except NoLeader:
            if image.nodes:
                raise
            raise NotReady(
                "no leader of the controller is heard. If this node is new to the cluster, admit it: "
                f"raftmq cluster add-node {self._me.id.node} --peer {self._me.peer_host}:{self._me.peer_port}"
            ) from None

    @property
    def is_removed(self) -> bool:
        """An operator has removed this node from the cluster, as far as it was told."""
        return self._me.id in self._controller.image.removed

    def _make_way(self) -> None:
        """With too little room on its disk this node should lead no partition that a replica with room could lead."""
        now = self._clock.tick()
        self._yielded = {group: until for group, until in self._yielded.items() if until > now}
        if self._host.replicas.heartbeats.disk is DiskLevel.AMPLE:
            return
        candidates = [group for group in self._host.led_groups() if group not in {CONTROLLER_GROUP, *self._yielded}]
        for group in candidates[:TRANSFERS_AT_ONCE]:
            self._yielded[group] = now + REST_AFTER_YIELD_MS
            try:
                target = self._host.transfer(group, None)
            except RaftmqError as refusal:
                _log.info("leadership stays on a low disk", group=group, reason=refusal.message)
            else:
                _log.info("making way", group=group, to=target)

    def _leads(self) -> bool:
        group = self._host.replicas.group(CONTROLLER_GROUP)
        if group is None or not group.can_serve():
            self._term = None
            return False
        if group.node.term != self._term:
            self._term = group.node.term
            self._sessions = Sessions(self._clock.tick(), self._session_timeout_ms, self._silence)
        return True

    def _silence(self, member: ReplicaId) -> int:
        """An empty or swapped disk under a known node id is no sign of life of the replicas that were placed there."""
        replicas = self._host.replicas
        strange = member.node != replicas.me.node and replicas.heartbeats.store_of(member.node) != member.store
        return self._session_timeout_ms if strange else replicas.silence(member.node)

    async def _watch_sessions(self) -> None:
        assert self._sessions is not None
        fence, unfence = self._sessions.observe(self._controller.image, self._clock.tick())
        if fence or unfence:
            _log.info("sessions changed", fenced=fence, unfenced=unfence)
            await self._controller.fence(fence, unfence, CALL_TIMEOUT_MS)

    async def _balance(self) -> None:
        assert self._sessions is not None
        now = self._clock.tick()
        self._resting = {group: until for group, until in self._resting.items() if until > now}
        image = self._controller.image
        leaders = self._controller.leaders()
        planned = plan_transfers(
            image,
            leaders,
            {group: self._host.in_sync(group) for group in leaders},
            {node: self._sessions.age(node, now) for node in image.nodes},
            limit=TRANSFERS_AT_ONCE,
            resting=self._resting,
        )
        for transfer in planned:
            self._resting[transfer.group] = now + REST_AFTER_TRANSFER_MS
            await self._transfer(transfer)

    async def _transfer(self, transfer: Transfer) -> None:
        found = self._controller.image.partition(transfer.group)
        if found is None:
            return
        topic, partition = found
        _log.info("moving leader back", topic=topic.name, partition=partition.partition, to=transfer.target)
        if transfer.source == self._controller.node_id:
            self._host.transfer(transfer.group, transfer.target)
            return
        request = cluster_pb2.TransferLeaderRequest(
            topic=topic.name, partition=partition.partition, to_node_id=transfer.target
        )
        await self._forward(transfer.source, TRANSFER_LEADER, request.SerializeToString(), CALL_TIMEOUT_MS)
