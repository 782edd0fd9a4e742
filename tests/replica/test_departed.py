"""A replica that returns to a group keeps what the one before it on this disk had promised."""

from __future__ import annotations

from raftmq.ids import GroupId, LogIndex, NodeId, Term
from raftmq.raft.messages import RequestVote
from raftmq.raft.types import Membership
from tests.replica.world import GROUP, World

NOBODY = Membership(frozenset())


def returned(world: World) -> int:
    """A follower whose replica was removed and, later and in another process, made again without a configuration."""
    leader = world.elect()
    world.run(1_000)
    follower = next(number for number in world.nodes if number != leader)
    world.nodes[follower].replicas.drop(GROUP)
    world.run(100)
    world.crash(follower)
    world.restart(follower)
    world.nodes[follower].replicas.create(GROUP, NOBODY, eager=False)
    return follower


def test_it_begins_in_the_term_of_the_one_before_and_has_no_vote() -> None:
    world = World()
    world.create_group()
    term = world.group(world.elect()).node.term
    follower = returned(world)
    node = world.group(follower).node
    assert node.term == term
    assert node.suspect
    # A member that missed the change of configuration counts it as a voter still, and its log is longer than nothing.
    other = next(each for number, each in world.nodes.items() if number != follower)
    request = RequestVote(other.replica, world.nodes[NodeId(follower)].replica, Term(term + 1), LogIndex(1), Term(1))
    world.group(follower).step(request, world.time.tick())
    assert node.term == term + 1
    world.run(100)
    assert world.group(follower).row.hard_state.vote is None


def test_it_votes_again_once_a_leader_has_brought_it_up_to_date() -> None:
    world = World()
    world.create_group()
    follower = returned(world)
    leader = world.elect()
    world.crash(leader)  # the next one does not know what the one before had acknowledged
    world.restart(leader)
    assert world.run(20_000, lambda: bool(world.leaders()) and not world.group(follower).node.suspect)
    leader = world.elect()
    world.crash(next(number for number in world.nodes if number not in (leader, follower)))
    answers = world.produce(leader, b"a", min_in_sync=2)
    assert world.run(5_000, lambda: bool(answers)), "its word makes a majority"


def test_nothing_is_kept_of_groups_that_are_no_more() -> None:
    world = World()
    world.create_group()
    world.elect()
    first, second = world.nodes[NodeId(1)].replicas, world.nodes[NodeId(2)].replicas
    first.drop(GROUP, lives_on=False)
    second.drop(GROUP)
    assert (first.departed.groups, second.departed.groups) == ([], [GROUP])
    world.run(100)
    world.crash(2)
    world.restart(2)
    second = world.nodes[NodeId(2)].replicas
    assert second.departed.groups == [GROUP]
    second.departed.forget([GROUP, GroupId(99)])
    assert second.departed.term(GROUP) is None
