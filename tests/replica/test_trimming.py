"""Retention through the whole pump, under virtual time: what is removed, on whose disk, and what never is."""

from __future__ import annotations

from random import Random

import pytest

from raftmq.ids import LogIndex, NodeId, Offset
from raftmq.ports import StorageError
from raftmq.replica import upkeep
from raftmq.replica.outbox import ReadOrder
from raftmq.replica.retention import Retention
from raftmq.replica.waits import Acks
from tests.replica.world import World

BATCH = 10_000
ELECTION = 1_000
"""The election timeout of a ``World``."""
TRIM_INTERVAL = upkeep.TRIM_INTERVAL * ELECTION
WAITED_FOR = upkeep.WAITED_FOR * ELECTION


@pytest.fixture
def world() -> World:
    world = World()
    world.create_group()
    return world


def fill(world: World, leader: int, batches: int) -> None:
    """So many batches of one record each, all committed."""
    for _ in range(batches):
        answers = world.produce(leader, bytes(BATCH), acks=Acks.QUORUM)
        assert world.run(5_000, lambda answers=answers: bool(answers))  # type: ignore[misc]


def starts(world: World) -> set[tuple[int, int]]:
    """(log start, first entry on disk) of every replica that is up."""
    groups = [world.group(n) for n, node in world.nodes.items() if node.up]
    return {(group.machine.log_start_offset, group.row.raft_start) for group in groups}


def check_disk(world: World, number: int) -> None:
    """The disk holds exactly what the replica says, and everything that can be read."""
    group, store = world.group(number), world.nodes[NodeId(number)].store
    row = next(row for row in store.replicas() if row.group == group.id)
    headers = list(store.scan_headers(row.generation, row.raft_start))
    assert headers[0].index == row.raft_start
    if row.raft_start > 1:
        with pytest.raises(StorageError):
            store.read_entries(row.generation, LogIndex(1), row.raft_start, 1 << 30)
    start, end = group.machine.log_start_offset, group.machine.next_offset
    batches = store.read_batches(row.generation, start, end, 1 << 30)
    assert [batch.base_offset for batch in batches] == list(range(start, end))


def test_all_replicas_remove_the_same_and_nothing_that_can_be_read(world: World) -> None:
    leader = world.elect()
    world.retain(Retention(size_bytes=10 * BATCH))
    fill(world, leader, 50)
    assert world.run(2 * TRIM_INTERVAL, lambda: starts(world) == {(40, 42)}), starts(world)
    assert world.run(1_000, world.equal)
    for number in (1, 2, 3):
        check_disk(world, number)
    store, group = world.nodes[NodeId(leader)].store, world.group(leader)
    assert store.read_batches(group.generation, Offset(40), Offset(41), 1)[0].base_offset == 40


def test_an_idle_partition_ages_away_and_then_writes_nothing_more(world: World) -> None:
    leader = world.elect()
    fill(world, leader, 5)
    world.retain(Retention(age_ms=7_000))
    world.run(6_900)
    assert {start for start, _ in starts(world)} == {0}
    assert world.run(2 * TRIM_INTERVAL, lambda: {start for start, _ in starts(world)} == {5})
    world.run(1_000)
    last = world.group(leader).node.last_index
    world.run(20 * TRIM_INTERVAL)
    assert world.group(leader).node.last_index == last
    fill(world, leader, 1)
    assert world.group(leader).machine.next_offset == 6
    for number in (1, 2, 3):
        check_disk(world, number)


def test_without_retention_nothing_is_removed(world: World) -> None:
    leader = world.elect()
    fill(world, leader, 5)
    world.run(10 * TRIM_INTERVAL)
    assert starts(world) == {(0, 1)}


