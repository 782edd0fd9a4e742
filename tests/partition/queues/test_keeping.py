"""What is kept: parked records, processed keys, held records, what a trim may take; and beginning anew."""

from __future__ import annotations

import pytest

from raftmq.ids import Offset, QueueId
from raftmq.partition.queues.commands import (
    DONE,
    Configure,
    Hold,
    Refusal,
    Refused,
    Routed,
    Seek,
    Sought,
    Status,
    Verdict,
)
from raftmq.partition.queues.settings import AtEnd, Ordering, QueueRetention, QueueSettings
from raftmq.partition.queues.tally import Counter
from raftmq.records.state_kinds import StateKind
from tests.partition.queues.build import GROUP, Partition

SETTINGS = QueueSettings(lease_ms=1000)
NOT_NEEDED = Refused(Refusal.NOT_NEEDED)


def parked(count: int, settings: QueueSettings = SETTINGS) -> Partition:
    partition = Partition(settings, count)
    granted = partition.grant()
    partition.settle(granted.lease, Verdict.PARK, *granted.offsets, reason="bad", error="it broke")
    return partition


def test_a_parked_record_is_delivered_again_when_it_is_redriven() -> None:
    partition = parked(3)
    partition.wait(10_000)
    assert list(partition.grant().offsets) == []
    answer = partition.redrive(1, 9)
    assert (answer.offsets, answer.not_parked) == ((1,), (9,))
    granted = partition.grant()
    assert (granted.offsets, granted.attempt(1), granted.failures(1)) == ([1], 2, 0)
    assert list(partition.group.parked.offsets) == [0, 2]


def test_parked_records_outlive_a_restart() -> None:
    partition = parked(3)
    partition.restart()
    assert list(partition.group.parked.offsets) == [0, 1, 2]
    record = partition.group.parked.get(1)
    assert record is not None
    assert (record.reason, record.error) == ("bad", "it broke")


def test_a_record_that_comes_back_again_and_again_is_redriven_no_more() -> None:
    partition = parked(1, QueueSettings(redrives_max=2))
    for _ in range(2):
        assert partition.redrive(0).offsets == (0,)
        partition.restart()
        partition.settle(partition.grant().lease, Verdict.PARK, 0)
    assert partition.redrive(0).looping == (0,)


def test_nothing_is_dropped_but_on_demand() -> None:
    partition = Partition(QueueSettings(attempts_max=1, at_end=AtEnd.DROP), 1)
    assert partition.settle(partition.grant().lease, Verdict.RETRY, 0) == (Status.DROPPED,)
    assert partition.group.counters[Counter.DROPPED] == 1
    assert partition.group.floor == 1


def test_a_key_is_remembered_in_the_entry_of_its_acknowledgement_and_the_oldest_is_forgotten() -> None:
    partition = Partition(QueueSettings(processed_keys_max=2), 4)
    lease = partition.grant().lease
    assert partition.ack(lease, 0, 1, processed_keys=(b"a", b"b")) == (Status.OK, Status.OK)
    partition.restart()
    assert partition.ack(lease, 2, processed_keys=(b"a",)) == (Status.ALREADY_PROCESSED,)
    assert partition.ack(lease, 3, processed_keys=(b"c",)) == (Status.OK,)
    partition.restart()
    assert [key for _, key in partition.group.processed.items()] == [b"b", b"c"]


def test_a_group_that_seeks_begins_anew_and_old_leases_count_for_nothing() -> None:
    partition = Partition(SETTINGS, 10)
    lease = partition.grant(5).lease
    partition.ack(lease, 0, 1)
    partition.settle(lease, Verdict.PARK, 2)
    partition.restart()
    assert partition.ask(Seek(GROUP, Offset(1))) == Sought(Offset(1))
    partition.restart()
    assert partition.ack(lease, 3) == (Status.LEASE_EXPIRED,)
    assert partition.group.frontier == 1
    partition.introduce(1, 10)
    granted = partition.grant()
    assert granted.offsets == list(range(1, 10))
    assert granted.lease > lease


def test_a_trim_stops_before_what_a_queue_still_needs_until_it_is_held() -> None:
    partition = Partition(SETTINGS, 10)
    first, second = partition.grant(2), partition.grant(2)
    partition.ack(first.lease, 0)
    partition.settle(second.lease, Verdict.RETRY, 2)
    partition.settle(second.lease, Verdict.PARK, 3)
    assert partition.machine.queues.pinned(Offset(5), 10) == [1, 2, 3]
    assert partition.trim(5) == 1
    assert partition.group.ready == 6
    for offset in (1, 2, 3):
        assert partition.ask(Hold(Offset(offset), b"record")) == DONE
    assert partition.ask(Hold(Offset(3), b"record")) == NOT_NEEDED
    assert partition.ask(Hold(Offset(0), b"record")) == NOT_NEEDED
    partition.restart()
    assert partition.trim(6) == 6
    assert partition.group.counters[Counter.SKIPPED] == 2
    partition.restart()
    assert partition.grant(100, elapsed=5000).offsets == [1, 2, 6, 7, 8, 9]
    assert partition.machine.queues.held.bytes == 18


