"""The pump under virtual time: what is acknowledged survives what may happen to a minority."""

import pytest

from raftmq.errors import (
    DeadlineExceeded,
    LeadershipLost,
    NotEnoughReplicas,
    NotLeader,
    Outcome,
    OutOfOrderSequence,
    RaftmqError,
)
from raftmq.ids import BootCount, NodeId
from raftmq.replica.waits import Ack, Acks
from tests.replica.world import World


@pytest.fixture
def world() -> World:
    world = World()
    world.create_group()
    return world


def acked(answers: list[Ack | RaftmqError]) -> Ack:
    assert len(answers) == 1, answers
    assert isinstance(answers[0], Ack), answers
    return answers[0]


def test_the_preferred_replica_of_a_new_group_leads(world: World) -> None:
    assert world.elect() == 1
    assert world.time.now < 500, "the first election does not wait for a timeout"


def test_an_all_ack_names_every_replica_and_all_logs_become_equal(world: World) -> None:
    leader = world.elect()
    first = world.produce(leader, b"a", b"b")
    second = world.produce(leader, b"c")
    assert world.run(5_000, lambda: bool(first and second))
    assert (acked(first).base_offset, acked(first).count, acked(first).replicas) == (0, 2, (1, 2, 3))
    assert acked(second).base_offset == 2
    assert world.run(1_000, world.equal)
    assert world.group(2).machine.next_offset == 3


