"""Those who carry snapshots: the side that sends and paces, the side that asks and writes, and whatever breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import pytest

from raftmq.errors import DataLoss, Overloaded, Unavailable
from raftmq.ids import Generation, GroupId, LogIndex, NodeId
from raftmq.ports import SnapshotEntries, SnapshotPart, StorageError, TrimBefore, TrimPoint
from raftmq.records.entry import LogEntry
from raftmq.replica import snapshots
from raftmq.replica.installing import SnapshotOrder
from raftmq.replica.snapshots import AT_ONCE, SnapshotReceiver, SnapshotSender
from tests.replica.test_snapshots import comes_back, generations, left_behind
from tests.replica.world import GROUP, World

FAST = 1 << 40


class Disk:
    """Reads a node's log as the driver does."""

    def __init__(self, world: World, number: int) -> None:
        self._store = world.nodes[NodeId(number)].store

    async def read_entries(
        self, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int
    ) -> list[LogEntry]:
        await asyncio.sleep(0)
        try:
            return self._store.read_entries(generation, first, last, max_bytes)
        except StorageError as error:
            raise DataLoss("gone") from error


def sender(world: World, number: int, bytes_per_s: int = FAST) -> SnapshotSender:
    made = SnapshotSender(world.nodes[NodeId(number)].replicas, Disk(world, number), bytes_per_s)
    made.part_bytes = 1
    return made


@pytest.fixture
def behind() -> tuple[World, int, int]:
    """A world, its leader, and a node that is up again, behind every log and cut off: only tests give it anything."""
    world, leader, away = left_behind()
    world.cut_off(away)
    world.restart(away)
    return world, leader, away


async def until(world: World, done: Callable[[], bool]) -> None:
    """Let the world's time pass along with the loop's."""
    for _ in range(10_000):
        if done():
            return
        world.run(5)
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def received(
    world: World, away: int, leader: int, fetch: Callable[..., AsyncGenerator[SnapshotPart, None]]
) -> SnapshotReceiver:
    """One order, carried out to its end."""
    replicas = world.nodes[NodeId(away)].replicas
    receiver = SnapshotReceiver(replicas, fetch)
    replicas.installs._fetching.add(GROUP)
    receiver.ordered(SnapshotOrder(GROUP, NodeId(leader), LogIndex(0)))
    await until(world, lambda: not replicas.installs._fetching)
    return receiver


