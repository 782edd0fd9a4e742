"""The layer around what a node is told: what the cells order happens, is counted, and nothing else does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import pytest

from raftmq.chaos import wrapped
from raftmq.chaos.frames import Count, Frames, Order
from raftmq.chaos.wrapped import Disturbed
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, NodeHeartbeat, PeerInfo, SnapshotEnd, SnapshotPart
from raftmq.rpc import calls
from raftmq.rpc.server import PeerServer


class Heard:
    """A receiver that remembers the sequence numbers it was told."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        assert frame.heartbeat is not None
        self.numbers.append(frame.heartbeat.sequence)

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        self.numbers.append(-1)

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        self.numbers.append(-2)


def peer(node: int, boot: int = 1) -> PeerInfo:
    return PeerInfo(NodeId(node), StoreId(7), BootCount(boot))


def frame(number: int) -> Frame:
    return Frame(heartbeat=NodeHeartbeat(number, 0, None))


@pytest.fixture
def cells(tmp_path: Path) -> Frames:
    return Frames(tmp_path / "cells", create=True)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def layer(cells: Frames, heard: Heard) -> Disturbed:
    return Disturbed(heard, cells, random.Random(1))


async def until(heard: Heard, count: int) -> None:
    async with asyncio.timeout(60):
        while len(heard.numbers) < count:  # noqa: ASYNC110  the layer tells nobody
            await asyncio.sleep(0.001)


def test_without_orders_all_is_handed_on_at_once(layer: Disturbed, heard: Heard, cells: Frames) -> None:
    for number in range(5):
        layer.on_frame(peer(2), frame(number))
    assert heard.numbers == [0, 1, 2, 3, 4]
    assert cells[Count.ARRIVED] == 5
    assert not any(cells[count] for count in Count if count is not Count.ARRIVED)


def test_ups_and_ends_of_streams_pass(layer: Disturbed, heard: Heard) -> None:
    layer.on_peer_up(NodeId(2), Channel.RAFT)
    layer.on_peer_lost(NodeId(2), BootCount(1))
    assert heard.numbers == [-1, -2]


def test_a_node_that_is_not_to_be_heard_is_not(layer: Disturbed, heard: Heard, cells: Frames) -> None:
    cells.mark(Order.DROP_FROM, [2], True)
    layer.on_frame(peer(2), frame(1))
    layer.on_frame(peer(3), frame(2))
    cells.mark(Order.DROP_FROM, [2], False)
    layer.on_frame(peer(2), frame(3))
    assert heard.numbers == [2, 3]
    assert cells[Count.DROPPED] == 1


async def test_what_is_held_is_delivered_in_order_afterwards(layer: Disturbed, heard: Heard, cells: Frames) -> None:
    cells.mark(Order.HOLD_FROM, [2, 3], True)
    layer.on_frame(peer(2), frame(1))
    layer.on_frame(peer(3), frame(2))
    cells.mark(Order.HOLD_FROM, [2], False)
    layer.on_frame(peer(2), frame(3))  # not past the one that still waits
    assert heard.numbers == []
    await until(heard, 2)
    assert heard.numbers == [1, 3]
    cells.mark(Order.HOLD_FROM, [3], False)
    await until(heard, 3)
    assert heard.numbers == [1, 3, 2]
    assert cells[Count.HELD] == 3


async def test_what_is_late_keeps_its_order(layer: Disturbed, heard: Heard, cells: Frames) -> None:
    cells[Order.DELAY_MS] = 5
    cells.mark(Order.DELAY_FROM, [2], True)
    for number in range(10):
        layer.on_frame(peer(2), frame(number))
    assert heard.numbers == []
    await until(heard, 10)
    assert heard.numbers == list(range(10))
    assert cells[Count.DELAYED] == 10


async def test_frames_come_twice(layer: Disturbed, heard: Heard, cells: Frames) -> None:
    cells[Order.DUPLICATE] = 1000
    for number in range(10):
        layer.on_frame(peer(2), frame(number))
    await until(heard, 20)
    assert sorted(heard.numbers) == sorted(2 * list(range(10)))
    assert cells[Count.DUPLICATED] == 10


async def test_frames_come_out_of_order(layer: Disturbed, heard: Heard, cells: Frames) -> None:
    cells[Order.REORDER] = 500
    for number in range(40):
        layer.on_frame(peer(2), frame(number))
    await until(heard, 40)
    assert heard.numbers != list(range(40))
    assert sorted(heard.numbers) == list(range(40))
    assert 0 < cells[Count.REORDERED] < 40


async def test_frames_come_again_long_after(layer: Disturbed, heard: Heard, cells: Frames) -> None:
    for number in range(10):
        layer.on_frame(peer(2), frame(number))
    cells[Order.REPLAY] = 1000
    layer.on_frame(peer(3), frame(10))
    await until(heard, 12)
    assert heard.numbers[11] < 10
    assert cells[Count.REPLAYED] == 1


async def test_nothing_comes_again_of_a_process_that_is_over(layer: Disturbed, heard: Heard, cells: Frames) -> None:
    layer.on_frame(peer(2, boot=1), frame(0))
    cells[Order.REPLAY] = 1000
    layer.on_frame(peer(2, boot=2), frame(1))
    assert cells[Count.REPLAYED] == 0


