"""Both transports keep the promises of the port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from raftmq.ids import NodeId
from raftmq.ports import Channel
from raftmq.rpc.memory import MemoryNetwork, MemoryTransport
from raftmq.rpc.outbox import OutboxLimits
from raftmq.rpc.transport import GrpcTransport

from .conformance import Pair, TransportConformance
from .nodes import Node, Recorder, append, heartbeat, info

ONE, TWO = NodeId(1), NodeId(2)
LIMITS = OutboxLimits(max_pieces=200)


class MemoryPair:
    max_pieces = LIMITS.max_pieces

    def __init__(self) -> None:
        self.network = MemoryNetwork(LIMITS)
        self.sender, self.receiver = Recorder(), Recorder()
        self.transport: MemoryTransport = self.network.attach(info(1), self.sender)
        self.network.attach(info(2), self.receiver)
        self.network.run()

    async def until(self, recorder: Recorder, condition: Callable[[], bool]) -> None:
        self.network.run()
        assert condition()


class GrpcPair:
    max_pieces = LIMITS.max_pieces

    def __init__(self, one: Node, two: Node) -> None:
        self.transport: GrpcTransport = one.transport
        self.sender, self.receiver = one.recorder, two.recorder

    async def until(self, recorder: Recorder, condition: Callable[[], bool]) -> None:
        await recorder.until(condition)


class TestMemory(TransportConformance):
    @pytest.fixture
    def pair(self) -> Pair:
        return MemoryPair()


class TestGrpc(TransportConformance):
    @pytest_asyncio.fixture
    async def pair(self) -> AsyncIterator[Pair]:
        one, two = await Node(1, limits=LIMITS).start(), await Node(2).start()
        one.transport.set_peers({TWO: ("127.0.0.1", two.port)})
        await one.recorder.until(lambda: len(one.recorder.ups) == len(Channel))
        yield GrpcPair(one, two)
        await one.stop()
        await two.stop()


class TestMemoryNetwork:
    """What only the one in memory can do."""

    def test_a_cut_is_one_way_and_healing_brings_the_link_up(self) -> None:
        pair = MemoryPair()
        back = MemoryTransport(pair.network, TWO)
        pair.network.cut(ONE, TWO)
        pair.transport.send(TWO, Channel.RAFT, heartbeat(1))
        back.send(ONE, Channel.RAFT, heartbeat(2))
        pair.network.run()
        assert (pair.receiver.beats, pair.sender.beats) == ([], [2])
        pair.sender.ups.clear()
        pair.network.heal(ONE, TWO)
        pair.network.run()
        assert pair.sender.ups == [(TWO, Channel.RAFT), (TWO, Channel.BULK)]

    def test_the_hook_decides_what_arrives(self) -> None:
        pair = MemoryPair()
        pair.network.deliver = lambda source, target, channel, frame: channel is Channel.BULK
        for channel in Channel:
            pair.transport.send(TWO, channel, append(int(channel)))
        assert pair.network.run() == 1
        assert pair.receiver.appended == [int(Channel.BULK)]

    def test_a_killed_node_is_lost_to_who_had_a_stream_to_it(self) -> None:
        pair = MemoryPair()
        pair.network.kill(TWO)
        assert pair.sender.losses == [(TWO, 1)]
        pair.transport.send(TWO, Channel.RAFT, heartbeat(1))
        assert pair.network.run() == 0
