"""The layer around what a node is told: what the cells order happens, is counted, and nothing else does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from raftmq.chaos import wrapped
from raftmq.chaos.frames import Count, Frames, Order
from raftmq.chaos.wrapped import Disturbed
from raftmq.ids import BootCount, NodeId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, NodeHeartbeat, PeerInfo
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
    assert identify is nobody
    assert snapshot is nothing