def test_quorum_answers_without_the_slowest_and_all_waits_until_it_is_out_of_sync(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    follower = next(n for n in (1, 2, 3) if n != leader)
    world.cut_off(follower)
    quorum = world.produce(leader, b"q", acks=Acks.QUORUM)
    everyone = world.produce(leader, b"a", acks=Acks.ALL, timeout=10_000)
    assert world.run(1_000, lambda: bool(quorum))
    assert len(acked(quorum).replicas) == 2
    assert not everyone
    assert world.run(5_000, lambda: bool(everyone))
    assert follower not in acked(everyone).replicas


def test_a_dead_follower_does_not_hold_up_all(world: World) -> None:
    leader = world.elect()
    follower = next(n for n in (1, 2, 3) if n != leader)
    boot = world.nodes[NodeId(follower)].info.boot
    world.crash(follower)
    began = world.time.now
    answers = world.produce(leader, b"a")
    world.nodes[NodeId(leader)].replicas.on_peer_lost(NodeId(follower), BootCount(boot))
    assert world.run(1_000, lambda: bool(answers))
    assert world.time.now - began < 200
    assert follower not in acked(answers).replicas


def test_too_few_in_sync_is_refused_before_the_append(world: World) -> None:
    leader = world.elect()
    for other in (1, 2, 3):
        if other != leader:
            boot = world.nodes[NodeId(other)].info.boot
            world.crash(other)
            world.nodes[NodeId(leader)].replicas.on_peer_lost(NodeId(other), boot)
    last = world.group(leader).node.last_index
    with pytest.raises(NotEnoughReplicas) as refused:
        world.produce(leader, b"a")
    assert refused.value.outcome is Outcome.NOT_APPLIED
    assert world.group(leader).node.last_index == last


def test_an_isolated_leader_steps_down_and_its_producers_are_told_unknown(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    world.cut_off(leader)
    lost = world.produce(leader, b"lost?", timeout=30_000)
    assert world.run(5_000, lambda: bool(lost))
    assert isinstance(lost[0], LeadershipLost)
    assert lost[0].outcome is Outcome.UNKNOWN
    assert not world.group(leader).is_leader
    with pytest.raises(AssertionError):
        world.leadership(leader)
    other = world.elect()
    assert other != leader
    kept = world.produce(other, b"kept", acks=Acks.QUORUM)
    assert world.run(3_000, lambda: bool(kept))
    world.heal()
    assert world.run(10_000, world.equal), world.describe()
    assert acked(kept).base_offset == 0, "the isolated leader's record was never committed, and is gone"


def test_a_wait_that_runs_out_before_the_commit_says_unknown(world: World) -> None:
    leader = world.elect()
    world.cut_off(leader)
    answers = world.produce(leader, b"a", timeout=100)
    assert world.run(1_000, lambda: bool(answers))
    assert isinstance(answers[0], DeadlineExceeded)
    assert answers[0].outcome is Outcome.UNKNOWN


def test_an_acknowledged_record_survives_the_crash_of_every_node_at_once(world: World) -> None:
    leader = world.elect()
    answers = [world.produce(leader, f"{n}".encode()) for n in range(20)]
    assert world.run(5_000, lambda: all(answers))
    for number in (1, 2, 3):
        world.crash(number)
    for number in (1, 2, 3):
        world.restart(number)
    world.elect()
    assert world.run(5_000, world.equal)
    assert world.group(1).machine.next_offset == 20


def test_a_follower_that_was_away_catches_up_from_disk(world: World) -> None:
    world = World(tail_bytes=1)  # every group keeps the minimum in memory
    world.create_group()
    leader = world.elect()
    follower = next(n for n in (1, 2, 3) if n != leader)
    world.crash(follower)
    for _ in range(30):
        answers = world.produce(leader, b"x" * 100_000, acks=Acks.QUORUM)
        assert world.run(5_000, lambda answers=answers: bool(answers))  # type: ignore[misc]
        acked(answers)
    assert world.group(leader).tail.first_index > 5, "the log must not be in memory as a whole"
    world.restart(follower)
    assert world.run(20_000, world.equal), world.describe()


def test_a_retry_after_a_change_of_leader_gets_the_original_offset(world: World) -> None:
    leader = world.elect()
    first = world.produce(leader, b"a", b"b", producer=(9, 0, 0))
    assert world.run(5_000, lambda: bool(first))
    world.crash(leader)
    leader = world.elect()
    again = world.produce(leader, b"a", b"b", producer=(9, 0, 0), acks=Acks.QUORUM)
    following = world.produce(leader, b"c", producer=(9, 0, 2), acks=Acks.QUORUM)
    assert world.run(5_000, lambda: bool(again and following))
    assert acked(again).duplicate
    assert acked(again).base_offset == acked(first).base_offset == 0
    assert acked(following).base_offset == 2
    with pytest.raises(OutOfOrderSequence) as gap:
        world.produce(leader, b"e", producer=(9, 0, 7))
    assert gap.value.metadata["leader_epoch"] == str(world.group(leader).node.term)


def test_a_duplicate_of_an_uncommitted_batch_waits_with_it(world: World) -> None:
    leader = world.elect()
    first = world.produce(leader, b"a", producer=(9, 0, 0))
    again = world.produce(leader, b"a", producer=(9, 0, 0))
    assert not first
    assert not again
    assert world.run(5_000, lambda: bool(first and again))
    assert acked(again).duplicate
    assert acked(again).base_offset == acked(first).base_offset


def test_a_follower_takes_no_records(world: World) -> None:
    leader = world.elect()
    leadership = world.leadership(leader)
    world.cut_off(leader)
    assert world.run(10_000, lambda: not world.group(leader).is_leader)
    assert not leadership.current
    other = world.elect()
    world.heal()
    assert world.leaders() == [other]


def test_peer_lost_elects_before_the_election_timeout(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    boot = world.nodes[NodeId(leader)].info.boot
    world.crash(leader)
    began = world.time.now
    for number, node in world.nodes.items():
        if number != leader:
            node.replicas.on_peer_lost(NodeId(leader), boot)
    world.elect()
    assert world.time.now - began < 600


def test_an_idle_group_sends_nothing_of_its_own_and_keeps_its_leader(world: World) -> None:
    leader = world.elect()
    world.run(5_000)
    term, last = world.group(leader).node.term, world.group(leader).node.last_index
    sent: list[object] = []
    original = world.send

    def spy(source: NodeId, target: NodeId, channel: object, frame: object) -> None:
        if getattr(frame, "messages", ()):
            sent.append(frame)
        original(source, target, channel, frame)  # type: ignore[arg-type]

    world.send = spy  # type: ignore[method-assign]
    world.run(30_000)
    assert sent == []
    assert world.leaders() == [leader]
    assert (world.group(leader).node.term, world.group(leader).node.last_index) == (term, last)


def test_not_leader_is_said_before_anything_changes(world: World) -> None:
    leader = world.elect()
    stale = world.leadership(leader)
    world.cut_off(leader)
    world.run(10_000, lambda: not world.group(leader).is_leader)
    from raftmq.records.batch import check_batch, make_batch
    from raftmq.v1 import types_pb2

    batch = check_batch(make_batch([types_pb2.Record(value=b"x")]), max_batch_bytes=1000)
    with pytest.raises(NotLeader):
        stale.produce(batch, Acks.ALL, 2, world.time.tick(), world.time.wall_ms(), world.time.tick(), lambda _: None)
