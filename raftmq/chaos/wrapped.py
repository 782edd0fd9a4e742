"""Runs inside a node of an experiment: ``python -m raftmq.chaos.wrapped -m raftmq serve ...`` does what ``python -m
raftmq serve ...`` does, with a layer around what arrives from other nodes. See ``frames.py``.
"""

from __future__ import annotations

import asyncio
import os
import random
import runpy
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from raftmq.chaos.cells import Cells
from raftmq.chaos.frames import VARIABLE, Count, Order, is_marked
from raftmq.ids import BootCount, NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel, Frame, PeerInfo, Receiver
from raftmq.rpc.server import ForwardHandler, IdentifyHandler, PeerServer

REMEMBERED = 2_000
"""Frames that may be told again: some ten seconds of a busy node."""
LATE_S = (0.002, 0.08)
"""How much later than its successors a frame comes that is out of order, and a second copy."""
LOOK_S = 0.02
"""How often held frames are looked at."""


class Disturbed:
    """Hands frames on to the node's own receiver, as the cells tell: once, twice, later, again, or never."""

    def __init__(self, receiver: Receiver, cells: Cells, rng: random.Random) -> None:
        self._receiver = receiver
        self._cells = cells
        self._rng = rng
        self._held: deque[tuple[PeerInfo, Frame]] = deque()
        self._past: deque[tuple[PeerInfo, Frame]] = deque(maxlen=REMEMBERED)
        self._boots: dict[NodeId, BootCount] = {}

    def on_peer_up(self, node: NodeId, channel: Channel) -> None:
        self._receiver.on_peer_up(node, channel)

    def on_peer_lost(self, node: NodeId, boot: BootCount) -> None:
        self._receiver.on_peer_lost(node, boot)

    def on_frame(self, peer: PeerInfo, frame: Frame) -> None:
        cells = self._cells
        self._count(Count.ARRIVED)
        self._boots[peer.node] = peer.boot
        if is_marked(cells, Order.DROP_FROM, peer.node):
            self._count(Count.DROPPED)
        elif is_marked(cells, Order.HOLD_FROM, peer.node) or any(held.node == peer.node for held, _ in self._held):
            self._hold(peer, frame)
        elif is_marked(cells, Order.DELAY_FROM, peer.node):
            self._count(Count.DELAYED)
            self._later(cells[Order.DELAY_MS] / 1000, peer, frame)
        elif self._drawn(Order.REORDER):
            self._count(Count.REORDERED)
            messages = list(frame.messages)
            self._rng.shuffle(messages)
            self._later(self._rng.uniform(*LATE_S), peer, replace(frame, messages=tuple(messages)))
        else:
            self._receiver.on_frame(peer, frame)
            self._again(peer, frame)

    def _again(self, peer: PeerInfo, frame: Frame) -> None:
        """What has arrived as it should arrives once more; now and then also something from long ago."""
        if self._drawn(Order.DUPLICATE):
            self._count(Count.DUPLICATED)
            self._later(self._rng.choice((0.0, self._rng.uniform(*LATE_S))), peer, frame)
        if self._past and self._drawn(Order.REPLAY):
            old_peer, old = self._past[self._rng.randrange(len(self._past))]
            # Another boot's stream would have been refused.
            if self._boots[old_peer.node] == old_peer.boot:
                self._count(Count.REPLAYED)
                self._later(0.0, old_peer, old)
        self._past.append((peer, frame))

    def _drawn(self, order: Order) -> bool:
        share = self._cells[order]
        return share > 0 and self._rng.randrange(1000) < share

    def _later(self, seconds: float, peer: PeerInfo, frame: Frame) -> None:
        asyncio.get_running_loop().call_later(seconds, self._receiver.on_frame, peer, frame)

    def _hold(self, peer: PeerInfo, frame: Frame) -> None:
        self._count(Count.HELD)
        self._held.append((peer, frame))
        if len(self._held) == 1:
            asyncio.get_running_loop().call_later(LOOK_S, self._release)

    def _release(self) -> None:
        """Deliver what is not to be held any more, in order."""
        waiting, self._held = self._held, deque()
        for peer, frame in waiting:
            if is_marked(self._cells, Order.HOLD_FROM, peer.node):
                self._held.append((peer, frame))
            else:
                self._receiver.on_frame(peer, frame)
        if self._held:
            asyncio.get_running_loop().call_later(LOOK_S, self._release)

    def forwards(self, answer: ForwardHandler) -> ForwardHandler:
        """Calls from a node that is not heard are not heard either; answers to one that does not hear are lost."""

        async def disturbed(request: peer_pb2.ForwardRequest) -> peer_pb2.ForwardResponse:
            await self._heard(request.from_node)
            response = await answer(request)
            await self._told(request.from_node)
            return response

        return disturbed

    def identifies(self, answer: IdentifyHandler) -> IdentifyHandler:
        """The same for "who are you?"."""

        async def disturbed(request: peer_pb2.IdentifyRequest) -> peer_pb2.IdentifyResponse:
            node = getattr(request, "from").node  # a keyword in Python
            await self._heard(node)
            response = await answer(request)
            await self._told(node)
            return response

        return disturbed

    async def parts(
        self, node: int, parts: AsyncGenerator[peer_pb2.SnapshotPart, None]
    ) -> AsyncGenerator[peer_pb2.SnapshotPart, None]:
        """The same for a snapshot that `node` fetches; a cut stops it in its middle."""
        await self._heard(node)
        async with aclosing(parts):
            async for part in parts:
                await self._told(node)
                yield part

    async def _heard(self, node: int) -> None:
        """Return when a call of a node has arrived: late, or never."""
        cells = self._cells
        if is_marked(cells, Order.DROP_FROM, node) or is_marked(cells, Order.HOLD_FROM, node):
            await self._for_ever()
        if is_marked(cells, Order.DELAY_FROM, node):
            await asyncio.sleep(2 * cells[Order.DELAY_MS] / 1000)

    async def _told(self, node: int) -> None:
        """Return when an answer may go to a node, or never."""
        if is_marked(self._cells, Order.MUTE_TO, node):
            await self._for_ever()

    async def _for_ever(self) -> None:
        """Until the caller gives up, which cancels it."""
        self._count(Count.CALLS)
        await asyncio.Event().wait()

    def _count(self, count: Count) -> None:
        self._cells[count] += 1


