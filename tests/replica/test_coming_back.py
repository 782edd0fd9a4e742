"""A replica that moves away and comes back to the same disk has forgotten what it voted and what it acknowledged: until
a leader vouches for its log it decides nothing, whoever asks."""

from __future__ import annotations

from raftmq.ids import NodeId
from raftmq.raft.types import Membership
from raftmq.replica import changing
from raftmq.replica.waits import Ack
from tests.replica.world import GROUP, World


def set_members(world: World, voters: set[int], learners: set[int]) -> None:
    """Bring the group to this configuration, through whoever leads it."""
    replicas = {number: world.nodes[NodeId(number)].replica for number in voters | learners}
    target = Membership(frozenset(replicas[n] for n in voters), learners=frozenset(replicas[n] for n in learners))

    def found() -> tuple[int, changing.Configuration]:
        leader = world.elect()
        replicas = world.nodes[NodeId(leader)].replicas
        return leader, changing.configuration(replicas, GROUP, world.time.tick())

    leader, before = found()
    changing.change(world.nodes[NodeId(leader)].replicas, GROUP, before.index, target, world.time.tick())

    def there() -> bool:
        now = changing.configuration(world.nodes[NodeId(leader)].replicas, GROUP, world.time.tick())
        return now.membership == target and now.is_settled and {r.node for r in now.caught_up} >= learners

    assert world.run(20_000, there), world.describe()


def newcomer(world: World, number: int) -> None:
    world.nodes[NodeId(number)].replicas.create(GROUP, Membership(frozenset()), eager=False)


def cut_between(world: World, some: set[int], others: set[int]) -> None:
    for one in some:
        for other in others:
            world.cut |= {(NodeId(one), NodeId(other)), (NodeId(other), NodeId(one))}


def test_a_replica_that_moved_away_and_back_elects_nobody_who_lacks_what_it_had_acknowledged() -> None:
    world = World(nodes=4)
    first = Membership(frozenset(world.nodes[NodeId(number)].replica for number in (1, 2, 3)))
    for number in (1, 2, 3):
        world.nodes[NodeId(number)].replicas.create(GROUP, first, eager=number == 1)
    newcomer(world, 4)
    assert world.elect() == 1
    world.run(2_000)
    world.cut_off(3)
    acknowledged = world.produce(1, b"precious", min_in_sync=2)
    assert world.run(5_000, lambda: bool(acknowledged))
    assert isinstance(acknowledged[0], Ack), "the first and the second replica hold it"
    set_members(world, {1, 2, 3}, {4})
    set_members(world, {1, 3, 4}, set())
    world.nodes[NodeId(2)].replicas.drop(GROUP)
    world.run(1_000)
    # It is to come back, and before the leader reaches it, the one that knows of none of this does.
    newcomer(world, 2)
    world.cut.clear()
    cut_between(world, {1, 4}, {2, 3})
    world.run(10_000)
    assert world.leaders() == [1], world.describe()
    world.heal()
    set_members(world, {1, 3, 4}, {2})
    set_members(world, {1, 2, 3}, set())
    assert not world.group(2).node.suspect, "a leader has vouched for it: it votes again"
