"""What a member believes of what it is told late."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.membership import MemberSettings, Membership, Partition
from raftmq.client.retry import RetryPolicy
from raftmq.client.router import Router
from raftmq.v1 import groups_pb2

SESSION_MS = 500


class Coordinator(CoordinatorCalls):
    """Its first answer takes longer than a session."""

    def __init__(self) -> None:
        super().__init__(cast(Router, SimpleNamespace(policy=RetryPolicy())), "billing")
        self.members: list[str] = []

    async def once(self, select: Any, request: Any, *, timeout_ms: int) -> Any:
        self.members.append(request.member_id)
        is_first = len(self.members) == 1
        if is_first or request.member_epoch:
            await asyncio.sleep(2 * SESSION_MS / 1000)
        assigned = [groups_pb2.TopicPartitions(topic="orders", partitions=[0 if is_first else 1])]
        return groups_pb2.HeartbeatResponse(member_epoch=1, assigned=assigned)


class Owner:
    def __init__(self) -> None:
        self.told: asyncio.Queue[frozenset[Partition]] = asyncio.Queue()

    def assigned(self, partitions: frozenset[Partition]) -> None:
        self.told.put_nowait(partitions)

    def lost(self) -> None:
        """Nothing is read yet."""

    def failed(self, error: Exception) -> None:
        raise error

    def reading(self) -> tuple[Partition, ...]:
        return ()


async def test_an_assignment_that_is_told_a_session_late_is_not_believed() -> None:
    coordinator, owner = Coordinator(), Owner()
    membership = Membership(coordinator, MemberSettings(("orders",), 0, SESSION_MS, 60_000), owner)
    membership.start()
    try:
        assert await owner.told.get() == {("orders", 1)}, "partition 0 may be another's since"
        assert coordinator.members[1] != coordinator.members[0], "it joins as somebody else"
    finally:
        await membership.stop()