def test_a_held_record_is_freed_when_no_group_has_it_open() -> None:
    partition = Partition(SETTINGS, 2)
    other = QueueId(8)
    partition.ask(Configure(other, SETTINGS, Offset(0)))
    granted = partition.grant()
    partition.ask(Hold(Offset(0), b"record"))
    partition.ack(granted.lease, 0)
    assert not partition.machine.queues.held.records
    partition.flush()
    assert not [key for key in partition.disk if key[0] is StateKind.QUEUE_HELD]


def test_a_group_that_has_not_seen_what_is_trimmed_begins_behind_it() -> None:
    partition = Partition(SETTINGS, 4)
    partition.publish(6)
    partition.trim(8)
    partition.restart()
    depth = partition.machine.queues.depth(GROUP)
    assert (depth.frontier, depth.closed, depth.counters[Counter.SKIPPED]) == (8, 8, 8)


def test_a_group_that_deletes_on_acknowledgement_keeps_what_is_not_acknowledged() -> None:
    partition = Partition(QueueSettings(retention=QueueRetention.DELETE_ON_ACK), 10)
    granted = partition.grant(4)
    partition.ack(granted.lease, 0, 1, 2)
    assert partition.machine.queues.needed_from() == 4
    assert partition.trim(4) == 3
    partition.ack(granted.lease, 3)
    assert partition.trim(10) == 4
    assert partition.machine.raft_start == 1


def test_what_stands_in_a_topic_of_dead_letters_is_known_until_it_is_redriven() -> None:
    partition = Partition(QueueSettings(), 3)
    lease = partition.grant(3).lease
    partition.settle(lease, Verdict.PARK, 0, 1, 2)
    assert partition.group.parked.unrouted(0, 9) == [0, 1, 2]
    assert partition.ask(Routed(GROUP, (0, 1, 7), False)) == DONE
    assert partition.ask(Routed(GROUP, (0,), False)) == DONE
    assert partition.group.counters[Counter.ROUTED] == 2
    partition.restart()
    assert partition.group.parked.unrouted(0, 9) == [2]
    assert partition.machine.queues.depth(GROUP).routed == 2
    partition.redrive(0)
    lease = partition.grant(1).lease
    partition.settle(lease, Verdict.PARK, 0)
    assert partition.group.parked.unrouted(0, 1) == [0]
    assert partition.group.parked.unrouted(1, 9) == [2]


@pytest.mark.parametrize("remove", [False, True])
def test_the_copy_of_one_parking_says_nothing_of_the_next(remove: bool) -> None:
    partition = Partition(QueueSettings(), 2)
    partition.settle(partition.grant(2).lease, Verdict.PARK, 0, 1, elapsed=5)
    first = partition.now.log_tick
    partition.redrive(0)
    partition.settle(partition.grant(1).lease, Verdict.PARK, 0, elapsed=3)
    second = partition.now.log_tick
    assert partition.ask(Routed(GROUP, (0, 1), remove, (first, first))) == DONE
    assert partition.group.parked.unrouted(0, 9) == [0]
    partition.restart()
    assert partition.ask(Routed(GROUP, (0,), remove, (second,))) == DONE
    assert partition.group.parked.unrouted(0, 9) == []
    assert partition.group.counters[Counter.ROUTED] == 2
    assert len(list(partition.group.parked.offsets)) == (0 if remove else 2)


@pytest.mark.parametrize("ordering", list(Ordering))
def test_a_dead_letter_that_was_moved_is_final(ordering: Ordering) -> None:
    partition = Partition(QueueSettings(ordering=ordering))
    partition.publish(2)
    partition.introduce(0, 2, keys=(5, 5) if ordering is Ordering.KEY else ())
    lease = partition.grant(1).lease
    partition.settle(lease, Verdict.PARK, 0)
    assert partition.ask(Routed(GROUP, (0,), True)) == DONE
    assert partition.ask(Routed(GROUP, (0,), True)) == DONE
    depth = partition.machine.queues.depth(GROUP)
    assert (depth.parked, depth.routed, depth.closed, depth.ready) == (0, 0, 1, 1)
    partition.restart()
    assert partition.machine.queues.depth(GROUP) == depth
