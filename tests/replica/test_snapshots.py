"""Snapshots through the whole pump, under virtual time: a replica that is behind every log comes back."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from raftmq.ids import Generation, LogIndex, NodeId, ReplicaId, StoreId, Term, Tick
from raftmq.ports import DiskLevel, SnapshotEnd, SnapshotEntries, SnapshotHead, SnapshotPart
from raftmq.raft.messages import RequestVote
from raftmq.raft.types import EntryKind, HardState, Membership, Role
from raftmq.records.entry import CorruptEntry, seal
from raftmq.records.membership_codec import encode_membership
from raftmq.records.topic_kinds import TopicKind
from raftmq.replica.cut import take_cut
from raftmq.replica.installing import Snapshot
from raftmq.replica.opening import next_generation
from raftmq.replica.retention import Retention
from raftmq.replica.rows import fresh_row
from raftmq.replica.waits import Ack, Acks
from tests.replica.test_trimming import BATCH, TRIM_INTERVAL, WAITED_FOR, check_disk, fill
from tests.replica.world import GROUP, World


def left_behind(seed: int = 1, batches: int = 60) -> tuple[World, int, int]:
    """A world whose leader has trimmed what the one that is down would need: (world, leader, the other)."""
    world = World(seed=seed)
    world.create_group()
    leader = world.elect()
    fill(world, leader, 5)
    world.run(1_000)
    away = next(n for n in (1, 2, 3) if n != leader)
    world.crash(away)
    world.run(WAITED_FOR)
    world.retain(Retention(size_bytes=20 * BATCH))
    fill(world, leader, batches)
    world.run(2 * TRIM_INTERVAL)
    leader = world.elect()
    assert world.group(leader).row.raft_start > 20
    return world, leader, away


def generations(world: World, number: int) -> set[int]:
    """What the disk of a node holds logs or state of."""
    image = world.nodes[NodeId(number)].store._image
    return {generation for generation, log in image.logs.items() if log.entries} | {
        generation for generation, rows in image.states.items() if rows
    }


def check_whole(world: World, number: int) -> None:
    """The replica's disk is in order, and nothing lies on it that belongs to nobody."""
    check_disk(world, number)
    assert generations(world, number) == {world.group(number).row.generation}
    assert world.group(number).row.installing is None


def comes_back(world: World) -> None:
    assert world.run(60_000, world.equal), world.describe()
    world.run(1_000)
    for number in world.nodes:
        check_whole(world, number)


def test_a_replica_away_for_longer_than_retention_comes_back_by_snapshot() -> None:
    world, leader, away = left_behind()
    world.restart(away)
    comes_back(world)
    assert [order.from_index for order in world.fetches] == [0]
    assert world.group(away).row.raft_start == world.group(leader).row.raft_start
    assert world.group(away).machine.log_start_offset == world.group(leader).machine.log_start_offset
    start = world.group(away).row.raft_start
    assert world.group(away).node.term_at(start) == world.group(leader).node.term_at(start) is not None, (
        "can be sent on"
    )


def test_a_full_disk_takes_no_snapshot_until_there_is_room() -> None:
    """It would be filled by the whole log, and its process end."""
    world, _, away = left_behind()
    world.restart(away)
    heartbeats = world.nodes[NodeId(away)].replicas.heartbeats
    heartbeats.set_disk(DiskLevel.FULL)
    world.run(10_000)
    assert not world.fetches
    heartbeats.set_disk(DiskLevel.AMPLE)
    assert world.run(10_000, lambda: world.parts_taken >= 4)
    heartbeats.set_disk(DiskLevel.FULL)
    world.run(100)
    taken = world.parts_taken
    world.run(10_000)
    assert world.parts_taken == taken
    assert not world.equal()
    heartbeats.set_disk(DiskLevel.AMPLE)
    comes_back(world)
    assert world.fetches[-1].from_index > 0, "it goes on where it stopped"


def test_between_two_generations_a_replica_takes_no_messages() -> None:
    """What they would want written belongs to neither."""
    world, leader, away = left_behind()
    world.cut = {(NodeId(a), NodeId(away)) for a in (1, 2, 3)}
    world.restart(away)
    give(world, away, parts_for(world, leader)[:-1])
    world.nodes[NodeId(away)].replicas.installs.take(GROUP, parts_for(world, leader)[-1], lambda: None)
    group = world.group(away)
    assert world.run(100, lambda: group.is_out_of_service)
    before = group.node.status()
    me, other = world.nodes[NodeId(away)].replica, world.nodes[NodeId(leader)].replica
    term = Term(before.term + 9)
    group.step(RequestVote(other, me, term, LogIndex(10**6), Term(before.term + 8), transfer=True), world.time.tick())
    group.tick(Tick(world.time.now + 10**6))
    assert group.node.status() == before
    assert group.deadline() is None
    assert take_cut(group, LogIndex(0)) is None
    assert world.run(100, lambda: not group.is_out_of_service)
    assert group.node.commit_index > before.commit_index


