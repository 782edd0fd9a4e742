"""Groups with nothing to do cost nothing, and decide as if they were looked at all the time."""

from __future__ import annotations

from collections import Counter

import pytest

from raftmq.ids import GroupId, NodeId, Term, Tick
from raftmq.raft.node import RaftNode
from raftmq.raft.types import Membership
from raftmq.replica.group import ReplicaGroup
from tests.replica.world import GROUP, World

TIMEOUT = 1000
"""The election timeout of the world."""
LONG = 60_000


@pytest.fixture
def world() -> World:
    world = World()
    world.create_group()
    return world


def rested(world: World) -> int:
    """Nothing has happened for long; returns the leader."""
    leader = world.elect()
    world.run(LONG)
    assert world.leaders() == [leader]
    return leader


def others(world: World, number: int) -> list[int]:
    return [node for node in world.nodes if node != number]


def isolate(world: World, number: int) -> None:
    world.cut |= {(a, b) for a in world.nodes for b in world.nodes if a != b and number in (a, b)}


def terms(world: World) -> set[Term]:
    return {world.group(number).node.term for number in world.nodes}


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Looks at groups from here on."""
    looks: Counter[str] = Counter()

    def counting(name: str, method: object) -> object:
        def call(*args: object) -> object:
            looks[name] += 1
            return method(*args)  # type: ignore[operator]

        return call

    monkeypatch.setattr(RaftNode, "tick", counting("tick", RaftNode.tick))
    monkeypatch.setattr(ReplicaGroup, "advance", counting("round", ReplicaGroup.advance))
    return looks


def test_nobody_looks_at_groups_that_have_nothing_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2, 6):
        everyone = Membership(frozenset(node.replica for node in world.nodes.values()))
        for node in world.nodes.values():
            node.replicas.create(GroupId(number), everyone, eager=node.number == 1)
    rested(world)
    looks = counted(monkeypatch)
    world.run(20 * TIMEOUT)
    assert not looks
    leader = world.elect()
    answers = world.produce(leader, b"a")
    assert world.run(1_000, lambda: bool(answers))
    assert looks, "what is counted here would have been seen"


def test_a_replica_that_is_away_and_behind_costs_no_more_than_a_probe_per_timeout(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = rested(world)
    world.crash(away)
    leader = world.elect()
    world.run(LONG)
    assert world.leaders() == [leader]
    assert not world.leadership(leader).in_sync.members(world.time.tick()).count(world.nodes[NodeId(away)].replica)
    looks = counted(monkeypatch)
    world.run(20 * TIMEOUT)
    assert looks["tick"] <= 50, "for the probe, and for the other follower"
    assert looks["round"] <= 25
    world.restart(away)
    assert world.run(5_000, world.equal), "it is probed at once when it is back"


def test_followers_miss_a_leader_that_falls_silent_neither_sooner_nor_later(world: World) -> None:
    leader = rested(world)
    before = terms(world)
    isolate(world, leader)
    rest = others(world, leader)
    assert not world.run(TIMEOUT - 100, lambda: any(world.group(n).node.term not in before for n in rest))
    assert world.run(2 * TIMEOUT, lambda: any(world.group(n).is_leader for n in rest))


def test_a_leader_that_hears_nobody_steps_down_in_time(world: World) -> None:
    leader = rested(world)
    isolate(world, leader)
    assert not world.run(TIMEOUT - 250, lambda: not world.group(leader).is_leader)
    assert world.run(400, lambda: not world.group(leader).is_leader)


def test_a_leader_that_one_of_two_followers_left_goes_on_to_rest_on_the_other(world: World) -> None:
    leader = rested(world)
    gone, left = others(world, leader)
    isolate(world, gone)
    world.run(LONG)
    assert world.group(leader).is_leader
    isolate(world, left)
    assert not world.run(TIMEOUT - 250, lambda: not world.group(leader).is_leader)
    assert world.run(400, lambda: not world.group(leader).is_leader)


def test_a_leader_whose_process_starts_anew_is_missed_from_when_it_was_heard_last(world: World) -> None:
    """The word of the new process is worth nothing for the group; what was heard before it still counts."""
    leader = rested(world)
    before = terms(world)
    world.crash(leader)
    world.restart(leader)
    assert not world.run(TIMEOUT - 150, lambda: terms(world) != before)
    assert world.run(3 * TIMEOUT, lambda: bool(world.leaders()))


def test_a_follower_that_went_on_to_another_term_is_missed_by_its_leader(world: World) -> None:
    """It says so in its acknowledgements, and its node is as alive as ever: nobody else is told."""
    leader = rested(world)
    gone, left = others(world, leader)
    isolate(world, gone)
    world.run(LONG)
    world.nodes[NodeId(left)].replicas.drop(GROUP)
    assert not world.run(TIMEOUT - 250, lambda: not world.group(leader).is_leader)
    assert world.run(400, lambda: not world.group(leader).is_leader)


def test_a_node_that_leads_a_group_no_more_is_missed_by_its_followers(world: World) -> None:
    """It only leaves the group out of its list."""
    leader = rested(world)
    world.nodes[NodeId(leader)].replicas.drop(GROUP)
    rest = [world.group(number) for number in others(world, leader)]
    assert not world.run(TIMEOUT - 150, lambda: any(group.node.term != rest[0].node.term for group in rest))
    assert world.run(2 * TIMEOUT, lambda: any(group.is_leader for group in rest))


def test_a_node_that_leaves_the_cluster_is_rested_on_no_more(world: World) -> None:
    leader = rested(world)
    world.nodes[NodeId(leader)].replicas.set_nodes([NodeId(leader)])
    assert not world.run(TIMEOUT - 250, lambda: not world.group(leader).is_leader)
    assert world.run(400, lambda: not world.group(leader).is_leader)


def test_a_timer_counts_from_the_leader_that_a_higher_term_makes_forget(world: World) -> None:
    """A replica that asks for a vote and gets none does not make everybody else ask as well, all at once."""
    leader = rested(world)
    follower = world.group(others(world, leader)[0])
    now = world.time.tick()
    follower.node._core.advance_clock(now)
    follower.node._core.set_term(Term(follower.node.term + 1))
    deadline = follower.node.deadline()
    assert deadline is not None
    assert deadline > Tick(now + TIMEOUT - 200)
