"""Requests that share entries: each gets an answer of its own, as if it had one to itself."""

import pytest

from raftmq.errors import DeadlineExceeded, LeadershipLost, NotEnoughReplicas, NotLeader, Outcome, RaftmqError
from raftmq.ids import NodeId, Tick
from raftmq.records.loose import LooseRecords
from raftmq.replica import gathering
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


def refused(answers: list[Ack | RaftmqError]) -> RaftmqError:
    assert len(answers) == 1, answers
    assert isinstance(answers[0], RaftmqError), answers
    return answers[0]


def held_up(world: World, leader: int) -> list[Ack | RaftmqError]:
    """A request that is on its way to a quorum: whatever comes after it is gathered."""
    first = world.gather(leader, b"first")
    world.run(0)
    assert len(world.leadership(leader).gathering) == 0, "a lone request does not wait"
    return first


def test_what_comes_while_an_entry_is_on_its_way_shares_the_next_one(world: World) -> None:
    leader = world.elect()
    last = world.group(leader).node.last_index
    first = held_up(world, leader)
    later = [world.gather(leader, b"a"), world.gather(leader, b"b", b"c"), world.gather(leader, b"d")]
    assert world.run(5_000, lambda: all(later))
    assert [acked(answers).base_offset for answers in (first, *later)] == [0, 1, 2, 4]
    assert [acked(answers).count for answers in (first, *later)] == [1, 1, 2, 1]
    assert [acked(answers).index for answers in (first, *later)] == [last + 1, last + 2, last + 2, last + 2]
    assert world.run(1_000, world.equal)
    for node in (1, 2, 3):
        assert world.records(node) == [[b"first"], [b"a", b"b", b"c", b"d"]]


def test_a_receipt_says_how_long_the_records_waited_for_their_entry(world: World) -> None:
    leader = world.elect()
    world.run(1_000, world.equal)
    first = held_up(world, leader)
    later = world.gather(leader, b"later")
    assert world.run(5_000, lambda: bool(later))
    assert acked(first).queue_ms == 0
    assert acked(later).queue_ms > 0