async def test_calls_of_a_node_that_is_not_heard_get_no_answer(layer: Disturbed, cells: Frames) -> None:
    asked: list[int] = []

    async def answer(request: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
        asked.append(request.from_node)
        return peer_pb2.ForwardResponse()

    forward = layer.forwards(answer)

    async def call(node: int) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(forward(peer_pb2.ForwardRequest(from_node=node)))
        for _ in range(10):
            await asyncio.sleep(0)
        return task

    cells.mark(Order.DROP_FROM, [2], True)
    cells.mark(Order.MUTE_TO, [3], True)
    calls = [await call(node) for node in (1, 2, 3)]
    assert [task.done() for task in calls] == [True, False, False]
    assert asked == [1, 3]
    assert cells[Count.CALLS] == 2
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


def test_the_layer_is_put_around_the_receiver_of_a_peer_listener(
    cells: Frames, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(PeerServer, "__init__", lambda _self, *arguments: given.extend(arguments))
    monkeypatch.setattr(PeerServer, "_fetch_snapshot", PeerServer._fetch_snapshot)
    wrapped.install(cells, random.Random(1))

    async def nobody(*_arguments: Any) -> Any:
        raise AssertionError

    async def nothing(*_arguments: Any) -> AsyncGenerator[Any, None]:
        yield await nobody()

    PeerServer("127.0.0.1:0", peer(1), "c", heard, nobody, nobody, nothing)
    address, _, _, receiver, forward, identify, snapshot = given
    assert address == "127.0.0.1:0"
    assert isinstance(receiver, Disturbed)
    assert forward is not nobody
    assert identify is not nobody
    assert snapshot is nothing


class Listener:
    """A real peer listener with the layer around it, and what it was asked."""

    def __init__(self, cells: Frames, heard: Heard) -> None:
        self.asked: list[int] = []
        self.more = asyncio.Event()
        self._server = PeerServer("127.0.0.1:0", peer(1), "c", heard, self._forward, self._identify, self._snapshot)

    async def __aenter__(self) -> Self:
        self.address = f"127.0.0.1:{await self._server.start()}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._server.close()

    async def _forward(self, request: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
        return peer_pb2.ForwardResponse()

    async def _identify(self, request: peer_pb2.IdentifyRequest) -> peer_pb2.IdentifyResponse:
        self.asked.append(getattr(request, "from").node)
        return peer_pb2.IdentifyResponse(cluster_id="c")

    async def _snapshot(self, group: GroupId, _index: LogIndex) -> AsyncGenerator[SnapshotPart, None]:
        self.asked.append(group)
        yield SnapshotEnd(b"")
        await self.more.wait()
        yield SnapshotEnd(b"")

    async def identify(self, node: int) -> str:
        request = peer_pb2.IdentifyRequest(cluster_name="c")
        getattr(request, "from").node = node
        return (await calls.identify(self.address, request, timeout_s=60)).cluster_id

    def fetch(self, node: int) -> AsyncGenerator[SnapshotPart, None]:
        request = peer_pb2.FetchSnapshotRequest(cluster_id="c", from_node=node, group=9)
        return calls.fetch_snapshot(self.address, request)


@pytest.fixture
async def listener(cells: Frames, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    for name in ("__init__", "_fetch_snapshot"):
        monkeypatch.setattr(PeerServer, name, getattr(PeerServer, name))
    wrapped.install(cells, random.Random(1))
    async with Listener(cells, heard) as listener:
        yield listener


async def lost(cells: Frames, count: int) -> None:
    """Until so many calls have got no answer."""
    async with asyncio.timeout(60):
        while cells[Count.CALLS] < count:  # noqa: ASYNC110  the layer tells nobody
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("order", [Order.DROP_FROM, Order.HOLD_FROM])
async def test_who_is_not_heard_cannot_ask_who_this_is_nor_fetch(
    listener: Listener, cells: Frames, order: Order
) -> None:
    cells.mark(order, [2], True)
    waiting = [asyncio.ensure_future(listener.identify(2)), asyncio.ensure_future(anext(listener.fetch(2)))]
    await lost(cells, 2)
    assert listener.asked == []
    assert await listener.identify(3) == "c"
    assert listener.asked == [3]
    assert not any(one.done() for one in waiting)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_does_not_hear_is_told_nothing(listener: Listener, cells: Frames) -> None:
    cells.mark(Order.MUTE_TO, [2], True)
    waiting = [asyncio.ensure_future(listener.identify(2)), asyncio.ensure_future(anext(listener.fetch(2)))]
    await lost(cells, 2)
    assert sorted(listener.asked) == [2, 9]
    assert not any(one.done() for one in waiting)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_cut_stops_a_snapshot_in_its_middle(listener: Listener, cells: Frames) -> None:
    async with aclosing(listener.fetch(2)) as parts:
        assert isinstance(await anext(parts), SnapshotEnd)
        cells.mark(Order.MUTE_TO, [2], True)
        listener.more.set()
        second = asyncio.ensure_future(anext(parts))
        await lost(cells, 1)
        assert not second.done()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


async def test_without_orders_both_are_answered(listener: Listener, cells: Frames) -> None:
    listener.more.set()
    assert await listener.identify(2) == "c"
    async with aclosing(listener.fetch(2)) as parts:
        assert len([part async for part in parts]) == 2
    assert cells[Count.CALLS] == 0