@pytest.mark.parametrize("suspect", [False, True])
def test_term_vote_and_suspicion_outlive_an_install(suspect: bool) -> None:
    world, leader, _ = left_behind()
    head = parts_for(world, leader)[0]
    assert isinstance(head, SnapshotHead)
    voted = HardState(Term(7), world.nodes[NodeId(3)].replica)
    old = replace(world.group(leader).row, hard_state=voted, suspect=suspect, installing=Generation(9))
    new = Snapshot(Generation(9), head, TopicKind.RECORDS).row(old)
    assert (new.hard_state, new.suspect, new.generation, new.installing) == (voted, suspect, 9, None)


def test_the_configuration_is_that_of_the_last_entry_that_has_one() -> None:
    world, leader, _ = left_behind()
    head, *parts = parts_for(world, leader)
    assert isinstance(head, SnapshotHead)
    old = world.group(leader).row
    meta, last = head.meta, parts[-3]
    assert isinstance(last, SnapshotEntries)
    assert Snapshot(Generation(9), head, TopicKind.RECORDS).row(old).memberships == (
        (head.raft_start - 1, meta.membership),
    )
    changed = Membership(meta.membership.voters, learners=frozenset({ReplicaId(NodeId(7), StoreId(7))}))
    before = parts[-4]
    assert isinstance(before, SnapshotEntries)
    (previous,), (replaced,) = before.entries, last.entries
    entry = seal(
        previous_chain=previous.chain,
        index=replaced.index,
        term=replaced.term,
        kind=EntryKind.MEMBERSHIP,
        version=1,
        base_offset=previous.next_offset,
        count=0,
        log_tick=replaced.log_tick,
        wall_ms=replaced.wall_ms,
        inline=encode_membership(changed),
    )
    for membership, fits in ((changed, True), (meta.membership, False)):
        other = replace(head, meta=replace(meta, membership=membership), chain=entry.chain)
        snapshot = Snapshot(Generation(9), other, TopicKind.RECORDS)
        for part in [*parts[:-3], SnapshotEntries((entry,))]:
            snapshot.take(part)
        assert snapshot.row(old).memberships == ((entry.index, membership),)
        with pytest.raises(CorruptEntry, match="state" if fits else "configuration"):
            snapshot.take(SnapshotEnd(bytes(16)))


def test_a_generation_that_was_being_filled_is_not_used_again() -> None:
    row = fresh_row(GROUP, Generation(3), Membership(frozenset()), None)
    assert next_generation([replace(row, installing=Generation(8))]) == 9
    assert next_generation([replace(row, generation=Generation(8), installing=Generation(3))]) == 9


def test_it_is_in_sync_afterwards_and_can_lead() -> None:
    world, leader, away = left_behind()
    world.restart(away)
    comes_back(world)
    world.run(3_000)
    answers = world.produce(leader, b"x")
    assert world.run(3_000, lambda: bool(answers))
    assert isinstance(answers[0], Ack)
    assert answers[0].replicas == (1, 2, 3)
    world.group(leader).node.transfer_leadership(world.nodes[NodeId(away)].replica, world.time.tick())
    world.nodes[NodeId(leader)].replicas.touch(GROUP)
    assert world.run(5_000, lambda: world.leaders() == [away])
    world.elect()
    fill(world, away, 3)
    comes_back(world)


def test_it_comes_back_under_load() -> None:
    world, leader, away = left_behind()
    world.part_bytes = 1
    world.restart(away)
    for _ in range(80):  # for longer than it takes until the order is repeated
        fill(world, leader, 2)
    assert world.fetches
    comes_back(world)


def test_what_producers_have_sent_is_known_afterwards() -> None:
    world = World()
    world.create_group()
    leader = world.elect()
    away = next(n for n in (1, 2, 3) if n != leader)
    world.crash(away)
    world.retain(Retention(size_bytes=5 * BATCH))
    sent = world.produce(leader, b"a", b"b", producer=(9, 0, 0), acks=Acks.QUORUM)
    assert world.run(3_000, lambda: bool(sent))
    world.run(WAITED_FOR)
    fill(world, leader, 40)
    world.run(2 * TRIM_INTERVAL)
    world.restart(away)
    comes_back(world)
    assert world.fetches
    world.run(3_000)
    world.group(leader).node.transfer_leadership(world.nodes[NodeId(away)].replica, world.time.tick())
    world.nodes[NodeId(leader)].replicas.touch(GROUP)
    assert world.run(5_000, lambda: world.leaders() == [away])
    world.elect()
    again = world.produce(away, b"a", b"b", producer=(9, 0, 0), acks=Acks.QUORUM)
    assert world.run(3_000, lambda: bool(again))
    assert isinstance(again[0], Ack)
    assert (again[0].duplicate, again[0].base_offset) == (True, 0)