def test_each_request_waits_for_its_own_level(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    slow = next(n for n in (1, 2, 3) if n != leader)
    held_up(world, leader)
    world.slow_disk[NodeId(slow)] = 300
    quorum = world.gather(leader, b"q", acks=Acks.QUORUM)
    everyone = world.gather(leader, b"a", acks=Acks.ALL)
    assert world.run(5_000, lambda: bool(quorum))
    assert len(acked(quorum).replicas) == 2
    assert not everyone
    assert world.run(5_000, lambda: bool(everyone))
    assert acked(everyone).index == acked(quorum).index
    assert acked(everyone).replicas == (1, 2, 3)


def test_who_does_not_wait_for_a_commit_does_not_wait_for_an_earlier_one_either(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    first = held_up(world, leader)
    for other in {1, 2, 3} - {leader}:
        world.slow_disk[NodeId(other)] = 1_000
    gathered = world.gather(leader, b"q", acks=Acks.QUORUM)
    on_disk = world.gather(leader, b"l", acks=Acks.LEADER)
    unanswered = world.gather(leader, b"n", acks=Acks.NONE)
    assert world.run(100, lambda: bool(on_disk and unanswered))
    assert not first
    assert not gathered
    assert world.run(5_000, lambda: bool(gathered))
    assert [acked(answers).base_offset for answers in (gathered, on_disk, unanswered)] == [1, 2, 3]


def test_a_batch_that_comes_later_lies_behind_what_was_gathered(world: World) -> None:
    leader = world.elect()
    held_up(world, leader)
    gathered = world.gather(leader, b"gathered")
    batch = world.produce(leader, b"batch", producer=(7, 0, 0))
    after = world.gather(leader, b"after")
    assert world.run(5_000, lambda: bool(gathered and batch and after))
    assert [acked(answers).base_offset for answers in (gathered, batch, after)] == [1, 2, 3]
    assert acked(batch).index == acked(gathered).index + 1


def test_an_entry_has_no_more_bytes_and_records_than_it_may_and_no_request_is_split(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = world.elect()
    held_up(world, leader)
    small = [world.gather(leader, bytes(100), bytes(100), max_bytes=500) for _ in range(3)]
    large = world.gather(leader, bytes(1_000), max_bytes=500)  # as large as that by itself
    monkeypatch.setattr(gathering, "COUNT_MAX", 3)
    many = [world.gather(leader, b"x", b"y", max_bytes=500) for _ in range(2)]
    assert world.run(5_000, lambda: all([*small, large, *many]))
    assert [len(entry) for entry in world.records(leader)] == [1, 4, 2, 1, 2, 2]
    assert [acked(answers).base_offset for answers in [*small, large, *many]] == [1, 3, 5, 7, 8, 10]


def test_leadership_that_ends_leaves_nothing_open_and_claims_nothing(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    world.cut_off(leader)
    first = held_up(world, leader)
    gathered = [world.gather(leader, b"a", timeout=60_000), world.gather(leader, b"b", timeout=60_000)]
    assert world.run(10_000, lambda: all([first, *gathered]))
    assert isinstance(refused(first), LeadershipLost)
    assert refused(first).outcome is Outcome.UNKNOWN
    for answers in gathered:
        assert isinstance(refused(answers), NotLeader)
        assert refused(answers).outcome is Outcome.NOT_APPLIED
    assert refused(gathered[0]) is not refused(gathered[1]), "an error belongs to one caller"
    world.heal()
    world.elect()
    assert world.run(10_000, world.equal)
    assert [b"a"] not in world.records(leader)


def test_a_request_that_runs_out_of_time_before_its_entry_was_not_applied(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    for other in {1, 2, 3} - {leader}:
        world.slow_disk[NodeId(other)] = 800
    first = held_up(world, leader)
    brief = world.gather(leader, b"brief", timeout=200)
    patient = world.gather(leader, b"patient", timeout=60_000)
    assert world.run(300, lambda: bool(brief))
    assert isinstance(refused(brief), DeadlineExceeded)
    assert refused(brief).outcome is Outcome.NOT_APPLIED
    assert world.run(10_000, lambda: bool(first and patient))
    assert acked(patient).base_offset == 1
    assert world.run(5_000, lambda: world.records(leader) == [[b"first"], [b"patient"]])


def test_too_few_in_sync_refuses_on_arrival_and_once_more_before_the_append(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    others = sorted({1, 2, 3} - {leader})
    held_up(world, leader)
    strict, lenient = world.gather(leader, b"s", min_in_sync=3), world.gather(leader, b"l", min_in_sync=2)
    world.nodes[NodeId(leader)].replicas.heartbeats.lost(NodeId(others[0]), world.nodes[NodeId(others[0])].info.boot)
    assert world.run(5_000, lambda: bool(strict and lenient))
    assert isinstance(refused(strict), NotEnoughReplicas)
    assert refused(strict).outcome is Outcome.NOT_APPLIED
    assert acked(lenient).base_offset == 1
    with pytest.raises(NotEnoughReplicas):
        world.gather(leader, b"t", min_in_sync=3)
    assert world.run(5_000, lambda: world.records(leader) == [[b"first"], [b"l"]])


def test_leadership_that_is_handed_over_refuses_all_that_was_gathered(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    held_up(world, leader)
    gathered = [world.gather(leader, b"a"), world.gather(leader, b"b")]
    target = next(node.replica for number, node in world.nodes.items() if number != leader)
    world.group(leader).node.transfer_leadership(target, world.time.tick())
    assert world.run(5_000, lambda: all(gathered))
    assert [refused(answers).outcome for answers in gathered] == [Outcome.NOT_APPLIED] * 2
    assert world.run(5_000, lambda: world.leaders() == [target.node])
    world.elect()
    again = world.gather(target.node, b"a")
    assert world.run(5_000, lambda: bool(again))
    assert acked(again).base_offset == 1


def one_after_the_other(world: World, leader: int) -> None:
    """So that the leader knows how long an entry takes."""
    alone = held_up(world, leader)
    assert world.run(1_000, lambda: bool(alone))


def crowd(world: World, leader: int, size: int) -> list[list[Ack | RaftmqError]]:
    return [world.gather(leader, b"%d" % number) for number in range(size)]


def test_while_callers_keep_coming_an_entry_waits_for_them_and_no_longer(world: World) -> None:
    leader = world.elect()
    one_after_the_other(world, leader)
    first = held_up(world, leader)
    together = crowd(world, leader, gathering.PAUSE_FROM)
    assert world.run(1_000, lambda: world.leadership(leader).gathering.is_waiting)
    together += crowd(world, leader, 3)
    assert world.run(5_000, lambda: bool(first) and all(together))
    assert len({acked(answers).index for answers in together}) == 1
    assert not world.leadership(leader).gathering.is_waiting


def test_few_callers_wait_for_nobody(world: World) -> None:
    leader = world.elect()
    one_after_the_other(world, leader)
    held_up(world, leader)
    few = crowd(world, leader, gathering.PAUSE_FROM - 1)
    held = world.leadership(leader).gathering
    assert not world.run(5_000, lambda: held.is_waiting)
    assert all(few)


def test_those_who_shared_an_entry_share_the_next_one_when_they_come_again(world: World) -> None:
    """They are answered at one moment. The first of them that is back used to get an entry to itself."""
    leader = world.elect()
    one_after_the_other(world, leader)
    held_up(world, leader)
    together = crowd(world, leader, gathering.PAUSE_FROM)
    assert world.run(5_000, lambda: all(together))
    again = crowd(world, leader, 1)
    world.run(0)
    held = world.leadership(leader).gathering
    assert held.is_waiting
    again += crowd(world, leader, gathering.PAUSE_FROM - 1)
    world.run(0)
    assert len(held) == 0, "nobody else is expected"
    assert world.run(5_000, lambda: all(again))
    assert len({acked(answers).index for answers in again}) == 1


def test_who_comes_long_after_others_waits_for_none_of_them(world: World) -> None:
    leader = world.elect()
    one_after_the_other(world, leader)
    held_up(world, leader)
    together = crowd(world, leader, gathering.PAUSE_FROM)
    assert world.run(5_000, lambda: all(together))
    world.run(1_000)
    held_up(world, leader)


def test_who_comes_alone_after_others_waits_a_moment_for_them(world: World) -> None:
    leader = world.elect()
    one_after_the_other(world, leader)
    held_up(world, leader)
    together = crowd(world, leader, gathering.PAUSE_FROM)
    assert world.run(5_000, lambda: all(together))
    alone = world.gather(leader, b"alone")
    held = world.leadership(leader).gathering
    assert world.run(gathering.PAUSE_MAX + 5, lambda: len(held) == 0)  # the world looks at deadlines every 5 ms
    assert world.run(5_000, lambda: bool(alone))


def test_who_does_not_wait_for_a_commit_ends_the_wait_for_others(world: World) -> None:
    leader = world.elect()
    one_after_the_other(world, leader)
    held_up(world, leader)
    together = crowd(world, leader, gathering.PAUSE_FROM)
    assert world.run(1_000, lambda: world.leadership(leader).gathering.is_waiting)
    hasty = world.gather(leader, b"hasty", acks=Acks.NONE)
    world.run(0)
    assert acked(hasty).index == world.group(leader).node.last_index
    assert world.run(5_000, lambda: all(together))
    assert {acked(answers).index for answers in together} == {acked(hasty).index}


def test_an_entry_waits_on_only_while_somebody_comes_and_twice_as_long_as_the_last_one_took() -> None:
    held = gathering.Gathering()

    def come(count: int, now: int) -> None:
        for _ in range(count):
            records = LooseRecords(b"x", 1, 0, 0, 0)
            held.add(gathering.Request(records, Acks.ALL, 1, Tick(now), Tick(9_000), lambda _: None))

    come(gathering.PAUSE_FROM, 100)
    assert held.waits_for_more(Tick(100), took=6, before=1)
    assert held.look_at == 103
    come(1, 102)
    assert held.waits_for_more(Tick(102), took=6, before=1), "it is not time to look"
    assert held.waits_for_more(Tick(103), took=6, before=1)
    assert held.look_at == 106
    assert not held.waits_for_more(Tick(106), took=6, before=1), "nobody has come"
    held.take()
    assert not held.is_waiting
    for now in range(200, 212, 3):
        come(gathering.PAUSE_FROM, now)
        assert held.waits_for_more(Tick(now), took=6, before=1)
    come(1, 212)
    assert held.look_at == 212
    assert not held.waits_for_more(Tick(212), took=6, before=1), "it has waited long enough"
    held.take()
    come(gathering.PAUSE_FROM, 300)
    assert not held.waits_for_more(Tick(300), took=0, before=1)
