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
from raftmq.replica.together import AlreadyProcessed
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


def leased(records: int = 1) -> World:
    """Records from 0 on are with lease 1, for 500 ms."""
    world = World()
    world.create_group()
    published = world.produce(world.elect(), *[b"work"] * records)
    assert world.run(5_000, lambda: bool(published))
    ops = (Configure(GROUP, QueueSettings(lease_ms=500), Offset(0)), Introduce(GROUP, Offset(0), Offset(records)))
    answered = ask(world, *ops, Grant(GROUP, "w", records, SECRET))
    assert world.run(5_000, lambda: bool(answered))
    assert isinstance(answered[0], Applied)
    return world


def ack(lease: int = 1, offset: int = 0, key: bytes = b"") -> Settle:
    return Settle(GROUP, LeaseId(lease), SECRET, Verdict.ACK, (offset,), processed_keys=(key,) if key else ())


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


def test_verdicts_on_other_records_need_not_wait_for_each_other() -> None:
    world = leased(records=2)
    number = world.elect()
    answers = world.produce(number, b"one", settles=(ack(offset=0, key=b"a"),))
    answers_too = world.produce(number, b"two", settles=(ack(offset=1, key=b"b"),))
    assert not answers
    with pytest.raises(Unavailable):
        world.produce(number, b"three", settles=(ack(offset=1, key=b"c"),))
    assert world.run(5_000, lambda: bool(answers and answers_too) and depths(world) == [(2, 0)] * 3)
    assert isinstance(answers_too[0], Ack)
    assert world.records(1) == [[b"work", b"work"], [b"one"], [b"two"]]


def test_work_under_a_key_that_is_known_is_not_published_again() -> None:
    world = leased(records=2)
    number = world.elect()
    answers = world.produce(number, b"one", settles=(ack(offset=0, key=b"a"),))
    with pytest.raises(Unavailable):  # nobody can say yet
        world.produce(number, b"again", settles=(ack(offset=1, key=b"a"),))
    assert world.run(5_000, lambda: bool(answers))
    with pytest.raises(AlreadyProcessed) as caught:
        world.produce(number, b"again", settles=(ack(offset=1, key=b"a"),))
    assert caught.value.keys == {b"a"}
    assert world.records(number) == [[b"work", b"work"], [b"one"]]
    machine = world.group(number).machine
    assert isinstance(machine, PartitionMachine)
    known = machine.queues.groups[GROUP].processed.get(b"a")
    assert known is not None
    assert (known.offset, known.wall_ms) == (0, answers[0].wall_ms)  # type: ignore[union-attr]
