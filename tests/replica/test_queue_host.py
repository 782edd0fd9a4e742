"""What a node keeps for the queues of the partitions that it leads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from raftmq.ids import NodeId
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
