"""Acknowledge and publish at the desk of a partition: its turn comes when nothing is under way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from raftmq.errors import DeadlineExceeded, MessageTooLarge, NotLeader, Outcome
from raftmq.ids import LeaseId, NodeId, Offset
from raftmq.metadata.depth import NO_LIMIT
from raftmq.metadata.queue_groups import QueueGroupRecord, QueueSettings
from raftmq.partition.queues.commands import Extend, Extended, Hold, Settle, Verdict
from raftmq.records.batch import check_batch, make_batch
from raftmq.replica.intake import Intake
from raftmq.replica.queues.calls import Claim, Handover
from raftmq.replica.queues.desk import ENTRY_BYTES
from raftmq.replica.queues.host import QueueHost
from raftmq.replica.queues.line import Sharing
from raftmq.replica.waits import Ack, Acks
from raftmq.v1 import types_pb2
from tests.replica.test_verdicts_with_batch import GROUP, SECRET, depths, leased
from tests.replica.world import GROUP as PARTITION
from tests.replica.world import World

RECORD = QueueGroupRecord(int(GROUP), 1, "workers", QueueSettings())
LIMIT_MS = 60_000


def host_of(world: World) -> QueueHost:
    replicas = world.nodes[NodeId(world.elect())].replicas

    async def reached(*_: object) -> None:
        """It serves."""

    log: Any = SimpleNamespace(replicas=replicas, intake=Intake(replicas, world.time, 1 << 20), reached=reached)
    return QueueHost(log, world.time, bytes, lambda _: Sharing(1, True))


def handover(offset: int, value: bytes, key: bytes = b"") -> Handover:
    batch = check_batch(make_batch([types_pb2.Record(value=value)], message_id=f"{offset}"), max_batch_bytes=1 << 20)
    return Handover([Claim(1, offset, SECRET)], [key] if key else [], batch, Acks.ALL, 2, NO_LIMIT)


async def drive(world: World, *tasks: asyncio.Task[Any]) -> None:
    """Let both the loop and the world go on until the tasks are done."""
    while not all(task.done() for task in tasks):
        for _ in range(10):
            await asyncio.sleep(0)
        world.run(1)


def hand_over(host: QueueHost, what: Handover, limit_ms: int = LIMIT_MS) -> asyncio.Task[Ack | list[int]]:
    return asyncio.create_task(host.hand_over(PARTITION, RECORD, what, limit_ms))


async def test_it_waits_for_what_was_asked_before_and_goes_before_what_is_asked_later() -> None:
    world = leased(records=2)
    host = host_of(world)
    desk = host.desk_of(PARTITION)
    before = asyncio.create_task(desk.ask(Extend(GROUP, LeaseId(1), SECRET, 400)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it is under way
    first, second = hand_over(host, handover(0, b"one")), hand_over(host, handover(1, b"two"))
    await drive(world, before, first, second)
    assert isinstance(before.result(), Extended)
    answers = first.result(), second.result()
    assert all(isinstance(answer, Ack) for answer in answers)
    assert world.run(5_000, lambda: depths(world) == [(2, 0)] * 3)
    assert world.records(1) == [[b"work", b"work"], [b"one"], [b"two"]]


async def test_the_same_again_is_a_duplicate_and_another_message_of_the_work_publishes_nothing() -> None:
    world = leased(records=2)
    host = host_of(world)
    for is_repeated in (False, True):
        task = hand_over(host, handover(0, b"one", key=b"a"))
        await drive(world, task)
        answer = task.result()
        assert isinstance(answer, Ack)
        assert answer.duplicate is is_repeated
    task = hand_over(host, handover(1, b"again", key=b"a"))
    await drive(world, task)
    assert task.result() == [0]
    assert world.run(5_000, lambda: depths(world) == [(2, 0)] * 3)
    assert world.records(1) == [[b"work", b"work"], [b"one"]]


async def test_whose_turn_does_not_come_has_surely_done_nothing() -> None:
    world = leased()
    host = host_of(world)
    desk = host.desk_of(PARTITION)
    before = asyncio.create_task(desk.ask(Extend(GROUP, LeaseId(1), SECRET, 400)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded) as caught:  # the world stands still
        await hand_over(host, handover(0, b"one"), limit_ms=1)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    late = hand_over(host, handover(0, b"one"))
    for _ in range(3):
        await asyncio.sleep(0)
    desk.close()
    with pytest.raises(NotLeader):
        await late
    await drive(world, before)
    assert depths(world) == [(0, 1)] * 3


async def test_what_is_gathered_becomes_entries_that_other_nodes_take() -> None:
    """While a turn is waited for ops gather without end; together they could be more than a message may hold."""
    world = leased()
    host = host_of(world)
    desk = host.desk_of(PARTITION)
    keys = tuple(bytes([number]) * 250 for number in range(200))
    op = Settle(GROUP, LeaseId(99), SECRET, Verdict.ACK, tuple(range(200)), processed_keys=keys)
    before = world.group(world.elect()).node.last_index
    tasks = [asyncio.create_task(desk.ask(op)) for _ in range(60)]
    await drive(world, *tasks)
    written = world.group(world.elect()).node.last_index - before
    assert written >= 60 * 200 * 250 // ENTRY_BYTES
    assert written < 60, "they share entries all the same"


async def test_an_op_that_no_other_node_would_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmq.replica.queues.desk.OP_BYTES_MAX", 10_000)
    world = leased()
    desk = host_of(world).desk_of(PARTITION)
    before = world.group(world.elect()).node.last_index
    task = asyncio.create_task(desk.ask(Hold(Offset(0), bytes(20_000))))
    with pytest.raises(MessageTooLarge):
        await task
    assert world.group(world.elect()).node.last_index == before


async def test_a_turn_that_nobody_waits_for_is_not_kept() -> None:
    world = leased()
    host = host_of(world)
    desk = host.desk_of(PARTITION)
    before = asyncio.create_task(desk.ask(Extend(GROUP, LeaseId(1), SECRET, 400)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it is under way
    with pytest.raises(DeadlineExceeded):  # the world stands still
        await hand_over(host, handover(0, b"one"), limit_ms=1)
    assert not desk._turns
    await drive(world, before)
