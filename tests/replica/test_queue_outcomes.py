"""What callers of queues are told where several ops, or several attempts, have had a part in it."""

from __future__ import annotations

import asyncio

import pytest

from raftmq.errors import LeadershipLost, NotLeader, Outcome, Overloaded, RaftmqError
from raftmq.ids import LeaseId
from raftmq.metadata.queue_groups import QueueGroupRecord, QueueSettings
from raftmq.partition.queues.commands import Extend, Extended, QueueAnswer, QueueOp, Status, Verdict
from raftmq.partition.queues.settings import QueueSettings as Rules
from raftmq.replica.queues.calls import Claim, Ruling
from raftmq.replica.queues.looking import Pace, ParkedFilter, Place, offsets_in, told
from tests.partition.queues.build import Partition
from tests.replica.test_handing_over import drive, host_of
from tests.replica.test_verdicts_with_batch import GROUP, SECRET, leased
from tests.replica.world import GROUP as PARTITION

RECORD = QueueGroupRecord(int(GROUP), 1, "workers", QueueSettings())
LIMIT_MS = 60_000


@pytest.mark.parametrize(
    ("refusal", "expected"), [(NotLeader("gone"), LeadershipLost), (Overloaded("full", retry_after_ms=7), Overloaded)]
)
async def test_part_of_a_call_that_was_done_is_not_told_as_nothing(
    refusal: RaftmqError, expected: type[RaftmqError]
) -> None:
    host = host_of(leased())
    answers: list[QueueAnswer | RaftmqError] = [Extended(1), refusal]

    async def ask(op: QueueOp) -> QueueAnswer:
        assert isinstance(op, Extend)
        answer = answers.pop(0)
        if isinstance(answer, RaftmqError):
            raise answer
        return answer

    host.desk_of(PARTITION).ask = ask  # type: ignore[method-assign]
    claims = [Claim(1, 0, SECRET), Claim(2, 1, SECRET)]
    with pytest.raises(expected) as caught:
        await host.extend(PARTITION, RECORD, claims, 1_000, LIMIT_MS)
    assert caught.value.outcome is Outcome.UNKNOWN
    answers += [refusal, refusal]
    with pytest.raises(type(refusal)) as caught:
        await host.extend(PARTITION, RECORD, claims, 1_000, LIMIT_MS)
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_a_redrive_that_ends_early_tells_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told that nothing had happened, whoever handed the call on had as many redriven once more."""
    monkeypatch.setattr("raftmq.replica.queues.host.REDRIVE_STEP", 5)
    world = leased(records=20)
    host = host_of(world)
    claims = [Claim(1, at, SECRET) for at in range(20)]
    parking = asyncio.create_task(host.settle(PARTITION, RECORD, claims, Ruling(Verdict.PARK), LIMIT_MS))
    await drive(world, parking)
    desk = host.desk_of(PARTITION)
    asked, real = 0, desk.ask

    async def ask(op: QueueOp) -> QueueAnswer:
        nonlocal asked
        asked += 1
        if asked > 2:
            raise NotLeader("gone")
        return await real(op)

    desk.ask = ask  # type: ignore[method-assign]
    redriving = asyncio.create_task(host.redrive(PARTITION, RECORD, ParkedFilter(), Pace(20), LIMIT_MS))
    await drive(world, redriving)
    count = redriving.result()
    assert (asked, count.matched, count.redriven) == (3, 20, 10)
    with pytest.raises(NotLeader):
        await host.redrive(PARTITION, RECORD, ParkedFilter(), Pace(20), LIMIT_MS)


async def test_who_acknowledges_once_more_is_told_once_more_that_the_work_was_done_before() -> None:
    world = leased(records=2)
    host = host_of(world)
    expected = [[Status.OK], [Status.ALREADY_PROCESSED], [Status.ALREADY_PROCESSED], [Status.DUPLICATE]]
    for offset, status in zip((0, 1, 1, 0), expected, strict=True):
        ruling = Ruling(Verdict.ACK, processed_keys=(b"order-7",))
        acking = asyncio.create_task(host.settle(PARTITION, RECORD, [Claim(1, offset, SECRET)], ruling, LIMIT_MS))
        await drive(world, acking)
        assert acking.result() == status


def test_each_message_is_told_with_the_lease_that_has_it() -> None:
    partition = Partition(Rules(), 6)
    for worker, count in (("a", 2), ("b", 1), ("c", 3)):
        partition.grant(count, worker=worker, lease_ms=1_000)
    partition.ack(LeaseId(3), 4)
    found = offsets_in(partition.group, Place.LEASED, 1, 10)
    peeked = told(partition.group, Place.LEASED, found, (400, 0))
    assert [(one.offset, one.worker, one.attempts) for one in peeked] == [
        (1, "a", 1), (2, "b", 1), (3, "c", 1), (5, "c", 1)
    ]  # fmt: skip
    assert {one.remaining_ms for one in peeked} == {600}