def install(cells: Cells, rng: random.Random) -> None:
    """Put the layer around the receiver of every peer listener that is made from now on."""
    original: Callable[..., None] = PeerServer.__init__
    fetch = PeerServer._fetch_snapshot
    layers: WeakKeyDictionary[PeerServer, Disturbed] = WeakKeyDictionary()

    def around(
        server: PeerServer, address: str, identity: PeerInfo, cluster_id: str, receiver: Receiver,
        forward_handler: ForwardHandler, identify_handler: IdentifyHandler, *rest: Any,
    ) -> None:  # fmt: skip
        layer = layers[server] = Disturbed(receiver, cells, rng)
        forward, identify = layer.forwards(forward_handler), layer.identifies(identify_handler)
        original(server, address, identity, cluster_id, layer, forward, identify, *rest)

    async def around_fetch(
        server: PeerServer, request: peer_pb2.FetchSnapshotRequest, context: Any
    ) -> AsyncGenerator[peer_pb2.SnapshotPart, None]:
        # The handler of snapshots is not told who fetches: only the call itself knows.
        async with aclosing(layers[server].parts(request.from_node, fetch(server, request, context))) as parts:
            async for part in parts:
                yield part

    PeerServer.__init__ = around  # type: ignore[method-assign, assignment]
    PeerServer._fetch_snapshot = around_fetch  # type: ignore[method-assign, assignment]


def main() -> None:
    install(Cells(Path(os.environ[VARIABLE]), create=False), random.Random())
    _, option, module, *arguments = sys.argv
    assert option == "-m", "started by raftmq.chaos.frames only"
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