def test_a_trimmed_replica_comes_back_as_it_was(world: World) -> None:
    leader = world.elect()
    world.retain(Retention(size_bytes=5 * BATCH))
    fill(world, leader, 30)
    world.run(2 * TRIM_INTERVAL)
    assert starts(world) == {(25, 27)}
    fill(world, leader, 1)  # trims need no sync of their own; this one takes them along
    world.run(100)
    chain = world.group(leader).end_chain
    for number in (1, 2, 3):
        world.crash(number)
    for number in (1, 2, 3):
        world.restart(number)
        assert world.group(number).row.raft_start == 27
        assert world.group(number).end_chain == chain
        check_disk(world, number)
    leader = world.elect()
    fill(world, leader, 10)
    assert world.run(2 * TRIM_INTERVAL, lambda: {start for start, _ in starts(world)} == {36}), starts(world)
    assert world.run(1_000, world.equal)


def test_entries_wait_for_a_follower_that_is_away_although_nobody_may_read_them(world: World) -> None:
    leader = world.elect()
    fill(world, leader, 5)
    world.run(1_000)
    away = next(n for n in (1, 2, 3) if n != leader)
    world.crash(away)
    world.retain(Retention(size_bytes=5 * BATCH))
    fill(world, leader, 30)
    world.run(2 * TRIM_INTERVAL)
    assert {start for start, _ in starts(world)} == {30}
    assert all(raft_start <= 7 for _, raft_start in starts(world)), "it has entries up to 6"
    world.restart(away)
    assert world.run(20_000, world.equal), world.describe()
    fill(world, leader, 5)
    assert world.run(3 * TRIM_INTERVAL, lambda: len(starts(world)) == 1 and max(starts(world))[1] > 30), starts(world)
    for number in (1, 2, 3):
        check_disk(world, number)


def test_a_replica_removes_only_what_its_own_disk_surely_has() -> None:
    """It may have applied, and be told to remove, what its disk is still busy with."""
    world = World(held_bytes_max=0)
    world.create_group()
    leader = world.elect()
    slow = next(n for n in (1, 2, 3) if n != leader)
    fill(world, leader, 3)
    world.run(TRIM_INTERVAL - 200 - world.time.now)
    world.slow_disk[NodeId(slow)] = 300
    world.retain(Retention(size_bytes=1))
    fill(world, leader, 10)
    group = world.group(slow)
    assert world.run(400, lambda: group.machine.raft_start > 10)
    assert group.node.persisted_index < 10
    assert group.row.raft_start <= group.node.persisted_index + 1
    assert world.run(1_000, lambda: group.row.raft_start == group.machine.raft_start)
    check_disk(world, slow)


def test_a_read_that_a_trim_overtook_is_no_damage(world: World) -> None:
    leader = world.elect()
    world.retain(Retention(size_bytes=1))
    fill(world, leader, 20)
    world.run(2 * TRIM_INTERVAL)
    group, replicas = world.group(leader), world.nodes[NodeId(leader)].replicas
    assert group.row.raft_start > 10

    def order(first: int) -> ReadOrder:
        return ReadOrder(group.id, group.generation, LogIndex(first), LogIndex(first), 1, None, 0)

    for _ in range(3):
        assert not replicas.read_failed(order(5), "no entry 5")
    assert group.halted is None
    assert not replicas.read_failed(order(group.row.raft_start), "a flipped bit"), "it is tried once more"
    assert replicas.read_failed(order(group.row.raft_start), "damaged")
    assert group.halted == "damaged"


@pytest.mark.parametrize("seed", range(12))
def test_crashes_between_trims_leave_every_disk_whole(seed: int) -> None:
    world = World(seed=seed)
    world.create_group()
    rng = Random(seed)
    leader = world.elect()
    world.retain(Retention(size_bytes=4 * BATCH))
    for _ in range(8):
        fill(world, leader, rng.randint(1, 12))
        world.run(rng.randint(0, 2 * TRIM_INTERVAL))
        victim = rng.choice((1, 2, 3))
        world.crash(victim, keep_unsynced=rng.random() < 0.5)
        world.run(rng.randint(0, 3_000))
        leader = world.elect()
        fill(world, leader, rng.randint(1, 5))
        world.restart(victim)
        check_disk(world, victim)
        leader = world.elect()
    assert world.run(60_000, world.equal), world.describe()
    assert min(start for start, _ in starts(world)) > 0
    for number in (1, 2, 3):
        check_disk(world, number)