def test_a_fetch_that_is_cut_goes_on_where_it_stopped() -> None:
    world, _leader, away = left_behind()
    world.part_bytes = 1
    world.restart(away)
    for _ in range(3):
        taken = world.parts_taken
        assert world.run(10_000, lambda taken=taken: world.parts_taken >= taken + 4)  # type: ignore[misc]
        world.cut_off(away)
        world.run(500)
        world.heal()
    comes_back(world)
    wanted = [order.from_index for order in world.fetches]
    assert wanted == sorted(wanted)
    assert len(set(wanted)) >= 3, wanted


def test_a_fetch_that_stopped_before_entries_that_are_gone_since_starts_over() -> None:
    world, leader, away = left_behind()
    world.part_bytes = 1
    world.restart(away)
    assert world.run(10_000, lambda: world.parts_taken >= 5)
    world.cut_off(away)
    half = world.group(away).row.installing
    assert half is not None
    world.run(WAITED_FOR)
    fill(world, leader, 60)
    world.run(2 * TRIM_INTERVAL)
    world.heal()
    comes_back(world)
    assert world.group(away).generation > half


def test_two_snapshots_in_a_row() -> None:
    world, leader, away = left_behind()
    for _ in range(2):
        world.restart(away)
        comes_back(world)
        world.crash(away)
        world.run(WAITED_FOR)
        fill(world, leader, 60)
        world.run(2 * TRIM_INTERVAL)
    world.restart(away)
    comes_back(world)
    assert len([order for order in world.fetches if order.from_index == 0]) >= 3


@pytest.mark.parametrize("parts", [1, 2, 8, 20])
@pytest.mark.parametrize("keep_unsynced", [False, True])
def test_a_receiver_that_dies_in_the_middle_begins_anew(parts: int, keep_unsynced: bool) -> None:
    world, _leader, away = left_behind()
    world.part_bytes = 1
    world.restart(away)
    before = world.group(away).end_chain
    assert world.run(10_000, lambda: world.parts_taken >= parts)
    world.crash(away, keep_unsynced=keep_unsynced)
    world.restart(away)
    world.run(20)
    assert generations(world, away) == {world.group(away).generation}, "of the half snapshot nothing is left"
    assert world.group(away).end_chain == before
    comes_back(world)


@pytest.mark.parametrize("delay", range(0, 60, 3))
def test_a_receiver_that_dies_around_the_switch_is_the_old_replica_or_the_new_one(delay: int) -> None:
    world, leader, away = left_behind(seed=delay)
    world.restart(away)
    old = world.group(away).machine.applied_index
    assert world.run(10_000, lambda: world.group(away).row.installing is not None)
    world.run(delay)
    world.crash(away, keep_unsynced=bool(delay % 2))
    world.restart(away)
    applied = world.group(away).machine.applied_index
    assert applied == old or applied >= world.group(leader).row.raft_start
    comes_back(world)


def test_a_source_that_dies_is_replaced_by_the_next_leader() -> None:
    world, leader, away = left_behind()
    world.part_bytes = 1
    world.restart(away)
    assert world.run(10_000, lambda: world.parts_taken >= 6)
    world.crash(leader)
    world.run(10_000)
    world.restart(leader)
    comes_back(world)
    sources = {order.node for order in world.fetches}
    assert len(sources) == 2, "another node went on"
    assert any(order.from_index > 0 for order in world.fetches), "where the first one stopped"


def test_entries_are_kept_for_a_replica_that_is_fetching() -> None:
    """What is appended meanwhile must still be there when the snapshot is installed, or it would never end."""
    world, leader, away = left_behind()
    world.part_bytes = 1
    world.restart(away)
    assert world.run(10_000, lambda: world.parts_taken >= 2)
    start = world.group(leader).row.raft_start
    first = world.fetches[0]
    while world.group(away).row.installing is not None:
        fill(world, leader, 1)
        assert world.group(leader).row.raft_start == start
    comes_back(world)
    assert world.fetches[0] == first


