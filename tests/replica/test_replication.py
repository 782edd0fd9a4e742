"""Two channels to one follower: what goes by the one must not overtake what goes by the other."""

from __future__ import annotations

import pytest

from raftmq.errors import RaftmqError
from raftmq.ids import NodeId
from raftmq.ports import Channel, Frame
from raftmq.raft.messages import AppendEntries, AppendReply
from raftmq.replica.waits import Ack, Acks
from tests.replica.world import World


def watch(world: World, follower: int) -> tuple[list[tuple[Channel, AppendEntries]], list[AppendReply]]:
    """Appends to a node, and its refusals, from here on."""
    appends: list[tuple[Channel, AppendEntries]] = []
    refusals: list[AppendReply] = []
    send = world.send

    def spy(source: NodeId, target: NodeId, channel: Channel, frame: Frame) -> None:
        for addressed in frame.messages:
            message = addressed.message
            if isinstance(message, AppendEntries) and target == follower:
                appends.append((channel, message))
            if isinstance(message, AppendReply) and source == follower and message.rejected:
                refusals.append(message)
        send(source, target, channel, frame)

    world.send = spy  # type: ignore[method-assign]
    return appends, refusals


@pytest.mark.parametrize("seed", range(1, 6))
def test_a_follower_that_catches_up_under_load_refuses_nothing_that_was_overtaken(seed: int) -> None:
    world = World(seed=seed, tail_bytes=1)
    world.create_group()
    leader = world.elect()
    follower = next(number for number in (1, 2, 3) if number != leader)
    world.crash(follower)
    answers: list[list[Ack | RaftmqError]] = []
    for _ in range(30):
        answers.append(world.produce(leader, b"x" * 100_000, acks=Acks.QUORUM))
        assert world.run(5_000, lambda: bool(answers[-1]))
    assert world.group(leader).tail.first_index > 5, "the log must not be in memory as a whole"
    level = world.group(leader).node.last_index
    appends, refusals = watch(world, follower)
    world.restart(follower)
    for _ in range(200):
        world.produce(leader, b"y" * 100, acks=Acks.QUORUM)
        world.run(3)
    assert world.run(20_000, world.equal), world.describe()
    assert {channel for channel, _ in appends} == {Channel.RAFT, Channel.BULK}
    # The first probes go by the end of the log as it was; what is sent after them fits.
    assert [refusal for refusal in refusals if refusal.prev_index > level + 3] == []
    world.run(2_000)
    appends.clear()
    world.produce(leader, b"z", acks=Acks.QUORUM)
    world.run(1_000)
    assert {channel for channel, _ in appends} == {Channel.RAFT}, "once level, appends go by the fast lane again"
