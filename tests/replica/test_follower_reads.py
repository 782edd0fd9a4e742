"""Reading from replicas that follow: nothing that is not committed, nothing forgotten, and no answer once cut off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftmq.errors import NotLeader, NotReady, OffsetOutOfRange
from raftmq.ids import Offset
from raftmq.replica.host import Fetched
from raftmq.replica.waits import Acks
from tests.controller.nodes import formed
from tests.replica.test_host import GROUP, Partition


@pytest.fixture
def partition() -> Iterator[Partition]:
    with formed(Partition()) as cluster:
        cluster.create_topic("orders")
        # Everybody is told who is in sync.
        cluster.until(lambda: all(cluster.host(n).follows(GROUP) for n in cluster.others(cluster.lead)))
        yield cluster


def fetch(partition: Partition, number: int, offset: int, least: int = 0, max_wait_ms: int = 0) -> Fetched:
    work = partition.host(number).fetch_replica(GROUP, Offset(offset), 1 << 20, 1, max_wait_ms, Offset(least))
    return partition.do(number, work)


def test_a_follower_gives_what_was_acknowledged_and_waits_to_hear_of_it(partition: Partition) -> None:
    for count, value in enumerate((b"a", b"b", b"c"), start=1):
        partition.produce(partition.lead, value)
        for follower in partition.others(partition.lead):
            fetched = fetch(partition, follower, 0, least=count)
            assert sum(batch.count for batch in fetched.batches) == count
            assert fetched.bounds.high_watermark == count


def test_what_is_not_committed_is_not_shown(partition: Partition) -> None:
    lead = partition.lead
    partition.produce(lead, b"a")
    follower = partition.others(lead)[0]
    assert fetch(partition, follower, 0, least=1).bounds.high_watermark == 1
    partition.hang_followers()  # they have it, and have not made it durable
    partition.begin(lead, b"b", acks=Acks.LEADER)
    fetched = fetch(partition, follower, 1)
    assert (fetched.batches, fetched.bounds.high_watermark) == ([], 1)


def test_a_poll_at_a_follower_ends_with_the_record_it_waits_for(partition: Partition) -> None:
    lead = partition.lead
    follower = partition.others(lead)[0]
    work = partition.host(follower).fetch_replica(GROUP, Offset(0), 1 << 20, 1, 30_000, Offset(0))
    task = partition.process(follower).loop.create_task(work)
    partition.process(follower)._due()
    partition.produce(lead, b"news")
    partition.until(task.done)
    assert [batch.count for batch in task.result().batches] == [1]


def test_offsets_that_it_has_not_heard_of_are_never_said_not_to_exist(partition: Partition) -> None:
    partition.produce(partition.lead, b"a")
    with pytest.raises(NotReady):
        fetch(partition, partition.others(partition.lead)[0], 99)


def test_offsets_before_its_log_are_gone_for_everybody(partition: Partition) -> None:
    follower = partition.others(partition.lead)[0]
    partition.checker.mute()  # that replicas are equal: one of them is given other bounds here
    partition.group(follower, GROUP).machine.log_start_offset = Offset(5)  # type: ignore[misc]
    partition.group(follower, GROUP).machine.next_offset = Offset(9)  # type: ignore[misc]
    with pytest.raises(OffsetOutOfRange):
        fetch(partition, follower, 4)


def test_a_replica_that_is_cut_off_shows_the_past_for_a_moment_and_then_refuses(partition: Partition) -> None:
    lead = partition.lead
    stale, other = partition.others(lead)
    partition.produce(lead, b"before")
    assert fetch(partition, stale, 0, least=1).bounds.high_watermark == 1
    partition.cut_off(stale)
    partition.produce(lead, b"after", acks=Acks.QUORUM)
    behind = fetch(partition, stale, 0)
    assert [batch.count for batch in behind.batches] == [1], "committed, if not the newest"
    with pytest.raises((NotReady, NotLeader)):
        fetch(partition, stale, 0, least=2)
    partition.until(lambda: not partition.host(stale).follows(GROUP))
    with pytest.raises(NotLeader):
        fetch(partition, stale, 0)
    assert fetch(partition, other, 0, least=2).bounds.high_watermark == 2
    partition.network.heal_all()
    partition.until(lambda: partition.host(stale).follows(GROUP))
    assert fetch(partition, stale, 0, least=2, max_wait_ms=30_000).bounds.high_watermark == 2


def test_one_that_lags_is_not_asked_once_the_leader_says_so(partition: Partition) -> None:
    lead = partition.lead
    slow = partition.others(lead)[0]
    partition.nodes[slow].speed.hung = True
    partition.produce(lead, b"a", acks=Acks.QUORUM)
    partition.until(lambda: not partition.host(slow).follows(GROUP))
    with pytest.raises(NotLeader):
        fetch(partition, slow, 0)
