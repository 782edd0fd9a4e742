"""How deep a partition may be: what is measured, what each policy does, and the same on simulated nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import MessageTooLarge, NoLeader, Outcome, OverflowDropped, Overloaded, QueueFull
from raftmq.ids import GroupId, LogIndex, Offset
from raftmq.metadata.depth import DepthLimit, Overflow
from raftmq.partition import commands
from raftmq.raft.types import EntryKind
from raftmq.records.batch import CheckedBatch, check_batch, make_batch
from raftmq.records.entry import LogEntry, seal
from raftmq.replica.depth import Depth, Gate, Overflows, Room, measured, start_that_fits
from raftmq.replica.host import ReplicaHost
from raftmq.replica.retention import Extents
from raftmq.replica.sealing import Draft
from raftmq.replica.waits import Ack, Acks
from raftmq.v1 import types_pb2
from tests.controller.nodes import formed
from tests.replica.test_host import GROUP, Partition, error

SIZE = 100
"""Bytes of a payload in these logs."""


def batch(count: int = 1, priority: int = 0) -> CheckedBatch:
    records = [types_pb2.Record(value=b"x" * SIZE, priority=priority) for _ in range(count)]
    return check_batch(make_batch(records), max_batch_bytes=1 << 20)


def entries(counts: list[int], wall_ms: int = 0) -> list[LogEntry]:
    """Entries of so many records each, one millisecond after the other."""
    made: list[LogEntry] = []
    for position, count in enumerate(counts):
        made.append(
            seal(
                previous_chain=made[-1].chain if made else bytes(8),
                index=LogIndex(position + 1),
                term=1,  # type: ignore[arg-type]
                kind=EntryKind.DATA if count else EntryKind.COMMAND,
                version=1,
                base_offset=made[-1].next_offset if made else Offset(0),
                count=count,
                log_tick=0,
                wall_ms=wall_ms + position,
                inline=b"",
                payload=b"x" * SIZE * count,
            )
        )
    return made


def extents_of(log: list[LogEntry]) -> Extents:
    extents = Extents()
    for entry in log:
        extents.add(entry)
    return extents


# -- measuring ---------------------------------------------------------------------------------------------------------


def test_depth_counts_from_what_nobody_has_read_yet() -> None:
    log = entries([1, 2, 0, 3])
    extents = extents_of(log)
    whole = measured(extents, Offset(0), Offset(6), 0, wall_ms=50)
    assert whole == Depth(6, sum(entry.stored_bytes for entry in log), 50)
    rest = measured(extents, Offset(3), Offset(8), 7, wall_ms=50)
    assert rest == Depth(5, log[3].stored_bytes + 7, 47)
    assert measured(extents, Offset(6), Offset(6), 0, wall_ms=50) == Depth(0, 0, 0)


@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=400),
    low=st.integers(0, 100),
    max_records=st.integers(0, 60),
    max_bytes=st.integers(0, 8_000),
    max_age_ms=st.integers(0, 80),
)
def test_what_is_left_after_the_oldest_are_dropped_fits(
    counts: list[int], low: int, max_records: int, max_bytes: int, max_age_ms: int
) -> None:
    log = entries(counts)
    limit = DepthLimit(max_records, max_bytes, max_age_ms, Overflow.DROP_OLDEST)
    end = log[-1].next_offset
    low_offset = Offset(min(low, end))
    extents = extents_of(log)
    start = start_that_fits(limit, extents, low_offset, end, 0, wall_ms=len(counts))
    assert low_offset <= start <= max(end, low_offset)
    left = measured(extents, start, end, 0, wall_ms=len(counts))
    assert left.beyond(limit) is None, (start, left)
    if not limit:
        assert start == low_offset


# -- policies ----------------------------------------------------------------------------------------------------------


class Full:
    """A partition with ten records, of which ten are allowed unless said otherwise."""

    def __init__(self, overflow: Overflow, max_records: int = 10, low: int | None = None, **limits: int) -> None:
        self.overflows = Overflows()
        limit = DepthLimit(max_records=max_records, overflow=overflow, **limits)
        self.room = Room(limit, None if low is None else Offset(low), self.overflows)
        self.gate = Gate(GROUP)
        self.extents = extents_of(entries([1] * 10))

    def admit(self, asked: CheckedBatch, log_start: int = 0, end: int = 10) -> Offset | None:
        return self.gate.admit(asked, self.room, self.extents, Offset(log_start), Offset(end), LogIndex(10), 10)


@pytest.mark.parametrize("overflow", [Overflow.REJECT, Overflow.BLOCK])
def test_a_full_partition_refuses_and_says_what_is_full(overflow: Overflow) -> None:
    full = Full(overflow)
    with pytest.raises(QueueFull) as refused:
        full.admit(batch())
    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert refused.value.retriable
    assert refused.value.retry_after_ms > 0
    told = {"measure": "records", "depth": "11", "limit": "10", "overflow": overflow.name}
    assert refused.value.metadata == told
    assert full.overflows.refused == {(GROUP, overflow): 1}
    assert full.admit(batch(), log_start=1) is None
    assert full.admit(batch(3), log_start=3) is None


def test_consumers_make_room() -> None:
    assert Full(Overflow.REJECT, low=1).admit(batch()) is None
    with pytest.raises(QueueFull):
        Full(Overflow.REJECT, low=0).admit(batch())


@pytest.mark.parametrize("overflow", list(Overflow))
def test_nothing_is_dropped_while_it_is_not_known_how_far_the_groups_are(overflow: Overflow) -> None:
    full = Full(overflow, sample_one_in=2 if overflow is Overflow.SAMPLE else 0)
    full.room = replace(full.room, is_known=False)
    with pytest.raises(QueueFull):
        full.admit(batch())
    assert not full.overflows.dropped
    assert full.admit(batch(), log_start=6) is None


def test_what_a_queue_group_keeps_is_not_dropped() -> None:
    full = Full(Overflow.DROP_OLDEST, max_records=8)
    full.room = replace(full.room, kept_from=Offset(2))
    with pytest.raises(QueueFull):
        full.admit(batch())
    assert not full.overflows.dropped
    full.room = replace(full.room, kept_from=Offset(3))
    assert full.admit(batch()) == 3


def test_bytes_under_way_count() -> None:
    full = Full(Overflow.REJECT, max_records=0, max_bytes=10 * 172 + 300)
    first = batch()
    assert full.admit(first) is None
    full.gate.appended(LogIndex(11), first)
    with pytest.raises(QueueFull) as refused:
        full.admit(batch(), end=11)
    assert refused.value.metadata["measure"] == "bytes"


def test_age_is_that_of_the_oldest() -> None:
    with pytest.raises(QueueFull) as refused:
        Full(Overflow.REJECT, max_records=0, max_age_ms=9).admit(batch())
    assert refused.value.metadata["measure"] == "age_ms"
    assert Full(Overflow.REJECT, max_records=0, max_age_ms=9, low=1).admit(batch()) is None


@pytest.mark.parametrize("overflow", list(Overflow))
def test_what_never_fits_is_not_told_to_come_again(overflow: Overflow) -> None:
    with pytest.raises(MessageTooLarge) as refused:
        Full(overflow, low=10).admit(batch(11))
    assert not refused.value.retriable


def test_the_oldest_go_with_a_little_to_spare() -> None:
    full = Full(Overflow.DROP_OLDEST, max_records=8)
    assert full.admit(batch()) == 3
    assert full.overflows.dropped == {(GROUP, Overflow.DROP_OLDEST): 3}
    # The trim is under way: what it drops is not dropped a second time.
    assert full.admit(batch(), end=11) == 4
    assert full.overflows.dropped == {(GROUP, Overflow.DROP_OLDEST): 4}
    large = Full(Overflow.DROP_OLDEST, max_records=320)
    assert large.admit(batch(), end=320) == 11


def test_of_a_sample_one_is_taken_and_the_others_are_told() -> None:
    full = Full(Overflow.SAMPLE, sample_one_in=3)
    for turn in range(1, 10):
        if turn % 3:
            with pytest.raises(OverflowDropped) as dropped:
                full.admit(batch())
            assert dropped.value.outcome is Outcome.NOT_APPLIED
            assert not dropped.value.retriable
        else:
            full.admit(batch())
    assert full.overflows.dropped == {(GROUP, Overflow.SAMPLE): 6}
    with pytest.raises(QueueFull):
        full.admit(batch(), end=20)


@pytest.mark.parametrize(("priority", "taken_up_to"), [(0, 11), (4, 15), (8, 19), (9, 20)])
def test_low_priorities_are_dropped_first(priority: int, taken_up_to: int) -> None:
    full = Full(Overflow.DROP_LOWEST_PRIORITY, max_records=20)
    assert full.admit(batch(priority=priority), end=taken_up_to - 1) is None
    with pytest.raises(QueueFull if priority == 9 else OverflowDropped):
        full.admit(batch(priority=priority), end=taken_up_to)


# -- on nodes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def partition() -> Iterator[Partition]:
    with formed(Partition()) as cluster:
        cluster.create_topic("orders")
        yield cluster


def produce(partition: Partition, limit: DepthLimit, asked: CheckedBatch, timeout_ms: int = 5_000) -> Ack:
    lead = partition.lead
    work = partition.host(lead).produce(GROUP, asked, Acks.ALL, 2, timeout_ms, None, limit)
    return partition.do(lead, work)


def is_known(partition: Partition) -> bool:
    """Whether the leader knows who reads."""
    lead = partition.lead
    return partition.host(lead).intake.backlog.is_known(GROUP, partition.process(lead).clock.tick())


def bounds(partition: Partition, number: int) -> tuple[int, int]:
    machine = partition.group(number, GROUP).machine
    return machine.log_start_offset, machine.next_offset


def trim(partition: Partition, to: int) -> None:
    """As retention would."""
    body = commands.encode(commands.TrimCommand(Offset(to)))
    lead = partition.lead
    partition.do(lead, partition.host(lead).command(GROUP, Draft(commands.VERSION, 0, body), 5_000))


def test_what_is_under_way_counts_and_what_is_refused_is_not_in_the_log(partition: Partition) -> None:
    limit = DepthLimit(max_records=3)
    lead = partition.lead
    host = partition.host(lead)
    partition.hang_followers()

    def begin() -> asyncio.Task[Ack]:
        task = partition.process(lead).loop.create_task(host.produce(GROUP, batch(), Acks.ALL, 2, 60_000, None, limit))
        partition.process(lead)._due()
        partition.run(1_000)
        return task

    tasks = [begin() for _ in range(4)]
    assert [task.done() for task in tasks] == [False, False, False, True]
    assert isinstance(error(tasks[3]), QueueFull)
    partition.hang_followers(hung=False)
    partition.until(lambda: all(task.done() for task in tasks))
    assert [task.result().base_offset for task in tasks[:3]] == [0, 1, 2]
    with pytest.raises(QueueFull):
        produce(partition, limit, batch())
    assert bounds(partition, lead) == (0, 3)
    assert host.held_bytes == 0
    trim(partition, 1)
    assert produce(partition, limit, batch()).base_offset == 3
    partition.until(lambda: {bounds(partition, number) for number in (1, 2, 3)} == {(1, 4)})


def test_those_who_wait_for_room_get_it_in_turn(partition: Partition) -> None:
    limit = DepthLimit(max_records=2, overflow=Overflow.BLOCK)
    produce(partition, limit, batch(2))
    lead = partition.lead
    host = partition.host(lead)
    loop = partition.process(lead).loop
    waiting = [loop.create_task(host.produce(GROUP, batch(n), Acks.ALL, 2, 30_000, None, limit)) for n in (2, 1, 1)]
    partition.pass_time(5)
    assert not any(task.done() for task in waiting)
    assert host.held_bytes > 0
    trim(partition, 1)
    partition.pass_time(1)
    assert not any(task.done() for task in waiting), "the first needs room for two, the others stand behind it"
    trim(partition, 2)
    partition.until(lambda: waiting[0].done())
    trim(partition, 4)
    partition.until(lambda: all(task.done() for task in waiting))
    assert [task.result().base_offset for task in waiting] == [2, 4, 5]


def test_who_waits_in_vain_is_told_so_in_time(partition: Partition) -> None:
    limit = DepthLimit(max_records=2, overflow=Overflow.BLOCK)
    produce(partition, limit, batch(2))
    began = partition.agenda.now
    with pytest.raises(QueueFull) as refused:
        produce(partition, limit, batch(), timeout_ms=2_000)
    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert 1_000_000 < partition.agenda.now - began <= 2_000_000
    assert partition.host(partition.lead).held_bytes == 0


def test_all_replicas_drop_the_same(partition: Partition) -> None:
    limit = DepthLimit(max_records=10, overflow=Overflow.DROP_OLDEST)
    partition.until(lambda: is_known(partition))  # nothing is dropped before it is known that nobody wants it
    for number in range(30):
        assert produce(partition, limit, batch()).base_offset == number
        start, end = bounds(partition, partition.lead)
        assert end - start <= 10
    partition.until(lambda: {bounds(partition, number) for number in (1, 2, 3)} == {(20, 30)})
    overflows = partition.host(partition.lead).intake.overflows
    assert overflows.dropped == {(GroupId(GROUP), Overflow.DROP_OLDEST): 20}


def test_nothing_is_dropped_for_a_batch_that_cannot_be_appended(partition: Partition) -> None:
    limit = DepthLimit(max_records=3, overflow=Overflow.DROP_OLDEST)
    lead = partition.lead
    host = partition.host(lead)
    partition.until(lambda: is_known(partition))
    for _ in range(3):
        produce(partition, limit, batch())
    partition.hang_followers()
    host.transfer(GROUP, None)
    with pytest.raises(NoLeader):
        produce(partition, limit, batch(), timeout_ms=50)
    assert not host.intake.overflows.dropped
    partition.hang_followers(hung=False)
    partition.pass_time(2)
    assert bounds(partition, partition.lead) == (0, 3)


def test_those_who_wait_for_room_count_in_the_memory_that_producers_may_hold(partition: Partition) -> None:
    limit = DepthLimit(max_records=1, overflow=Overflow.BLOCK)
    produce(partition, limit, batch())
    lead = partition.lead
    host = partition.host(lead)
    host.intake.memory_bytes = 3 * batch().size
    waiting = [partition.process(lead).loop.create_task(_blocked(host, limit)) for _ in range(3)]
    partition.pass_time(1)
    assert host.held_bytes == 3 * batch().size
    with pytest.raises(Overloaded):
        produce(partition, DepthLimit(), batch())
    for task in waiting:
        task.cancel()
    partition.pass_time(1)
    assert host.held_bytes == 0
    produce(partition, DepthLimit(), batch())


async def _blocked(host: ReplicaHost, limit: DepthLimit) -> Ack:
    return await host.produce(GROUP, batch(), Acks.ALL, 2, 30_000, None, limit)
