"""What a partition's queues refuse, and what they say of groups that the partition has not heard of; on simulated
nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from raftmq.errors import (
    DeadlineExceeded,
    LeaseExpired,
    NotLeader,
    OffsetOutOfRange,
    Outcome,
    QueuePaused,
    RaftmqError,
    UnknownQueueGroup,
)
from raftmq.ids import Offset, QueueId
from raftmq.metadata.depth import NO_LIMIT
from raftmq.partition.queues import commands
from raftmq.partition.queues.commands import Refusal, Refused, Status
from raftmq.replica.queues.calls import Claim, Depth, Handover, Ruling, Verdict, Wish
from raftmq.replica.queues.host import QueueHost
from raftmq.replica.queues.looking import Pace, ParkedFilter, Place, RedriveCount
from raftmq.replica.waits import Ack, Acks
from tests.controller.nodes import formed
from tests.replica.test_host import batch
from tests.replica.test_queue_holding import GROUP, Queue

LIMIT_MS = 5_000
SECRET = bytes(16)


class Asked(Queue):
    """A partition with two records, and what its leader is asked."""

    def fill(self) -> None:
        self.form(retention_bytes=0)
        for value in (b"0", b"1"):
            self.produce(self.lead, value)

    @property
    def queues(self) -> QueueHost:
        return self.assembly(self.lead).queues

    def run_there(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.do(self.lead, work)

    def take(self, lease_ms: int = 30_000) -> list[Claim]:
        received = self.run_there(self.queues.receive(GROUP, self.known, Wish("w", 2, 1 << 20, lease_ms), LIMIT_MS))
        return [Claim(one.lease, one.offset, received.secret) for one in received.deliveries]

    def rule(self, claims: list[Claim], verdict: Verdict = Verdict.ACK) -> list[Status]:
        said: list[Status] = self.run_there(
            self.queues.settle(GROUP, self.known, claims, Ruling(verdict, reason="bad"), LIMIT_MS)
        )
        return said

    def extend(self, claims: list[Claim]) -> list[Status]:
        said: list[Status] = self.run_there(self.queues.extend(GROUP, self.known, claims, 60_000, LIMIT_MS))
        return said

    def hand_over(self, claims: list[Claim]) -> Ack | list[int]:
        what = Handover(claims, [], batch(b"result"), Acks.ALL, 2, NO_LIMIT)
        told: Ack | list[int] = self.run_there(self.queues.hand_over(GROUP, self.known, what, LIMIT_MS))
        return told


@pytest.fixture
def queue() -> Iterator[Asked]:
    with formed(Asked()) as cluster:
        cluster.fill()
        yield cluster


def wrong(claim: Claim) -> dict[str, Claim]:
    """Claims that nobody was ever given."""
    return {
        "another lease": claim._replace(lease=claim.lease + 1),
        "no lease": claim._replace(lease=0),
        "another secret": claim._replace(secret=bytes(len(claim.secret) - 1) + b"\1"),
        "no secret": claim._replace(secret=b""),
        "a record beyond the log": claim._replace(offset=2**62),
    }


@pytest.mark.parametrize("what", list(wrong(Claim(1, 0, SECRET))))
def test_who_claims_what_it_was_not_given_changes_nothing(queue: Asked, what: str) -> None:
    mine = queue.take()
    claim = wrong(mine[0])[what]
    for verdict in Verdict:
        assert queue.rule([claim], verdict) == [Status.LEASE_EXPIRED]
    if claim.offset == mine[0].offset:  # a lease is extended whole: which of its messages is named does not matter
        assert queue.extend([claim]) == [Status.LEASE_EXPIRED]
    with pytest.raises(LeaseExpired) as refused:
        queue.hand_over([claim])
    assert refused.value.outcome is Outcome.NOT_APPLIED
    with pytest.raises(LeaseExpired):
        queue.hand_over([mine[1], claim])
    assert queue.machine.next_offset == 2
    assert queue.rule([mine[0], claim, mine[1]]) == [Status.OK, Status.LEASE_EXPIRED, Status.OK]


def test_a_lease_that_is_over_allows_nothing(queue: Asked) -> None:
    mine = queue.take(lease_ms=500)
    queue.pass_time(3)
    assert queue.rule(mine) == queue.extend(mine) == [Status.LEASE_EXPIRED] * 2
    with pytest.raises(LeaseExpired):
        queue.hand_over(mine)
    assert [claim.offset for claim in queue.take()] == [0, 1]


def test_what_was_said_cannot_be_unsaid(queue: Asked) -> None:
    mine = queue.take()
    assert queue.rule(mine[:1]) == [Status.OK]
    assert queue.rule(mine[:1], Verdict.RETRY) == [Status.LEASE_EXPIRED]
    with pytest.raises(LeaseExpired):
        queue.hand_over(mine[:1])
    assert queue.rule(mine[:1]) == [Status.DUPLICATE]
    assert queue.extend(mine[1:]) == [Status.OK]


def test_a_paused_group_gives_nothing_and_takes_verdicts(queue: Asked) -> None:
    mine = queue.take()
    known = queue.known
    paused = replace(known, settings=replace(known.settings, paused=True))
    with pytest.raises(QueuePaused) as refused:
        queue.run_there(queue.queues.receive(GROUP, paused, Wish("w", 1, 1 << 20, 1_000), 0))
    assert refused.value.retry_after_ms > 0
    assert queue.rule(mine) == [Status.OK, Status.OK]


@pytest.mark.parametrize("offset", [2, 3, 2**62])
def test_a_record_that_there_is_not_cannot_be_cancelled(queue: Asked, offset: int) -> None:
    with pytest.raises(OffsetOutOfRange) as refused:
        queue.run_there(queue.queues.cancel(GROUP, queue.known, Offset(offset), LIMIT_MS))
    assert (refused.value.field, refused.value.outcome) == ("offset", Outcome.NOT_APPLIED)


def test_a_record_that_waits_for_nothing_is_not_cancelled(queue: Asked) -> None:
    assert queue.run_there(queue.queues.cancel(GROUP, queue.known, Offset(0), LIMIT_MS)) is False
    assert queue.take()[0].offset == 0, "it is delivered"


def test_of_a_group_that_the_partition_has_not_heard_of_there_is_nothing(queue: Asked) -> None:
    new = replace(queue.known, id=99, name="new")
    queues = queue.queues
    for place in Place:
        assert queue.run_there(queues.peek(GROUP, new, place, 0, 10)) == ([], None)
    assert queue.run_there(queues.unrouted(GROUP, new, 0, 10)) == []
    assert queue.run_there(queues.processed(GROUP, new, [b"k"], LIMIT_MS)) == []
    count = queue.run_there(queues.redrive(GROUP, new, ParkedFilter(), Pace(10), LIMIT_MS))
    assert count == RedriveCount(0, 0, 0)
    assert queue.run_there(queues.depth(GROUP, new)) == Depth(None, 2)
    claims = [Claim(1, 0, SECRET)]
    statuses = queue.run_there(queues.settle(GROUP, new, claims, Ruling(Verdict.ACK), LIMIT_MS))
    assert statuses == [Status.LEASE_EXPIRED]
    what = Handover(claims, [], batch(b"result"), Acks.ALL, 2, NO_LIMIT)
    with pytest.raises(LeaseExpired):
        queue.run_there(queues.hand_over(GROUP, new, what, LIMIT_MS))


def test_offsets_that_are_not_parked_are_not_redriven_nor_routed(queue: Asked) -> None:
    queue.rule(queue.take()[:1], Verdict.PARK)
    wanted = ParkedFilter(offsets=frozenset({0, 1, 7}))
    count = queue.run_there(queue.queues.redrive(GROUP, queue.known, wanted, Pace(10, dry_run=True), LIMIT_MS))
    assert count == RedriveCount(1, 0, 0)
    group = QueueId(queue.known.id)
    for op in (commands.Redrive(group, (1, 7)), commands.Routed(group, (1, 7), True, (1, 1))):
        queue.run_there(queue.queues.ask(GROUP, queue.known, op, LIMIT_MS))
    assert list(queue.machine.queues.groups[group].parked.offsets) == [0]


def test_what_nobody_needs_is_not_held(queue: Asked) -> None:
    queue.rule(queue.take())
    for offset in (0, 7):
        answer = queue.run_there(
            queue.queues.ask(GROUP, queue.known, commands.Hold(Offset(offset), b"record"), LIMIT_MS)
        )
        assert answer == Refused(Refusal.NOT_NEEDED)
    assert queue.machine.queues.held.bytes == 0


def test_another_node_refuses_everything_and_changes_nothing(queue: Asked) -> None:
    mine = queue.take()
    other = queue.others(queue.lead)[0]
    queues, known = queue.assembly(other).queues, queue.known
    asked: list[Coroutine[Any, Any, Any]] = [
        queues.receive(GROUP, known, Wish("w", 1, 1_000, 1_000), 0),
        queues.settle(GROUP, known, mine, Ruling(Verdict.ACK), LIMIT_MS),
        queues.extend(GROUP, known, mine, 1_000, LIMIT_MS),
        queues.hand_over(GROUP, known, Handover(mine, [], batch(b"r"), Acks.ALL, 2, NO_LIMIT), LIMIT_MS),
        queues.depth(GROUP, known),
        queues.peek(GROUP, known, Place.PARKED, 0, 1),
        queues.unrouted(GROUP, known, 0, 1),
        queues.redrive(GROUP, known, ParkedFilter(), Pace(1), LIMIT_MS),
        queues.cancel(GROUP, known, Offset(0), LIMIT_MS),
        queues.processed(GROUP, known, [b"k"], LIMIT_MS),
        queues.ask(GROUP, known, commands.Resume(QueueId(known.id)), LIMIT_MS),
    ]
    for work in asked:
        with pytest.raises(NotLeader) as refused:
            queue.do(other, work)
        assert refused.value.outcome is Outcome.NOT_APPLIED
    assert queue.rule(mine) == [Status.OK, Status.OK]


def test_a_verdict_without_a_quorum_is_unknown_and_one_behind_the_loss_of_leadership_too(queue: Asked) -> None:
    mine = queue.take()
    lead, queues, known = queue.lead, queue.queues, queue.known
    queue.hang_followers()
    with pytest.raises(DeadlineExceeded) as late:
        queue.do(lead, queues.settle(GROUP, known, mine[:1], Ruling(Verdict.ACK), 50))
    assert late.value.outcome is Outcome.UNKNOWN
    queue.cut_off(lead)
    queue.hang_followers(hung=False)
    task = queue.process(lead).loop.create_task(queues.settle(GROUP, known, mine[1:], Ruling(Verdict.ACK), 60_000))
    queue.until(task.done)
    error = task.exception()
    assert isinstance(error, RaftmqError)
    assert error.outcome is Outcome.UNKNOWN


def test_who_waits_in_a_group_that_is_deleted_is_told_so(queue: Asked) -> None:
    mine = queue.take()
    lead, known = queue.lead, queue.known
    waiting: asyncio.Task[Any] = queue.process(lead).loop.create_task(
        queue.queues.receive(GROUP, known, Wish("w", 1, 1 << 20, 1_000), 60_000)
    )
    queue.pass_time(1)
    leader = queue.leader()
    queue.do(leader, queue.at(leader).queue_groups.delete("orders", "workers", 10_000))
    queue.until(waiting.done)
    assert isinstance(waiting.exception(), UnknownQueueGroup)
    queue.until(lambda: not queue.machine.queues.groups)
    statuses = queue.do(lead, queue.queues.settle(GROUP, known, mine, Ruling(Verdict.ACK), LIMIT_MS))
    assert statuses == [Status.LEASE_EXPIRED] * 2