def parts_for(world: World, source: int) -> list[SnapshotPart]:
    group, store = world.group(source), world.nodes[NodeId(source)].store
    cut = take_cut(group, LogIndex(0))
    assert cut is not None
    entries = store.read_entries(cut.generation, cut.head.first_index, cut.head.meta.index, 1 << 30)
    return [cut.head, *(SnapshotEntries((entry,)) for entry in entries), *cut.ending()]


def give(world: World, target: int, parts: list[SnapshotPart]) -> None:
    """Have `target` take the parts of a snapshot, one by one."""
    for part in parts:
        world.nodes[NodeId(target)].replicas.installs.take(GROUP, part, lambda: None)
        world.run(10)


def lagging() -> tuple[World, int, int, list[SnapshotPart]]:
    """A world with a follower that lags, cut off, behind a log that nobody trims: (.., leader, follower, parts)."""
    world = World()
    world.create_group()
    leader = world.elect()
    world.run(1_000)
    follower = next(n for n in (1, 2, 3) if n != leader)
    world.cut_off(follower)
    fill(world, leader, 10)
    return world, leader, follower, parts_for(world, leader)


def test_a_snapshot_that_leads_nowhere_is_not_even_begun() -> None:
    world, _leader, follower, parts = lagging()
    world.heal()
    assert world.run(20_000, world.equal)
    assert world.nodes[NodeId(follower)].replicas.installs.take(GROUP, parts[0], lambda: None)
    assert world.group(follower).row.installing is None


def test_a_snapshot_that_came_too_late_is_dropped() -> None:
    """By the time it is whole the log may have caught up; it must not be thrown away, nor taken back."""
    world, leader, follower, parts = lagging()
    installs = world.nodes[NodeId(follower)].replicas.installs
    installs._fetching.add(GROUP)
    before = world.group(follower).generation
    give(world, follower, parts[:-1])
    world.heal()
    fill(world, leader, 3)
    assert world.run(20_000, world.equal)
    assert generations(world, follower) > {before}
    give(world, follower, parts[-1:])
    installs.ended(GROUP)
    comes_back(world)
    assert world.group(follower).generation == before
    assert world.group(follower).machine.next_offset == 13


def test_half_a_snapshot_is_swept_away_when_the_replica_has_caught_up_by_itself() -> None:
    world, _leader, follower, parts = lagging()
    before = world.group(follower).generation
    give(world, follower, parts[:-1])
    assert world.group(follower).row.installing is not None
    world.heal()
    comes_back(world)
    assert world.group(follower).generation == before


@pytest.mark.parametrize("as_leader", [False, True])
def test_an_install_enters_the_term_of_its_snapshot(as_leader: bool) -> None:
    """A source may be ahead of everything that the receiver has heard, and even have replaced it as the leader."""
    world = World()
    world.create_group()
    old = world.elect()
    fill(world, old, 3)
    world.run(1_000)
    new, third = (n for n in (1, 2, 3) if n != old)
    away = old if as_leader else third
    if not as_leader:
        world.cut_off(away)
    world.group(old).node.transfer_leadership(world.nodes[NodeId(new)].replica, world.time.tick())
    world.nodes[NodeId(old)].replicas.touch(GROUP)
    assert world.run(900, lambda: world.group(new).node.role is Role.CANDIDATE)
    world.cut_off(away)
    assert world.run(900, lambda: world.group(new).can_serve())
    fill(world, new, 3)
    term = world.group(new).node.term
    group = world.group(away)
    assert group.is_leader == as_leader
    assert group.node.term < term
    give(world, away, parts_for(world, new))
    assert not group.is_leader
    assert group.node.term == group.row.hard_state.term == term
    world.crash(away)
    world.restart(away)
    assert world.group(away).node.term == term
    assert world.group(away).machine.next_offset == 6
    world.heal()
    comes_back(world)


def test_rows_that_wait_to_be_written_keep_their_order() -> None:
    """Derived state is flushed, and a snapshot begins, before the next round: the row of the former is the older."""
    world, _leader, follower, parts = lagging()
    node = world.nodes[NodeId(follower)]
    applied = world.group(follower).machine.applied_index
    world.group(follower).row = replace(world.group(follower).row, commit_index=LogIndex(applied - 1))
    node.replicas.upkeep._unflushed.add(GROUP)
    world.time.now += 1_000
    node.replicas.tick()
    node.replicas.installs.take(GROUP, parts[0], lambda: None)
    world.run(20)
    assert [row.installing for row in node.store.replicas()] == [world.group(follower).row.installing] != [None]


