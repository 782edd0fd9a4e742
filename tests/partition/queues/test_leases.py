"""Hand-outs, leases and verdicts."""

from __future__ import annotations

from array import array

import pytest

from raftmq.ids import LeaseId, Offset, QueueId
from raftmq.partition.queues.commands import (
    Configure,
    Extended,
    Grant,
    Introduce,
    Introduced,
    Refusal,
    Refused,
    Remove,
    Settle,
    Settled,
    Status,
    Verdict,
)
from raftmq.partition.queues.leases import SETTLED_MAX, Lease, Leases
from raftmq.partition.queues.settings import QueueSettings
from raftmq.partition.queues.tally import Counter
from tests.partition.queues.build import GROUP, SECRET, Partition

OK, DUPLICATE, LATE = Status.OK, Status.DUPLICATE, Status.LEASE_EXPIRED
SETTINGS = QueueSettings(lease_ms=1000)


def test_records_are_handed_out_once_each_and_in_order() -> None:
    partition = Partition(SETTINGS, 10)
    first, second, third = partition.grant(4), partition.grant(100), partition.grant()
    assert first.offsets == [0, 1, 2, 3]
    assert second.offsets == [4, 5, 6, 7, 8, 9]
    assert (first.lease, second.lease, first.deadline) == (1, 2, 1000)
    assert (list(third.offsets), third.lease) == ([], 0)
    assert (first.attempt(2), first.failures(2)) == (1, 0)


def test_what_is_acknowledged_is_final() -> None:
    partition = Partition(SETTINGS, 10)
    lease = partition.grant(4).lease
    assert partition.ack(lease, 1, 3) == (OK, OK)
    depth = partition.machine.queues.depth(GROUP)
    assert (depth.floor, depth.closed, depth.leased, depth.ready) == (0, 2, 2, 6)
    assert partition.ack(lease, 0) == (OK,)
    assert partition.group.floor == 2
    partition.wait(2000)
    assert partition.grant().offsets == [2, 4, 5, 6, 7, 8, 9]
    assert partition.group.counters[Counter.ACKED] == 3


def test_a_whole_lease_is_acknowledged_at_once() -> None:
    partition = Partition(SETTINGS, 5000)
    granted = partition.grant(4500)
    assert set(partition.ack(granted.lease, *granted.offsets)) == {OK}
    assert partition.group.floor == 4500
    assert set(partition.ack(granted.lease, *granted.offsets)) == {DUPLICATE}


def test_an_acknowledgement_after_the_lease_is_refused_for_that_record_only() -> None:
    partition = Partition(SETTINGS, 2)
    first = partition.grant(1)
    second = partition.grant(1, lease_ms=5000)
    answers = partition.ask_all(
        Settle(GROUP, first.lease, SECRET, Verdict.ACK, (0,)),
        Settle(GROUP, second.lease, SECRET, Verdict.ACK, (1,)),
        elapsed=1000,
    )
    assert answers == (Settled((LATE,)), Settled((OK,)))
    assert partition.grant().offsets == [0]


def test_a_lease_lasts_until_its_deadline() -> None:
    partition = Partition(SETTINGS, 1)
    lease = partition.grant().lease
    partition.wait(999)
    assert partition.machine.queues.due().log_tick == 1000
    assert list(partition.grant().offsets) == []
    assert partition.ack(lease, 0) == (OK,)
    assert partition.machine.queues.due() == (None, None)


def test_after_the_deadline_the_record_is_handed_out_again_and_says_so() -> None:
    partition = Partition(SETTINGS, 2)
    partition.grant(1)
    again = partition.grant(elapsed=1000)
    assert again.offsets == [0, 1]
    assert (again.attempt(0), again.failures(0), again.attempt(1)) == (2, 1, 1)


def test_time_passes_with_entries_of_every_kind() -> None:
    partition = Partition(SETTINGS, 1)
    partition.grant()
    partition.machine.apply(partition.log.data(1, elapsed=1000))
    assert partition.group.ready == 1


def test_the_same_verdict_again_is_a_duplicate_and_another_one_is_late() -> None:
    partition = Partition(SETTINGS, 4)
    lease = partition.grant().lease
    for offset, verdict in enumerate((Verdict.ACK, Verdict.RELEASE, Verdict.RETRY, Verdict.PARK)):
        assert partition.settle(lease, verdict, offset) == (OK,)
    before = partition.machine.all_rows()
    for offset, verdict in enumerate((Verdict.ACK, Verdict.RELEASE, Verdict.RETRY, Verdict.PARK)):
        assert partition.settle(lease, verdict, offset) == (DUPLICATE,)
        other = Verdict.PARK if verdict is Verdict.ACK else Verdict.ACK
        assert partition.settle(lease, other, offset) == (LATE,)
    assert partition.machine.all_rows()[1:] == before[1:]


