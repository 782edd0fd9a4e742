"""Room on the disk: the marks, the watch, and what nodes do with too little of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftmq.errors import NotEnoughReplicas, Outcome, StorageFull
from raftmq.ports import DiskLevel, StorageError
from raftmq.replica import space
from raftmq.replica.retention import Retention
from raftmq.replica.space import Space, SpaceWatch, Watermark, measure
from raftmq.replica.waits import Ack
from tests.controller.nodes import formed
from tests.replica.test_host import GROUP, Partition
from tests.replica.world import World

AMPLE, LOW, FULL = DiskLevel
CAPACITY = 10_000


# -- the marks ---------------------------------------------------------------------------------------------------------


def test_levels_begin_at_the_marks_and_end_a_fifth_above_them() -> None:
    mark = Watermark(10, 1 << 40)
    levels = [
        (2_000, AMPLE), (1_000, AMPLE), (999, LOW), (1_199, LOW), (1_200, AMPLE), (500, LOW), (499, FULL),
        (599, FULL), (600, LOW), (400, FULL), (1_200, AMPLE), (0, FULL),
    ]  # fmt: skip
    assert [(free, mark.observe(Space(free, CAPACITY))) for free, _ in levels] == levels


@pytest.mark.parametrize(("percent", "size", "floor"), [(5, 1 << 40, 500), (5, 300, 300), (0, 300, 0), (5, 0, 0)])
def test_the_smaller_mark_counts_and_nothing_turns_it_off(percent: int, size: int, floor: int) -> None:
    mark = Watermark(percent, size)
    assert mark.floor(Space(0, CAPACITY)) == floor
    assert mark.observe(Space(0, CAPACITY)) is (FULL if floor else AMPLE)


def test_a_real_file_system_is_measured(tmp_path: Path) -> None:
    found = measure(tmp_path)
    assert 0 < found.free < found.capacity == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


# -- the watch ---------------------------------------------------------------------------------------------------------


class Disk:
    """A file system that says what the test wants, and what its owner did."""

    def __init__(self) -> None:
        self.free = CAPACITY
        self.error: OSError | None = None
        self.broken = False
        self.levels: list[DiskLevel] = []
        self.reclaimed = 0
        self.failures: list[StorageError] = []
        self.watch = SpaceWatch(
            self._look, Watermark(10, CAPACITY), self.levels.append, self._reclaim, self.failures.append
        )

    def _look(self) -> Space:
        if self.error is not None:
            raise self.error
        return Space(self.free, CAPACITY)

    def _reclaim(self, spare: int) -> None:
        assert spare == self.free // 2
        self.reclaimed += 1
        if self.broken:
            raise StorageError("no room to make room")


async def test_only_changes_are_told_and_room_is_made_seldom() -> None:
    disk = Disk()
    for disk.free in (9_000, 999, 900, 300, 800, 2_000, 3_000):
        await disk.watch.look()
    assert disk.levels == [LOW, FULL, LOW, AMPLE]
    assert disk.reclaimed == 1
    assert (disk.watch.level, disk.watch.floor) == (AMPLE, 1_000)


async def test_room_is_made_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "RECLAIM_EVERY_S", 0.0)
    disk = Disk()
    for disk.free in (999, 999, 5_000, 5_000):
        await disk.watch.look()
    assert disk.reclaimed == 2


async def test_a_file_system_that_does_not_answer_changes_nothing() -> None:
    disk = Disk()
    disk.free = 10
    await disk.watch.look()
    disk.error = OSError(errno.EIO, "input/output error")
    await disk.watch.look()
    assert disk.levels == [FULL]


async def test_a_disk_that_breaks_while_room_is_made_is_reported() -> None:
    disk = Disk()
    disk.free, disk.broken = 10, True
    await disk.watch.look()
    assert [str(failure) for failure in disk.failures] == ["no room to make room"]


async def test_the_level_is_known_from_the_start_and_looking_ends() -> None:
    disk = Disk()
    disk.free = 700
    await disk.watch.start()
    assert disk.levels == [LOW]
    await disk.watch.stop()
    await disk.watch.stop()


# -- nodes -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def partition() -> Iterator[Partition]:
    with formed(Partition()) as cluster:
        cluster.create_topic("orders")
        yield cluster


def set_disk(partition: Partition, level: DiskLevel, *numbers: int) -> None:
    for number in numbers:
        partition.assembly(number).replicas.heartbeats.disk = level


def test_a_leader_without_room_refuses_and_changes_nothing(partition: Partition) -> None:
    lead = partition.lead
    set_disk(partition, LOW, lead)
    with pytest.raises(StorageFull) as refused:
        partition.produce(lead, b"a")
    error = refused.value
    assert (error.outcome, error.metadata) == (Outcome.NOT_APPLIED, {"node": str(lead)})
    assert error.retriable
    assert error.retry_after_ms > 0
    set_disk(partition, AMPLE, lead)
    assert partition.produce(lead, b"a").base_offset == 0


def test_leadership_goes_to_where_there_is_room_and_stays_there(partition: Partition) -> None:
    before = partition.lead
    set_disk(partition, LOW, before)
    partition.until(lambda: partition.lead != before)
    after = partition.lead
    partition.until(lambda: len(partition.assembly(after).host.in_sync(GROUP)) == 2)
    assert partition.produce(after, b"a").base_offset == 0
    partition.until(lambda: before not in partition.assembly(after).host.in_sync(GROUP))
    partition.pass_time(60)
    assert partition.lead == after, "nothing is given back to a low disk"
    set_disk(partition, AMPLE, before)
    partition.until(lambda: before in partition.assembly(after).host.in_sync(GROUP))


def test_a_majority_without_room_stops_the_partition_before_any_disk_is_full(partition: Partition) -> None:
    lead = partition.lead
    set_disk(partition, LOW, *partition.others(lead))
    partition.until(lambda: partition.assembly(lead).host.in_sync(GROUP) == (lead,))
    with pytest.raises(NotEnoughReplicas):
        partition.produce(lead, b"a")
    set_disk(partition, AMPLE, partition.others(lead)[0])
    partition.until(lambda: len(partition.assembly(lead).host.in_sync(GROUP)) == 2)
    assert partition.produce(lead, b"a").base_offset == 0


def test_topics_are_deleted_and_made_with_all_disks_full(partition: Partition) -> None:
    set_disk(partition, FULL, *partition.nodes)
    partition.pass_time(2)
    partition.delete_topic()
    partition.until(lambda: all(partition.assembly(n).replicas.group(GROUP) is None for n in partition.nodes))
    partition.create_topic("others")


def elected(seed: int = 1) -> tuple[World, int]:
    world = World(seed=seed)
    world.create_group()
    return world, world.elect()


def test_a_full_follower_takes_no_records_and_catches_up_by_itself() -> None:
    world, lead = elected()
    full = next(n for n in world.nodes if n != lead)
    world.nodes[full].replicas.heartbeats.disk = FULL
    world.run(500)
    before = world.group(full).node.last_index
    answers = world.produce(lead, b"a")
    world.run(5_000, until=lambda: bool(answers))
    assert isinstance(answers[0], Ack)
    assert full not in answers[0].replicas
    assert world.group(full).node.last_index == before
    world.nodes[full].replicas.heartbeats.disk = AMPLE
    assert world.run(10_000, until=world.equal), world.describe()


def test_a_low_follower_goes_on_as_ever() -> None:
    world, lead = elected()
    low = next(n for n in world.nodes if n != lead)
    world.nodes[low].replicas.heartbeats.disk = LOW
    world.produce(lead, b"a")
    assert world.run(10_000, until=world.equal), world.describe()


def test_records_are_trimmed_with_all_disks_low_or_full() -> None:
    world, lead = elected()
    for _ in range(4):
        world.produce(lead, b"x" * 1000)
        world.run(100)
    assert world.run(10_000, until=world.equal)
    for number, level in zip(world.nodes, (LOW, FULL, FULL), strict=True):
        world.nodes[number].replicas.heartbeats.disk = level
    world.retain(Retention(size_bytes=1))

    def trimmed() -> bool:
        return all(world.group(number).machine.log_start_offset == 4 for number in world.nodes)

    assert world.run(30_000, until=trimmed), world.describe()


def test_a_full_node_votes() -> None:
    world, lead = elected()
    full, other = (n for n in world.nodes if n != lead)
    world.nodes[full].replicas.heartbeats.disk = FULL
    world.crash(lead)
    assert world.run(20_000, until=lambda: len(world.leaders()) == 1), world.describe()
    assert world.leaders()[0] in (full, other)
