"""Replicas that cannot read what they hold: they start over, suspect, and get everything from the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from raftmq.errors import DataLoss
from raftmq.ids import Generation, LogIndex, NodeId
from raftmq.ports import ReplicaRow
from raftmq.raft.types import Membership
from raftmq.replica.rows import may_start_over
from raftmq.replica.waits import Ack
from tests.controller.nodes import formed
from tests.replica.test_host import GROUP, Partition
from tests.replica.world import World
from tests.storage.build import MEMBERS, replica_id, row

COUNT = 12


def filled(nodes: int = 3, seed: int = 1, tail_bytes: int = 1 << 20) -> tuple[World, int]:
    """A group with a log, equal everywhere."""
    world = World(nodes=nodes, seed=seed, tail_bytes=tail_bytes)
    world.create_group()
    leader = world.elect()
    for number in range(COUNT):
        answers = world.produce(leader, b"%d" % number * 100, min_in_sync=nodes // 2 + 1)
        assert world.run(5_000, until=lambda found=answers: bool(found))  # type: ignore[misc]
        assert isinstance(answers[0], Ack)
    assert world.run(5_000, until=world.equal)
    return world, leader


def damage(world: World, number: int, index: int = 5) -> Generation:
    generation = world.group(number).generation
    world.nodes[NodeId(number)].store.damage(generation, LogIndex(index))
    return generation


def stored(world: World, number: int) -> ReplicaRow:
    (found,) = world.nodes[NodeId(number)].store.replicas()
    return found


def held(world: World, number: int, generation: Generation) -> int:
    """Entries of a generation on a node's disk."""
    logs = world.nodes[NodeId(number)].store._image.logs
    return len(logs[generation].entries) if generation in logs else 0


def whole_again(world: World, number: int) -> bool:
    known = stored(world, number)
    return world.equal() and not known.suspect and known.damaged is None


# -- at the start ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_replica_found_damaged_at_the_start_gets_everything_again(seed: int) -> None:
    world, leader = filled(seed=seed)
    follower = next(n for n in world.nodes if n != leader)
    world.crash(follower)
    old = damage(world, follower)
    term = stored_term(world, follower)
    world.restart(follower)
    group = world.group(follower)
    assert (group.halted, group.node.last_index, group.row.suspect, group.row.damaged) == (None, 0, True, old)
    assert group.row.hard_state.term > term
    assert group.generation != old
    assert world.run(30_000, until=lambda: whole_again(world, follower)), world.describe()
    assert held(world, follower, old) == 0


def stored_term(world: World, number: int) -> int:
    return world.group(number).row.hard_state.term


def test_what_is_left_stays_until_all_that_was_committed_is_there_again() -> None:
    world, leader = filled()
    follower = next(n for n in world.nodes if n != leader)
    world.crash(follower)
    old = damage(world, follower)
    world.cut_off(follower)
    world.restart(follower)
    world.run(10_000)
    assert held(world, follower, old) > COUNT
    assert stored(world, follower).damaged == old
    assert not world.group(follower).node.leader
    world.heal()
    assert world.run(30_000, until=lambda: whole_again(world, follower)), world.describe()
    assert held(world, follower, old) == 0


def test_a_change_of_configuration_that_was_not_committed_is_not_believed() -> None:
    """Nobody else may ever have had it, and no entry of the log would correct it."""
    world, old = filled(nodes=4)
    before = world.group(old).node.membership
    world.cut_off(old)
    world.group(old).node.change_membership(Membership(before.voters - {max(before.voters)}))
    world.nodes[NodeId(old)].replicas.touch(world.group(old).id)
    world.run(100)
    assert stored(world, old).memberships[-1][1] != before
    assert world.run(10_000, until=lambda: any(number != old for number in world.leaders()))
    damage(world, old)
    world.crash(old)
    world.restart(old)
    world.heal()
    assert world.run(30_000, until=lambda: whole_again(world, old)), world.describe()
    assert world.group(old).node.membership == before


def test_a_process_that_dies_meanwhile_goes_on_where_it_was() -> None:
    world, leader = filled()
    follower = next(n for n in world.nodes if n != leader)
    world.crash(follower)
    old = damage(world, follower)
    world.cut_off(follower)
    world.restart(follower)
    world.run(1_000)
    new = stored(world, follower).generation
    world.crash(follower)
    world.restart(follower)
    assert (world.group(follower).generation, stored(world, follower).damaged) == (new, old)
    world.heal()
    assert world.run(30_000, until=lambda: whole_again(world, follower)), world.describe()


