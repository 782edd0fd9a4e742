"""Who may answer for a group on this node: its leader, once its term's first entry is applied."""

from __future__ import annotations

import asyncio
from functools import partial

from raftmq.errors import NoLeader, NotLeader
from raftmq.ids import GroupId, Tick
from raftmq.ports import Clock
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.manager import Replicas


def led(replicas: Replicas, group_id: GroupId) -> ReplicaGroup:
    """The replica here that leads the group. Raises NotLeader."""
    group = replicas.group(group_id)
    if group is None or not group.is_leader:
        raise NotLeader("this node does not lead the partition")
    return group


async def until_serving(replicas: Replicas, clock: Clock, group_id: GroupId, deadline: Tick) -> ReplicaGroup:
    """``led``, as soon as it serves: a leader that has only just been elected does not yet, and is waited for. Raises
    NoLeader where it does not until `deadline`."""
    while not (group := led(replicas, group_id)).can_serve():
        serving: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        replicas.barriers.when_serving(group, partial(tell, serving))
        try:
            async with asyncio.timeout(max(1, deadline - clock.tick()) / 1000):
                await serving
        except TimeoutError:
            raise NoLeader("the new leader has not committed its first entry yet: try again") from None
    return group


def tell(future: asyncio.Future[bool], holds: bool) -> None:
    """End a future; the one who waited may have gone."""
    if not future.done():
        future.set_result(holds)