async def test_what_one_side_sends_the_other_one_installs(behind: tuple[World, int, int]) -> None:
    world, leader, away = behind
    source = sender(world, leader)

    async def fetch(_node: NodeId, group: GroupId, first: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        async for part in source.send(group, first):
            yield part

    await received(world, away, leader, fetch)
    world.run(50)
    assert world.group(away).machine.applied_index == world.group(leader).machine.applied_index
    world.heal()
    comes_back(world)


@pytest.mark.parametrize("error", [Unavailable("reset"), ValueError("no part")])
async def test_a_source_that_breaks_off_is_let_go_and_the_next_one_goes_on(
    behind: tuple[World, int, int], error: Exception
) -> None:
    world, leader, away = behind
    source = sender(world, leader)

    async def breaks(_node: NodeId, group: GroupId, first: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        taken = 0
        async for part in source.send(group, first):
            yield part
            taken += 1
            if taken == 6:
                raise error

    await received(world, away, leader, breaks)
    assert len(generations(world, away)) == 2, "the old replica, and half of the new one"
    group = world.group(away)
    known = world.nodes[NodeId(away)].replicas.installs._snapshots[GROUP]
    stopped_at = known.next_index
    assert not group.is_out_of_service
    world.heal()
    comes_back(world)
    assert [order.from_index for order in world.fetches] == [stopped_at]


async def test_a_stream_that_ends_early_is_no_snapshot(behind: tuple[World, int, int]) -> None:
    world, leader, away = behind

    async def short(_node: NodeId, group: GroupId, first: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        parts = [part async for part in sender(world, leader).send(group, first)]
        for part in parts[:-1]:
            yield part

    before = world.group(away).machine.applied_index
    await received(world, away, leader, short)
    world.run(100)
    assert world.group(away).machine.applied_index == before


async def test_a_receiver_whose_disk_hangs_lets_its_source_go(
    behind: tuple[World, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, leader, away = behind
    monkeypatch.setattr(snapshots, "WRITTEN_TIMEOUT_S", 0.0)
    source = sender(world, leader)

    async def fetch(_node: NodeId, group: GroupId, first: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        parts = source.send(group, first)
        try:
            async for part in parts:
                yield part
        finally:
            await parts.aclose()

    await received(world, away, leader, fetch)
    assert source._sending == 0
    assert world.group(away).row.installing is not None


async def test_no_more_than_so_many_are_sent_at_once(behind: tuple[World, int, int]) -> None:
    world, leader, _ = behind
    source = sender(world, leader)
    under_way = [source.send(GROUP, LogIndex(0)) for _ in range(AT_ONCE)]
    for parts in under_way:
        await anext(parts)
    with pytest.raises(Overloaded):
        await anext(source.send(GROUP, LogIndex(0)))
    await under_way[0].aclose()
    assert await anext(source.send(GROUP, LogIndex(0))) is not None
    for parts in under_way:
        await parts.aclose()


async def test_what_is_sent_is_paced(behind: tuple[World, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    world, leader, _ = behind
    slept: list[float] = []
    pause = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await pause(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    sent = 0
    async for part in sender(world, leader, 1_000_000).send(GROUP, LogIndex(0)):
        if isinstance(part, SnapshotEntries):
            sent += sum(entry.size for entry in part.entries)
    assert sum(slept) == pytest.approx(sent / 1_000_000)


async def test_a_log_that_is_trimmed_under_the_sender_is_unavailable_and_a_damaged_one_is_lost(
    behind: tuple[World, int, int],
) -> None:
    world, leader, _ = behind
    group, store = world.group(leader), world.nodes[NodeId(leader)].store
    start = group.row.raft_start
    parts = sender(world, leader).send(GROUP, LogIndex(0))
    assert await anext(parts)
    end = group.header(LogIndex(start + 9))
    begin = TrimPoint(start, group.row.anchor.offset, group.row.anchor.wall_ms)
    store.write([TrimBefore(group.generation, begin, TrimPoint(LogIndex(start + 10), end.next_offset, end.wall_ms))])
    row, group.row = group.row, replace(group.row, raft_start=LogIndex(start + 10))
    with pytest.raises(Unavailable):
        await anext(parts)
    group.row = row
    parts = sender(world, leader).send(GROUP, LogIndex(0))
    assert await anext(parts)
    with pytest.raises(DataLoss):
        await anext(parts)


@pytest.mark.parametrize("at", ["the head", "an entry"])
async def test_a_sender_that_meets_damage_starts_over_and_another_one_serves(
    behind: tuple[World, int, int], at: str
) -> None:
    world, leader, away = behind
    group, store = world.group(leader), world.nodes[NodeId(leader)].store
    old, applied = group.generation, group.machine.applied_index
    group.trim_tail(0)
    assert group.tail.get(applied) is None
    parts = sender(world, leader).send(GROUP, LogIndex(0))
    if at == "an entry":
        assert await anext(parts)
        assert await anext(parts)
        store.damage(old, LogIndex(group.row.raft_start + 5))
    else:
        store.damage(old, applied)
    with pytest.raises(DataLoss):
        async for _ in parts:
            pass
    world.run(50)
    assert world.group(leader).generation != old, "it does not go on with what it cannot read"
    world.heal()
    comes_back(world)
    assert not world.group(away).row.suspect


async def test_who_has_no_replica_that_can_be_copied_says_so(
    behind: tuple[World, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, leader, _ = behind
    monkeypatch.setattr(snapshots, "CUT_PAUSE_S", 0)
    with pytest.raises(Unavailable):
        await anext(sender(world, leader).send(GroupId(77), LogIndex(0)))
    world.group(leader).halt("a test")
    with pytest.raises(Unavailable):
        await anext(sender(world, leader).send(GROUP, LogIndex(0)))
