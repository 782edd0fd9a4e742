"""What a node keeps for the queues of the partitions that it leads."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from raftmq.errors import NotLeader
from raftmq.ids import NodeId
from raftmq.metadata.queue_groups import QueueGroupRecord, QueueSettings
from raftmq.replica.queues.calls import Wish
from raftmq.replica.queues.host import QueueHost
from tests.replica.world import GROUP, World


async def test_nothing_is_kept_of_a_partition_that_is_led_here_no_more() -> None:
    world = World()
    world.create_group()
    leader = world.elect()
    log: Any = SimpleNamespace(replicas=world.nodes[NodeId(leader)].replicas)
    host = QueueHost(log, world.time, bytes, lambda _: 1)
    desk = host.desk_of(GROUP)
    host.tidy()
    assert host.desks == {GROUP: desk}
    others = [node for node in world.nodes if node != leader]
    world.cut = {(NodeId(leader), node) for node in others} | {(node, NodeId(leader)) for node in others}
    assert world.run(20_000, lambda: not world.group(leader).is_leader)
    host.tidy()
    assert desk.is_closed
    assert host.desks == {}


async def test_who_needs_something_proposed_while_leadership_is_handed_over_is_told_so_at_once() -> None:
    """The desk once asked again in the next pass of the loop, and in each one after it."""
    world = World()
    world.create_group()
    leader = world.elect()
    log: Any = SimpleNamespace(replicas=world.nodes[NodeId(leader)].replicas)
    desk = QueueHost(log, world.time, bytes, lambda _: 1).desk_of(GROUP)
    node = world.group(leader).node
    node.transfer_leadership(
        next(one for one in node.membership.voters_in_order if one.node != leader), world.time.tick()
    )
    line = desk.line(QueueGroupRecord(7, 1, "workers", QueueSettings()))  # the partition has to be told of it first
    waiter = line.wait(Wish("a", 1, 1_000, 1_000))
    for _ in range(10):
        await asyncio.sleep(0)
    assert waiter.answer.done()
    with pytest.raises(NotLeader):
        waiter.answer.result()
