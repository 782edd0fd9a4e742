"""The replicas of this node, for callers that await: services above, the synchronous pump below."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from raftmq.errors import (
    DataLoss,
    DeadlineExceeded,
    NotLeader,
    NotReady,
    OffsetOutOfRange,
    Outcome,
    Overloaded,
    PreconditionFailed,
)
from raftmq.ids import GroupId, NodeId, Offset, ReplicaId, Term, Tick
from raftmq.ports import BatchRow, Clock, DiskLevel
from raftmq.raft import errors as raft
from raftmq.raft.types import Role
from raftmq.replica.answers import BatchReader, row_of
from raftmq.replica.answers import Bounds as Bounds
from raftmq.replica.answers import Fetched as Fetched
from raftmq.replica.futures import settle
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.intake import Intake
from raftmq.replica.manager import Replicas
from raftmq.replica.produce import OVERLOAD_RETRY_MS
from raftmq.replica.sealing import Draft
from raftmq.replica.serving import led, tell, until_serving

T = TypeVar("T")

CONFIRM_MS = 1_000
"""How long a leader asks for a quorum's word before it says that an offset does not exist."""
BEHIND_MS = 1_000
"""How long a replica that follows waits at least to hear of what its reader knows already."""


class ReplicaHost:
    """Every method runs on the event loop. Errors are ``RaftmqError`` with their outcome.

    NotLeader is raised where another node (or nobody) leads the group: the caller routes.
    """

    def __init__(
        self, replicas: Replicas, reader: BatchReader, clock: Clock, memory_bytes: int, limit_bytes: int = 0
    ) -> None:
        self.replicas = replicas
        self.intake = Intake(replicas, clock, memory_bytes, limit_bytes)
        self.traffic = self.intake.traffic
        self.produce, self.gather = self.intake.produce, self.intake.gather
        self.begin_gather = self.intake.begin_gather
        self._reader = reader
        self._clock = clock

    # -- who leads -------------------------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """Of batches that wait for their acknowledgement."""
        return self.intake.held_bytes

    def leads(self, group_id: GroupId) -> bool:
        """This node leads the group (its first entry of the term may still be under way)."""
        group = self.replicas.group(group_id)
        return group is not None and group.is_leader

    def leader_of(self, group_id: GroupId) -> tuple[NodeId, Term] | None:
        """The leader as far as this node knows, by its own replica or by notice: whichever is of the newer term. Nobody
        tells a replica any more that was taken out of its group, or that a leader had only begun to add."""
        group = self.replicas.group(group_id)
        notice = self.replicas.leaders.get(group_id)
        if group is not None and group.halted is None and (notice is None or notice.term <= group.node.term):
            leader = group.node.leader
            return None if leader is None else (leader.node, group.node.term)
        return None if notice is None else (notice.leader, notice.term)

    def in_sync(self, group_id: GroupId) -> tuple[NodeId, ...]:
        """The in-sync set as the leader told it last; empty if it told none."""
        notice = self.replicas.leaders.get(group_id)
        return () if notice is None else notice.in_sync

    def disk_of(self, node: NodeId) -> DiskLevel:
        """How much room a node's disk has, as far as this one knows."""
        heartbeats = self.replicas.heartbeats
        return heartbeats.disk if node == self.replicas.me.node else heartbeats.disk_of(node)

    def _led(self, group_id: GroupId) -> ReplicaGroup:
        return led(self.replicas, group_id)

    # -- commands --------------------------------------------------------------------------------------------------

    async def command(self, group_id: GroupId, draft: Draft, timeout_ms: int) -> object:
        """Replicate a command and return what the state machine answered."""
        group = self._led(group_id)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        try:
            group.propose_command(draft, partial(settle, answer))
        except raft.NotLeader:
            raise NotLeader("leadership is being handed over") from None
        except raft.TooMuchUncommitted:
            raise Overloaded("too much is waiting for a quorum", retry_after_ms=OVERLOAD_RETRY_MS) from None
        self.replicas.touch(group_id)
        return await self._within(answer, timeout_ms, "the command was appended, but not committed in time")

    # -- records out -----------------------------------------------------------------------------------------------

    async def fetch(
        self, group_id: GroupId, offset: Offset, max_bytes: int, min_bytes: int, max_wait_ms: int
    ) -> Fetched:
        """Batches from `offset` on, at least one if it is visible within `max_wait_ms`; else none."""
        deadline = Tick(self._clock.tick() + max_wait_ms)
        await until_serving(self.replicas, self._clock, group_id, Tick(max(deadline, self._clock.tick() + 1000)))
        return await self._gather(self._led, group_id, offset, max_bytes, min_bytes, deadline)

    async def fetch_replica(
        self, group_id: GroupId, offset: Offset, max_bytes: int, min_bytes: int, max_wait_ms: int, min_offset: Offset
    ) -> Fetched:
        """As ``fetch``, from the replica on this node, which follows: what *it* knows to be committed.

        Raises NotLeader where the replica is not in sync, and NotReady where `offset` and `min_offset` do not come
        within its high watermark in time.
        """
        deadline = Tick(self._clock.tick() + max_wait_ms)
        group, least = self._followed(group_id), max(offset, min_offset)
        if least > group.machine.next_offset:
            await self._visible(group, Offset(least - 1), max(max_wait_ms, BEHIND_MS))
        if least > self._followed(group_id).machine.next_offset:
            raise NotReady(f"this replica's high watermark is {group.machine.next_offset}, below {least}")
        return await self._gather(self._followed, group_id, offset, max_bytes, min_bytes, deadline)

    def follows(self, group_id: GroupId) -> bool:
        """This node holds a replica that follows a leader, and is in sync as far as that leader has told."""
        group = self.replicas.group(group_id)
        notice = self.replicas.leaders.get(group_id)
        return (
            group is not None
            and not group.is_out_of_service
            and group.node.leader not in (None, group.me)
            and notice is not None
            and notice.term == group.node.term
            and group.me.node in notice.in_sync
        )

    def _followed(self, group_id: GroupId) -> ReplicaGroup:
        group = self.replicas.group(group_id)
        if group is None or not (self.follows(group_id) or group.can_serve()):
            raise NotLeader("the replica on this node is not in sync")
        return group

    async def _gather(
        self,
        hold: Callable[[GroupId], ReplicaGroup],
        group_id: GroupId,
        offset: Offset,
        max_bytes: int,
        min_bytes: int,
        deadline: Tick,
    ) -> Fetched:
        """Read until there is enough or `deadline` has passed. ``hold`` raises where this replica must not answer."""
        group = hold(group_id)
        while True:
            await self._readable(group, offset)
            batches = await self._read(group, offset, max_bytes, hold)
            group = hold(group_id)
            wanted = batches[-1].next_offset if batches else offset
            remaining = deadline - self._clock.tick()
            if remaining <= 0 or sum(len(batch.payload) for batch in batches) >= min_bytes:
                break
            if not await self._visible(group, wanted, remaining):
                break
        fetched = Fetched(batches, self._bounds(hold(group_id)))
        self.traffic.read(group_id, batches)
        return fetched

    async def _readable(self, group: ReplicaGroup, offset: Offset) -> None:
        """Raises OffsetOutOfRange, with both bounds.

        Only a leader whom a quorum confirms may say that an offset does not exist: one that was deposed without
        knowing it would end its readers, who have read further elsewhere.
        """
        if offset > group.machine.next_offset:
            await self.barrier(group.id, CONFIRM_MS)
        bounds = self._bounds(group)
        if not bounds.log_start_offset <= offset <= bounds.high_watermark:
            raise OffsetOutOfRange(
                f"offset {offset} is outside [{bounds.log_start_offset}, {bounds.high_watermark}]",
                field="offset",
                metadata={
                    "log_start_offset": str(bounds.log_start_offset),
                    "high_watermark": str(bounds.high_watermark),
                },
            )

    async def reached(self, group_id: GroupId, offset: Offset, wait_ms: int) -> None:
        """Return when the high watermark is at `offset` or above. Raises NotReady where it is not within `wait_ms`."""
        await until_serving(self.replicas, self._clock, group_id, Tick(self._clock.tick() + wait_ms))
        group = self._led(group_id)
        if offset > group.machine.next_offset and not await self._visible(group, Offset(offset - 1), wait_ms):
            raise NotReady(f"the high watermark is {group.machine.next_offset}, below {offset}", field="min_offset")

    async def _read(
        self, group: ReplicaGroup, offset: Offset, max_bytes: int, hold: Callable[[GroupId], ReplicaGroup]
    ) -> list[BatchRow]:
        end = group.machine.next_offset
        if offset >= end:
            return []
        held = group.tail.batches(offset, end, max_bytes)
        if held is not None:
            return [row_of(entry) for entry in held]
        generation = group.generation
        for is_last in (False, True):  # what is damaged stays damaged; a bit that was flipped on its way does not
            try:
                return await self._reader.read_batches(generation, offset, end, max_bytes)
            except DataLoss as loss:
                if group.generation != generation:
                    raise NotReady("a snapshot took this replica's place under the read") from None
                # The topic may have been deleted under the read, or trimmed.
                await self._readable(hold(group.id), offset)
                if is_last:
                    if self.replicas.group(group.id) is group:
                        self.replicas.damage.found(group, loss.message)
                    raise
        raise AssertionError("the last try answers or raises")

    async def _visible(self, group: ReplicaGroup, offset: Offset, wait_ms: int) -> bool:
        """Wait until the record at `offset` is visible; False when the time is over. Raises NotLeader."""
        seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        number = self.replicas.barriers.watch(group, offset, partial(tell, seen))
        try:
            async with asyncio.timeout(wait_ms / 1000):
                if not await seen:
                    raise NotLeader("leadership of the partition was lost while waiting for records")
        except TimeoutError:
            return False
        finally:
            self.replicas.barriers.unwatch(group.id, number)
        return True

    def _bounds(self, group: ReplicaGroup) -> Bounds:
        return Bounds(group.machine.log_start_offset, group.machine.next_offset, group.node.term)

    async def bounds(self, group_id: GroupId, timeout_ms: int) -> Bounds:
        """Linearizable: covers everything that was acknowledged before the call."""
        await self.barrier(group_id, timeout_ms)
        return self._bounds(self._led(group_id))

    async def offset_at(self, group_id: GroupId, wall_ms: int) -> Offset:
        """First visible offset that was appended at `wall_ms` or later; the high watermark where there is none yet.

        As of now on this leader: ask for ``bounds`` first where it must cover what was acknowledged before.
        """
        group = self._led(group_id)
        oldest = group.tail.first_offset
        found = group.tail.offset_at(wall_ms)
        if found is None:
            # What the tail does not hold is on disk; what is on neither has not been appended.
            found = await self._reader.offset_at(group.generation, wall_ms)
            found = oldest if found is None else found
        bounds = self._bounds(self._led(group_id))
        wanted = bounds.high_watermark if found is None else found
        return max(bounds.log_start_offset, min(wanted, bounds.high_watermark))

    async def barrier(self, group_id: GroupId, timeout_ms: int) -> None:
        """Return when this leader is confirmed by a quorum and has applied everything acknowledged before."""
        await until_serving(self.replicas, self._clock, group_id, Tick(self._clock.tick() + timeout_ms))
        group = self._led(group_id)
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.replicas.barriers.barrier(group, self._clock.tick(), partial(tell, confirmed))
        self.replicas.touch(group_id)
        if not await self._within(confirmed, timeout_ms, "no quorum confirmed the read in time", Outcome.NOT_APPLIED):
            raise NotLeader("leadership was lost before a quorum confirmed the read")

    # -- leadership ------------------------------------------------------------------------------------------------

    def transfer(self, group_id: GroupId, to: NodeId | None) -> NodeId:
        """Hand leadership to an in-sync replica: `to`, or the one that is furthest. Returns the target's node.

        Raises NotLeader, or PreconditionFailed where no replica fits.
        """
        group = self._led(group_id)
        leadership = self.replicas.leadership(group_id)
        members = [] if leadership is None else leadership.in_sync.members(self._clock.tick())
        fit = [member for member in members if member != group.me and to in (None, member.node)]
        if not fit:
            which = "no other replica" if to is None else f"node {to} has no replica that"
            raise PreconditionFailed(f"{which} is in sync: leadership stays here", field="to_node_id")
        target: ReplicaId = max(fit, key=lambda member: (group.node.match_index(member), -member.node))
        try:
            group.node.transfer_leadership(target, self._clock.tick())
        except raft.RaftRefusal as refusal:
            raise PreconditionFailed(str(refusal), field="to_node_id") from None
        self.replicas.touch(group_id)
        return target.node

    def led_groups(self) -> list[GroupId]:
        return [group_id for group_id, group in self.replicas.groups.items() if group.node.role is Role.LEADER]

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _within(
        self, answer: asyncio.Future[T], timeout_ms: int, late: str, outcome: Outcome = Outcome.UNKNOWN
    ) -> T:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await answer
        except TimeoutError:
            raise DeadlineExceeded(late, outcome=outcome) from None