def test_damage_on_a_majority_leaves_the_group_without_a_leader_and_all_that_is_left_in_place() -> None:
    world, _ = filled()
    olds = {}
    for number in (1, 2):
        world.crash(number)
        olds[number] = damage(world, number)
    for number in (1, 2):
        world.restart(number)
    world.run(20_000)
    assert world.leaders() == []
    for number, old in olds.items():
        assert held(world, number, old) > COUNT
        assert stored(world, number).suspect


def test_the_only_replica_of_a_group_halts_and_keeps_what_it_has() -> None:
    world, _ = filled(nodes=1)
    world.crash(1)
    old = damage(world, 1)
    world.restart(1)
    assert "damaged" in str(world.group(1).halted)
    world.run(5_000)
    assert world.leaders() == []
    assert (stored(world, 1).generation, stored(world, 1).suspect) == (old, False)
    assert held(world, 1, old) > COUNT


# -- while it runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_leader_that_cannot_read_what_it_should_send_starts_over_and_nothing_is_lost(seed: int) -> None:
    world, leader = filled(seed=seed, tail_bytes=0)
    behind = next(n for n in world.nodes if n != leader)
    world.cut_off(behind)
    answers = [world.produce(leader, b"late %d" % number) for number in range(4)]
    assert world.run(5_000, until=lambda: all(answers)), "acknowledged by the other two"
    end = world.group(leader).end_chain
    group = world.group(leader)
    group.trim_tail(0)
    group.tail.evict(0, group.node.persisted_index)
    old = damage(world, leader, index=COUNT + 3)
    world.heal()
    assert world.run(60_000, until=lambda: world.group(leader).generation != old), world.describe()
    assert world.run(60_000, until=lambda: whole_again(world, leader)), world.describe()
    for number, node in world.nodes.items():
        last = LogIndex(COUNT + 5)
        entries = node.store.read_entries(world.group(number).generation, LogIndex(1), last, 1 << 30)
        assert entries[-1].chain == end, "what was acknowledged is what it was"


def test_a_replica_that_is_damaged_again_in_the_same_process_halts() -> None:
    world, leader = filled()
    follower = next(n for n in world.nodes if n != leader)
    first = world.group(follower)
    world.nodes[NodeId(follower)].replicas.damage.found(first, "unreadable")
    assert world.run(1_000, until=lambda: world.group(follower) is not first)
    assert world.run(30_000, until=lambda: whole_again(world, follower)), world.describe()
    second = world.group(follower)
    second.halt("unreadable again", is_damaged=True)
    world.nodes[NodeId(follower)].replicas.touch(second.id)
    world.run(5_000)
    assert world.group(follower) is second
    assert second.halted == "unreadable again"


def test_poison_is_no_damage() -> None:
    """It would be found on every replica alike: starting over would help nobody."""
    world, leader = filled()
    group = world.group(leader)
    group.halt("an entry that nobody understands")
    world.nodes[NodeId(leader)].replicas.touch(group.id)
    world.run(3_000)
    assert world.group(leader) is group


@pytest.fixture
def partition() -> Iterator[Partition]:
    with formed(Partition()) as cluster:
        cluster.create_topic("orders")
        yield cluster


def test_a_reader_that_meets_damage_is_told_and_the_next_one_is_served_elsewhere(partition: Partition) -> None:
    lead = partition.lead
    for number in range(3):
        partition.produce(lead, b"%d" % number)
    partition.pass_time(1)
    group = partition.group(lead, GROUP)
    group.trim_tail(0)
    assert group.tail.first_index > 3
    partition.nodes[lead].store.damage(group.generation, LogIndex(3))
    with pytest.raises(DataLoss):
        partition.fetch(lead, 1)
    partition.until(lambda: partition.group(lead, GROUP).generation != group.generation)
    partition.until(lambda: partition.lead != lead, seconds=60)
    assert [b.base_offset for b in partition.fetch(partition.lead, 0).batches] == [0, 1, 2]
    partition.until(lambda: partition.group(lead, GROUP).row.damaged is None)
    assert partition.assembly(lead).elections.started_over == 1


def test_only_where_the_others_are_a_majority() -> None:
    assert may_start_over(row(), replica_id(1))
    assert may_start_over(row(), replica_id(9)), "it has no vote"
    two = Membership(frozenset({replica_id(1), replica_id(2)}))
    assert not may_start_over(replace(row(), memberships=((LogIndex(0), two),)), replica_id(1))
    changing = Membership(MEMBERS.voters, outgoing=two.voters)
    assert not may_start_over(replace(row(), memberships=((LogIndex(0), changing),)), replica_id(1))
