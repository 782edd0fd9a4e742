"""Acknowledge and publish in one entry, through the pump."""

from __future__ import annotations

import pytest

from raftmq.errors import LeaseExpired, RaftmqError, Unavailable
from raftmq.ids import LeaseId, NodeId, Offset, QueueId
from raftmq.partition import commands
from raftmq.partition.machine import Applied, PartitionMachine
from raftmq.partition.queues.commands import Configure, Grant, Introduce, QueueCommand, QueueOp, Settle, Verdict
from raftmq.partition.queues.settings import QueueSettings
from raftmq.replica.sealing import Draft
from raftmq.replica.waits import Ack
from tests.replica.world import GROUP as PARTITION
from tests.replica.world import World

GROUP = QueueId(7)
SECRET = bytes(16)


def ask(world: World, *ops: QueueOp) -> list[object]:
    """What the ops are answered, when they are."""
    number = world.elect()
    answers: list[object] = []
    group = world.group(number)
    command = QueueCommand(ops)
    stamp = group.stamp(world.time.tick(), world.time.wall_ms())
    draft = Draft(commands.QUEUE_VERSION, 0, commands.encode(command), stamp=stamp)
    group.propose_command(draft, answers.append)
    world.nodes[NodeId(number)].replicas.touch(PARTITION)
    return answers


def leased() -> World:
    """Record 0 is with lease 1, for 500 ms."""
    world = World()
    world.create_group()
    published = world.produce(world.elect(), b"work")
    assert world.run(5_000, lambda: bool(published))
    ops = (Configure(GROUP, QueueSettings(lease_ms=500), Offset(0)), Introduce(GROUP, Offset(0), Offset(1)))
    answered = ask(world, *ops, Grant(GROUP, "w", 1, SECRET))
    assert world.run(5_000, lambda: bool(answered))
    assert isinstance(answered[0], Applied)
    return world


def ack(lease: int = 1) -> Settle:
    return Settle(GROUP, LeaseId(lease), SECRET, Verdict.ACK, (0,))


def depths(world: World) -> list[tuple[int, int]]:
    """(closed, leased) on each node."""
    machines = [world.group(number).machine for number in (1, 2, 3)]
    groups = [machine.queues.groups[GROUP] for machine in machines if isinstance(machine, PartitionMachine)]
    return [(group.closed, group.leases.outstanding) for group in groups]


def test_both_count_on_every_replica() -> None:
    world = leased()
    answers: list[Ack | RaftmqError] = world.produce(world.elect(), b"result", settles=(ack(),))
    assert world.run(5_000, lambda: bool(answers) and depths(world) == [(1, 0)] * 3)
    assert isinstance(answers[0], Ack)
    assert world.records(1) == [[b"work"], [b"result"]]


def test_neither_counts_where_the_lease_does_not() -> None:
    world = leased()
    with pytest.raises(LeaseExpired):
        world.produce(world.elect(), b"result", settles=(ack(lease=2),))
    assert world.records(world.elect()) == [[b"work"]]


def test_what_is_under_way_is_waited_for() -> None:
    world = leased()
    answered = ask(world, ack())
    with pytest.raises(Unavailable):
        world.produce(world.elect(), b"result", settles=(ack(),))
    assert world.run(5_000, lambda: bool(answered))
    with pytest.raises(LeaseExpired):
        world.produce(world.elect(), b"result", settles=(ack(),))