def test_another_secret_another_lease_and_another_record_are_late() -> None:
    partition = Partition(SETTINGS, 4)
    lease = partition.grant(2).lease
    assert partition.ack(lease, 0, secret=bytes(16)) == (LATE,)
    assert partition.ack(LeaseId(99), 0) == (LATE,)
    assert partition.ack(lease, 3, 1, 7) == (LATE, OK, LATE)
    assert partition.group.leases.outstanding == 1


def test_one_record_twice_in_one_op_is_settled_once() -> None:
    partition = Partition(SETTINGS, 2)
    assert partition.ack(partition.grant().lease, 0, 0, 1) == (OK, DUPLICATE, OK)


def test_a_released_record_is_back_at_once_without_a_penalty() -> None:
    partition = Partition(QueueSettings(attempts_max=1), 1)
    for attempt in range(1, 5):
        granted = partition.grant()
        assert (granted.attempt(0), granted.failures(0)) == (attempt, 0)
        assert partition.settle(granted.lease, Verdict.RELEASE, 0) == (OK,)


def test_a_lease_can_be_extended_and_never_gets_shorter() -> None:
    partition = Partition(SETTINGS, 1)
    lease = partition.grant().lease
    assert partition.extend(lease, 1000, elapsed=900) == Extended(1900)
    assert partition.extend(lease, 10) == Extended(1900)
    partition.wait(999)
    assert partition.group.ready == 0
    assert partition.extend(lease, 1000, elapsed=1) == Refused(Refusal.LEASE_EXPIRED)
    assert partition.group.ready == 1


def test_a_group_begins_where_it_is_told_to_within_the_log() -> None:
    partition = Partition(records=5)
    for group, start, begins in ((1, 0, 0), (2, 3, 3), (3, 99, 5)):
        partition.ask(Configure(QueueId(group), SETTINGS, Offset(start)))
        assert partition.machine.queues.groups[QueueId(group)].frontier == begins


def test_only_the_next_committed_records_are_introduced() -> None:
    partition = Partition(SETTINGS, 5)
    partition.publish(5)
    stale = Refused(Refusal.STALE)
    assert [partition.introduce(*span) for span in ((4, 6), (6, 7), (5, 11))] == [stale] * 3
    assert partition.introduce(5, 10) == Introduced(Offset(10))


def test_an_unknown_group_is_refused_and_nothing_changes() -> None:
    partition = Partition(SETTINGS, 2)
    before = partition.machine.all_rows()[1:]
    unknown = QueueId(99)
    ops = (Grant(unknown, "w", 1, SECRET), Remove(unknown), Introduce(unknown, Offset(0), Offset(1)))
    assert partition.ask_all(*ops) == (Refused(Refusal.UNKNOWN_GROUP),) * 3
    assert partition.machine.all_rows()[1:] == before


def test_older_settings_are_refused() -> None:
    partition = Partition(QueueSettings(version=3), 1)
    assert partition.ask(Configure(GROUP, QueueSettings(version=3), Offset(0))) == Refused(Refusal.STALE)
    partition.ask(Configure(GROUP, QueueSettings(version=4, lease_ms=7), Offset(0)))
    assert partition.grant().deadline == 7


def test_a_removed_group_leaves_nothing() -> None:
    partition = Partition(SETTINGS, 300)
    granted = partition.grant()
    partition.settle(granted.lease, Verdict.RETRY, 0)
    partition.settle(granted.lease, Verdict.PARK, 1, reason="r")
    partition.flush()
    partition.ask(Remove(GROUP))
    partition.restart()
    assert len(partition.disk) == 1


@pytest.mark.parametrize("is_flushed", [False, True])
def test_everything_outlives_a_restart(is_flushed: bool) -> None:
    partition = Partition(SETTINGS, 20)
    first, second = partition.grant(5), partition.grant(5)
    if is_flushed:
        partition.restart()
    partition.ack(first.lease, 0, 1)
    partition.settle(first.lease, Verdict.RETRY, 2, delay_ms=50)
    partition.settle(first.lease, Verdict.PARK, 3, reason="bad", error="it broke")
    partition.restart()
    assert partition.ack(first.lease, 0, 4) == (DUPLICATE, OK)
    assert partition.ack(second.lease, *second.offsets) == (OK,) * 5
    assert partition.grant(100, elapsed=50).offsets == [2, *range(10, 20)]
    parked = partition.group.parked.get(3)
    assert parked is not None
    assert (parked.reason, parked.error) == ("bad", "it broke")


def test_workers_whose_leases_are_over_take_no_room() -> None:
    """Anybody may name as many as it likes."""
    leases = Leases()
    for number in range(1, 3 * SETTLED_MAX):
        leases.add(LeaseId(number), Lease(f"worker-{number}", SECRET, number, array("Q", [number])))
        leases.expire(number)
        assert len(leases._workers) <= SETTLED_MAX + 1
