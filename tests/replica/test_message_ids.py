"""Message ids through the pump: what the leader decides holds through crashes, restarts and changes of the window."""

from __future__ import annotations

from raftmq.errors import RaftmqError
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.message_ids import Window
from raftmq.ports import StateKind
from raftmq.replica.waits import Ack, Acks
from tests.replica.world import GROUP, World


def started() -> World:
    world = World()
    world.create_group()
    return world


def acked(answers: list[Ack | RaftmqError]) -> Ack:
    assert len(answers) == 1, answers
    assert isinstance(answers[0], Ack), answers
    return answers[0]


def produced(world: World, value: bytes, message_id: str, acks: Acks = Acks.QUORUM) -> Ack:
    answers = world.produce(world.elect(), value, message_id=message_id, acks=acks)
    assert world.run(5_000, lambda: bool(answers))
    return acked(answers)


def machine(world: World, number: int) -> PartitionMachine:
    found = world.group(number).machine
    assert isinstance(found, PartitionMachine)
    return found


def set_window(world: World, window: Window) -> None:
    """As the controller's image tells every node, and tells again those that start."""
    for node in world.nodes.values():
        if node.up:
            node.replicas.upkeep.windows = {GROUP: window}
    assert world.run(5_000, lambda: all(machine(world, n).message_ids.window == window for n in (1, 2, 3)))


def test_a_duplicate_of_an_uncommitted_batch_waits_with_it() -> None:
    world = started()
    leader = world.elect()
    first = world.produce(leader, b"a", message_id="m")
    again = world.produce(leader, b"a", message_id="m")
    assert not first
    assert not again
    assert world.run(5_000, lambda: bool(first and again))
    assert (acked(first).duplicate, acked(again).duplicate) == (False, True)
    assert acked(again).base_offset == acked(first).base_offset


def test_a_duplicate_is_answered_at_every_level_of_acks() -> None:
    world = started()
    assert not produced(world, b"a", "m").duplicate
    for acks in Acks:
        again = produced(world, b"a", "m", acks)
        assert (again.duplicate, again.base_offset) == (True, 0)


def test_the_next_leader_and_a_restarted_one_know_the_id() -> None:
    world = started()
    assert produced(world, b"before", "other").base_offset == 0
    first = produced(world, b"a", "m")
    world.crash(world.elect())
    assert produced(world, b"a", "m").duplicate
    for number in (1, 2, 3):
        if world.nodes[world.group(number).me.node].up:
            world.crash(number)
    for number in (1, 2, 3):
        world.restart(number)
    again = produced(world, b"a", "m")
    assert (again.duplicate, again.base_offset) == (True, first.base_offset)


def test_the_window_of_the_topic_goes_through_the_log_to_every_replica() -> None:
    world = started()
    for number in range(5):
        produced(world, b"v", f"m{number}")
    set_window(world, Window(2, 60_000))
    assert [batch.message_id for batch in machine(world, 2).message_ids] == ["m3", "m4"]
    assert produced(world, b"v", "m4").duplicate
    assert not produced(world, b"v", "m0").duplicate
    commands = world.group(world.elect()).node.last_index
    world.run(5_000)
    assert world.group(world.elect()).node.last_index == commands, "it is said once"


def test_ids_are_forgotten_by_time_while_the_partition_is_led() -> None:
    world = started()
    set_window(world, Window(100, 3_000))
    produced(world, b"a", "m")
    assert produced(world, b"a", "m").duplicate
    world.run(4_000)
    assert not produced(world, b"a", "m").duplicate


def test_rows_on_disk_are_those_in_memory() -> None:
    world = started()
    set_window(world, Window(2, 60_000))
    for number in range(5):
        produced(world, b"v", f"m{number}")
    world.run(5_000)
    for number in (1, 2, 3):
        group = world.group(number)
        rows = list(world.nodes[group.me.node].store.state(group.generation, StateKind.MESSAGE_ID))
        assert rows == [(b.number.to_bytes(8, "big"), b.encode()) for b in machine(world, number).message_ids]
        assert len(rows) == 2
