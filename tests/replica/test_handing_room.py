"""Acknowledge and publish to a partition that is full, under the policy that lets its producers wait; on simulated
nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from raftmq.errors import LeaseExpired, Outcome, Overloaded, QueueFull
from raftmq.metadata.depth import DepthLimit, Overflow
from raftmq.records.batch import check_batch, make_batch
from raftmq.replica.queues.calls import Claim, Handover, Ruling, Verdict, Wish
from raftmq.replica.waits import Ack, Acks
from raftmq.v1 import types_pb2
from tests.controller.nodes import formed
from tests.replica.test_depth import batch
from tests.replica.test_queue_holding import GROUP, Queue

LIMIT = DepthLimit(max_records=3, overflow=Overflow.BLOCK)
LEASE_MS = 30_000


class Full(Queue):
    """A partition with as many records as it may have, all of them leased."""

    def fill(self, lease_ms: int = LEASE_MS) -> list[Claim]:
        self.form(retention_bytes=0)
        for value in (b"0", b"1", b"2"):
            self.produce(self.lead, value)
        return self.take(3, lease_ms)

    def take(self, count: int, lease_ms: int = LEASE_MS) -> list[Claim]:
        queues = self.assembly(self.lead).queues
        received = self.do(self.lead, queues.receive(GROUP, self.known, Wish("w", 10, 1 << 20, lease_ms), 5_000))
        assert len(received.deliveries) == count
        return [Claim(one.lease, one.offset, received.secret) for one in received.deliveries]

    def ack(self, claim: Claim) -> None:
        queues = self.assembly(self.lead).queues
        self.do(self.lead, queues.settle(GROUP, self.known, [claim], Ruling(Verdict.ACK), 5_000))

    def hand_over(
        self, claim: Claim, timeout_ms: int = 20_000, limit: DepthLimit = LIMIT
    ) -> asyncio.Task[Ack | list[int]]:
        asked = check_batch(
            make_batch([types_pb2.Record(value=b"result")], message_id=f"{claim.offset}"), max_batch_bytes=1 << 20
        )
        what = Handover([claim], [], asked, Acks.ALL, 2, limit)
        work = self.assembly(self.lead).queues.hand_over(GROUP, self.known, what, timeout_ms)
        return self.process(self.lead).loop.create_task(work)


@pytest.fixture
def full() -> Iterator[Full]:
    with formed(Full()) as cluster:
        yield cluster


def test_it_waits_for_room_in_turn_with_those_who_produce(full: Full) -> None:
    claims = full.fill()
    first = full.hand_over(claims[2])
    full.pass_time(1)
    loop, host = full.process(full.lead).loop, full.host(full.lead)
    second = loop.create_task(host.produce(GROUP, batch(), Acks.ALL, 2, 20_000, None, LIMIT))
    full.pass_time(3)
    assert not first.done()
    assert not second.done()
    full.ack(claims[0])  # also: a verdict need not wait for those who wait for room
    full.until(first.done)
    answer = first.result()
    assert isinstance(answer, Ack)
    assert (answer.base_offset, second.done()) == (3, False)
    full.ack(claims[1])  # the one behind it was acknowledged with what was published
    full.until(second.done)
    assert second.result().base_offset == 4
    assert host.held_bytes == 0


def test_who_waits_in_vain_is_told_so_in_time_and_holds_its_message(full: Full) -> None:
    claims = full.fill()
    began = full.agenda.now
    task = full.hand_over(claims[0], timeout_ms=2_000)
    full.until(task.done)
    assert 1_000_000 < full.agenda.now - began <= 2_000_000
    with pytest.raises(QueueFull) as refused:
        task.result()
    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert full.host(full.lead).held_bytes == 0
    full.ack(claims[0])


@pytest.mark.parametrize("limit", [replace(LIMIT, overflow=Overflow.REJECT), replace(LIMIT, max_records=4)])
def test_nobody_waits_without_need(full: Full, limit: DepthLimit) -> None:
    claims = full.fill()
    began = full.agenda.now
    task = full.hand_over(claims[0], limit=limit)
    full.until(task.done)
    assert full.agenda.now - began < 1_000_000
    refusal = task.exception()
    assert isinstance(refusal, QueueFull) if limit.overflow is Overflow.REJECT else refusal is None


def test_whose_lease_ends_while_it_waits_publishes_nothing(full: Full) -> None:
    claims = full.fill(lease_ms=2_000)
    task = full.hand_over(claims[0])
    full.until(task.done, seconds=10)
    with pytest.raises(LeaseExpired) as refused:
        task.result()
    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert full.machine.next_offset == 3


def test_those_who_wait_count_in_the_memory_that_producers_may_hold(full: Full) -> None:
    claims = full.fill()
    lead = full.lead
    host = full.host(lead)
    waiting = [full.hand_over(claim) for claim in claims]
    full.pass_time(1)
    assert host.held_bytes > 0
    host.intake.memory_bytes = host.held_bytes
    refused = full.hand_over(claims[0])
    full.until(refused.done)
    assert isinstance(refused.exception(), Overloaded)
    for task in waiting:
        task.cancel()
    full.pass_time(1)
    assert host.held_bytes == 0
    for claim in claims:
        full.ack(claim)
    assert full.machine.next_offset == 3, "those who went have published nothing"


def test_memory_is_given_back_once_where_the_caller_goes_in_the_moment_of_the_append(full: Full) -> None:
    """The batch is in the log by then: what waits for its acknowledgement gives the memory back, and nobody else."""
    claims = full.fill()
    host = full.host(full.lead)
    desk = full.assembly(full.lead).queues.desk_of(GROUP)
    task = full.hand_over(claims[0], limit=replace(LIMIT, max_records=10))
    appended = desk.alone

    def alone(turn: object) -> None:
        def turned(error: object) -> None:
            turn(error)  # type: ignore[operator]
            task.cancel()

        appended(turned)

    desk.alone = alone  # type: ignore[method-assign]
    full.until(task.done)
    assert task.cancelled()
    full.until(lambda: full.machine.next_offset == 4)
    full.pass_time(1)
    assert host.held_bytes == 0
