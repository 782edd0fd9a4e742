"""Order by key, lanes, priorities; what happens by the clock; what holds a group back."""

from __future__ import annotations

from typing import Any

import pytest

from raftmq.ids import LeaseId, Offset
from raftmq.partition.queues.commands import DONE, Cancel, Configure, Pause, Refusal, Refused, Resume, Special, Verdict
from raftmq.partition.queues.settings import Backoff, Ordering, QueueSettings
from raftmq.partition.queues.tally import Counter
from tests.partition.queues.build import GROUP, Partition

BY_KEY = QueueSettings(ordering=Ordering.KEY, lease_ms=1000, backoff=Backoff(100, 200, 1000, 0))
PLAIN = QueueSettings(lease_ms=1000, backoff=Backoff(100, 200, 1000, 0))


def made(settings: QueueSettings, count: int, **known: Any) -> Partition:
    partition = Partition(settings)
    partition.publish(count)
    partition.introduce(0, count, **known)
    return partition


# -- order by key ------------------------------------------------------------------------------------------------------


def test_a_keys_next_record_waits_for_the_one_before_and_other_keys_flow_past() -> None:
    partition = made(BY_KEY, 6, keys=(1, 1, 2, 0, 1, 0))
    granted = partition.grant()
    assert granted.offsets == [0, 2, 3, 5]
    assert list(partition.grant().offsets) == []
    partition.ack(granted.lease, 0)
    assert partition.grant().offsets == [1]


@pytest.mark.parametrize("verdict", [Verdict.RELEASE, Verdict.RETRY])
def test_a_key_stays_with_a_record_that_was_not_finished(verdict: Verdict) -> None:
    partition = made(BY_KEY, 2, keys=(1, 1))
    partition.settle(partition.grant().lease, verdict, 0)
    partition.restart()
    partition.wait(100)
    assert partition.grant().offsets == [0]


def test_a_key_goes_on_without_a_parked_record_and_takes_it_back_in_its_place() -> None:
    partition = made(BY_KEY, 3, keys=(1, 1, 1))
    partition.settle(partition.grant().lease, Verdict.PARK, 0)
    second = partition.grant()
    assert second.offsets == [1]
    partition.redrive(0)
    assert list(partition.grant().offsets) == []
    partition.ack(second.lease, 1)
    assert partition.grant().offsets == [0]


def test_an_expired_lease_frees_the_key_for_the_same_record() -> None:
    partition = made(BY_KEY, 2, keys=(1, 1))
    partition.grant()
    assert partition.grant(elapsed=1000).offsets == [0]


def test_a_group_can_become_ordered_and_cease_to_be() -> None:
    partition = made(BY_KEY, 3, keys=(1, 1, 1))
    partition.ask(Configure(GROUP, QueueSettings(version=2), Offset(0)))
    first = partition.grant(2)
    assert first.offsets == [0, 1]
    partition.ask(Configure(GROUP, QueueSettings(version=3, ordering=Ordering.KEY), Offset(0)))
    assert list(partition.grant().offsets) == []
    partition.ack(first.lease, 0)
    assert list(partition.grant().offsets) == []
    partition.ack(first.lease, 1)
    assert partition.grant().offsets == [2]


# -- lanes and priorities ----------------------------------------------------------------------------------------------


def test_lanes_are_served_in_turn() -> None:
    partition = made(QueueSettings(is_fair=True), 8, lanes=(1, 1, 1, 1, 1, 2, 3, 1))
    assert partition.grant(4).offsets == [0, 5, 6, 1]
    partition.restart()
    assert partition.grant(4).offsets == [2, 3, 4, 7]


def test_the_turn_outlives_a_restart() -> None:
    partition = made(QueueSettings(is_fair=True), 4, lanes=(1, 1, 2, 2))
    assert partition.grant(1).offsets == [0]
    partition.restart()
    assert partition.grant(1).offsets == [2]


def test_the_highest_priority_goes_first() -> None:
    specials = [Special(Offset(1), priority=5), Special(Offset(3), priority=9), Special(Offset(4), priority=5)]
    partition = made(PLAIN, 5, specials=specials)
    assert partition.grant(2).offsets == [3, 1]
    partition.restart()
    assert partition.grant().offsets == [4, 0, 2]


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_record_is_not_delivered_before_its_time() -> None:
    partition = Partition(PLAIN)
    partition.publish(2)
    at = partition.log.wall + 50
    partition.introduce(0, 2, specials=[Special(Offset(0), deliver_at_ms=at)])
    assert partition.machine.queues.due().wall_ms == at
    assert partition.grant().offsets == [1]
    partition.wait(49)
    partition.restart()
    assert partition.group.ready == 0
    partition.wait(1)
    assert partition.grant().offsets == [0]


def test_a_scheduled_record_can_be_cancelled_until_it_is_due() -> None:
    partition = Partition(PLAIN)
    partition.publish(3)
    at = partition.log.wall + 50
    specials = [Special(Offset(offset), deliver_at_ms=at) for offset in (0, 1)]
    partition.introduce(0, 2, specials=specials)
    assert partition.ask(Cancel(GROUP, Offset(0))) == DONE
    assert partition.ask(Cancel(GROUP, Offset(0))) == Refused(Refusal.NOT_WAITING)
    assert partition.ask(Cancel(GROUP, Offset(2))) == Refused(Refusal.NOT_INTRODUCED)
    partition.wait(50)
    assert partition.ask(Cancel(GROUP, Offset(1))) == Refused(Refusal.NOT_WAITING)
    assert partition.grant().offsets == [1]
    assert partition.group.counters[Counter.CANCELLED] == 1