def switching() -> tuple[World, int, int]:
    """A world in which a replica's switch is on its way to the disk: (.., leader, the node of that replica)."""
    world, leader, follower, parts = lagging()
    give(world, follower, parts[:-1])
    world.nodes[NodeId(follower)].replicas.installs.take(GROUP, parts[-1], lambda: None)
    assert world.run(20, lambda: world.group(follower).is_out_of_service)
    return world, leader, follower


def test_nothing_is_flushed_between_two_generations() -> None:
    world, _leader, follower = switching()
    replicas = world.nodes[NodeId(follower)].replicas
    replicas.upkeep._unflushed.add(GROUP)
    replicas.upkeep._next_flush = world.time.tick()
    machine = world.group(follower).machine
    machine._taken_index = LogIndex(0)  # type: ignore[attr-defined]
    replicas.tick()
    world.heal()
    comes_back(world)


def test_a_replica_that_is_made_anew_knows_nothing_of_the_switch_before() -> None:
    world, _leader, follower = switching()
    node = world.nodes[NodeId(follower)]
    membership = world.group(follower).node.membership
    node.replicas.drop(GROUP)
    created = node.replicas.create(GROUP, membership, eager=False)
    world.run(1_000)
    assert not created.is_out_of_service
    assert generations(world, follower) == set()
    assert [row.generation for row in node.store.replicas()] == [created.generation]


def test_what_is_not_what_it_should_be_is_refused_and_nothing_of_it_is_kept() -> None:
    world, leader, away = left_behind()
    world.cut = {(NodeId(a), NodeId(away)) for a in (1, 2, 3)}
    world.restart(away)
    good = parts_for(world, leader)
    head = good[0]
    assert isinstance(head, SnapshotHead)
    wrong: list[list[SnapshotPart]] = [
        good[1:],
        [replace(head, first_index=LogIndex(head.first_index + 1))],
        [head, *good[2:]],
        [head, good[1], good[1]],
        [replace(head, chain=bytes(8)), *good[1:]],
        [replace(head, anchor=replace(head.anchor, chain=bytes(8))), *good[1:]],
        [replace(head, meta=replace(head.meta, term=head.meta.term + 1)), *good[1:]],  # type: ignore[arg-type]
        [replace(head, meta=replace(head.meta, index=head.meta.index - 1)), *good[1:]],  # type: ignore[arg-type]
        [*good[:-1], SnapshotEnd(bytes(16))],
        [*good[:-2], good[-1]],
        [*good[:-3], *good[-2:]],
    ]
    before = world.group(away).node.status()
    for parts in wrong:
        with pytest.raises(CorruptEntry):
            give(world, away, parts)
        world.run(10)
        assert generations(world, away) == {world.group(away).generation}
        assert world.group(away).row.installing is None
    assert world.group(away).node.status().applied_index == before.applied_index
    give(world, away, good)
    assert world.group(away).machine.applied_index == head.meta.index
    world.heal()
    comes_back(world)


def test_a_replica_that_is_dropped_while_it_fetches_leaves_nothing() -> None:
    world, _leader, away = left_behind()
    world.part_bytes = 1
    world.restart(away)
    assert world.run(10_000, lambda: world.parts_taken >= 5)
    world.nodes[NodeId(away)].replicas.drop(GROUP)
    world.run(200)
    assert generations(world, away) == set()
    assert world.nodes[NodeId(away)].store.replicas() == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_breaks_everybody_comes_back_equal(seed: int) -> None:
    rng = Random(seed)
    world = World(seed=seed, held_bytes_max=rng.choice((0, 5 * BATCH, 1 << 40)))
    world.part_bytes = rng.choice((1, 30_000, 1 << 20))
    world.create_group()
    leader = world.elect()
    world.retain(Retention(size_bytes=rng.choice((2, 8)) * BATCH))
    for _ in range(6):
        victim = rng.choice((1, 2, 3))
        world.crash(victim, keep_unsynced=rng.random() < 0.5)
        world.run(rng.choice((1_000, WAITED_FOR)))
        leader = world.elect()
        fill(world, leader, rng.randint(1, 30))
        world.run(rng.choice((0, TRIM_INTERVAL, 2 * TRIM_INTERVAL)))
        world.restart(victim)
        for _ in range(rng.randint(0, 4)):
            world.run(rng.randint(1, 1_500))
            match rng.randrange(3):
                case 0:
                    world.crash(victim, keep_unsynced=rng.random() < 0.5)
                    world.restart(victim)
                case 1:
                    world.cut_off(rng.choice((1, 2, 3)))
                    world.run(rng.randint(1, 3_000))
                    world.heal()
                case _:
                    leader = world.elect()
                    fill(world, leader, rng.randint(1, 5))
        leader = world.elect()
    comes_back(world)