def test_a_record_whose_time_is_over_is_not_delivered() -> None:
    partition = Partition(PLAIN)
    partition.publish(3)
    over = partition.log.wall + 50
    partition.introduce(0, 3, specials=[Special(Offset(offset), expires_at_ms=over) for offset in (0, 1)])
    lease = partition.grant(1).lease
    partition.wait(50)
    assert partition.grant().offsets == [2]
    assert partition.group.counters[Counter.EXPIRED] == 1
    # Who has it may finish it. Nobody else gets it.
    partition.settle(lease, Verdict.RELEASE, 0)
    assert list(partition.grant().offsets) == []
    assert partition.group.counters[Counter.EXPIRED] == 2


def test_retries_wait_longer_each_time_and_end_with_the_record_parked() -> None:
    partition = Partition(QueueSettings(attempts_max=3, lease_ms=9000, backoff=Backoff(100, 200, 1000, 0)), 1)
    for failures, wait in ((1, 100), (2, 200)):
        granted = partition.grant()
        assert (granted.attempt(0), granted.failures(0)) == (failures, failures - 1)
        partition.settle(granted.lease, Verdict.RETRY, 0)
        partition.restart()
        partition.wait(wait - 1)
        assert list(partition.grant().offsets) == []
        partition.wait(1)
    partition.settle(partition.grant().lease, Verdict.RETRY, 0, error="no")
    parked = partition.group.parked.get(0)
    assert parked is not None
    assert (parked.reason, parked.error, parked.log_tick) == ("TOO_MANY_FAILURES", "no", 300)


def test_the_jitter_takes_off_at_most_what_it_may_and_is_the_same_everywhere() -> None:
    backoff = Backoff(1000, 200, 60_000, 20)
    delays = [backoff.delay_ms(1, salt) for salt in range(200)]
    assert min(delays) >= 800
    assert max(delays) <= 1000
    assert len(set(delays)) > 50
    assert delays[:4] == [backoff.delay_ms(1, salt) for salt in range(4)]
    assert Backoff(1000, 200, 60_000, 0).delay_ms(99, 1) == 60_000


# -- what holds a group back -------------------------------------------------------------------------------------------


def test_a_drain_rate_is_kept_and_a_little_is_saved_up() -> None:
    partition = Partition(QueueSettings(drain_per_s=100), 1000)
    partition.wait(10_000)
    assert len(partition.grant(500).offsets) == 10
    assert partition.group.grantable_from(partition.now.log_tick) == 10_010
    assert len(partition.grant(500, elapsed=9).offsets) == 0
    partition.restart()
    assert len(partition.grant(500, elapsed=1).offsets) == 1
    assert sum(len(partition.grant(500, elapsed=20).offsets) for _ in range(50)) == 100


@pytest.mark.parametrize(("rate", "parts"), [(10, 3), (1, 12), (7, 7), (2_000, 3)])
def test_partitions_share_a_drain_rate_exactly(rate: int, parts: int) -> None:
    """Rounded up in each of them, 10 a second over three were 12, and one a second over twelve were 12."""
    partitions = [Partition(QueueSettings(drain_per_s=rate, drain_parts=parts), 4 * rate * 12) for _ in range(parts)]
    for one in partitions:
        one.restart()
    seconds = 12
    handed_out = 0
    for _ in range(seconds * 20):
        handed_out += sum(len(one.grant(5_000, elapsed=50).offsets) for one in partitions)
    assert seconds * rate - parts <= handed_out <= seconds * rate + 1


def test_a_topic_that_grows_divides_the_drain_rate_anew() -> None:
    partition = Partition(QueueSettings(drain_per_s=10, drain_parts=2), 1)
    fewer, more = (QueueSettings(drain_per_s=10, drain_parts=parts) for parts in (1, 3))
    assert partition.ask(Configure(GROUP, fewer, Offset(0))) == Refused(Refusal.STALE)
    assert partition.ask(Configure(GROUP, more, Offset(0))) == DONE
    partition.restart()
    assert partition.group.settings == more


def test_a_breaker_opens_after_failures_in_a_row_and_closes_with_a_success() -> None:
    settings = QueueSettings(breaker_failures=3, breaker_pause_ms=500, attempts_max=0, lease_ms=9000)
    partition = Partition(settings, 10)
    lease = partition.grant(4).lease
    partition.settle(lease, Verdict.RETRY, 0, 1)
    assert len(partition.grant(1).offsets) == 1
    partition.settle(lease, Verdict.RETRY, 2)
    assert partition.group.counters[Counter.BREAKER_OPENED] == 1
    assert partition.group.grantable_from(0) == 500
    partition.settle(lease, Verdict.RELEASE, 3)
    assert list(partition.grant(elapsed=499).offsets) == []
    partition.restart()
    partition.settle(LeaseId(2), Verdict.RELEASE, 4)
    probe = partition.grant(elapsed=1)
    assert len(probe.offsets) == 1
    assert list(partition.grant().offsets) == []
    partition.ack(probe.lease, *probe.offsets)
    assert len(partition.grant().offsets) > 1


def test_a_paused_group_grants_nothing() -> None:
    partition = Partition(PLAIN, 3)
    assert partition.ask(Pause(GROUP)) == DONE
    partition.restart()
    assert list(partition.grant().offsets) == []
    assert partition.group.grantable_from(0) is None
    partition.ask(Resume(GROUP))
    assert len(partition.grant().offsets) == 3
