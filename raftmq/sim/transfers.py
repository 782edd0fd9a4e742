"""Snapshots on their way through the simulated network: part by part, over connections that may break at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from raftmq.errors import RaftmqError, Unavailable
from raftmq.ids import GroupId, LogIndex, NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import SnapshotPart
from raftmq.rpc.snapshot_codec import decode_part, encode_part

if TYPE_CHECKING:
    from raftmq.sim.network import Network
    from raftmq.sim.node import NodeProcess

STREAM_TIMEOUT_S = 6.0
"""When a source that was not told of the end hears of it at last, by keepalive."""
SILENCE_S = 3.0


class Transfer:
    """One stream of parts to `target`. The next part leaves when the one before was taken, as with a full window."""

    def __init__(self, network: Network, target: NodeProcess, source: NodeId, group: GroupId, first: LogIndex) -> None:
        self._network = network
        self._target = target
        self._source = source
        self._group = group
        self._first = first
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._serving: NodeProcess | None = None
        self._taken: asyncio.Future[None] | None = None

    async def parts(self) -> AsyncGenerator[SnapshotPart, None]:
        """What arrives, on the target's loop. Raises RaftmqError where the stream breaks off."""
        call = self._target.loop.create_task(
            self._network.call(self._target, self._target.number, self._source, self._serve, STREAM_TIMEOUT_S)
        )
        call.add_done_callback(lambda _: self._arrived.put_nowait(None))
        try:
            while (data := await self._next()) is not None:
                yield decode_part(peer_pb2.SnapshotPart.FromString(data))
                self._network.later(self._ack)
            await call
        except RaftmqError as error:
            self._network.transfers[f"snapshots interrupted {error.reason}"] += 1
            raise
        finally:
            call.cancel()

    async def _next(self) -> bytes | None:
        """The next part; None: there are no more."""
        try:
            async with asyncio.timeout(SILENCE_S):
                return await self._arrived.get()
        except TimeoutError:
            raise Unavailable("the source is silent") from None

    async def _serve(self, source: NodeProcess) -> bytes:
        """On the source's loop."""
        self._serving = source
        async for part in source.send_snapshot(self._group, self._first):
            self._taken = source.loop.create_future()
            self._network.later(self._arrive, encode_part(part).SerializeToString())
            await self._taken
        return b""

    def _arrive(self, data: bytes) -> None:
        if self._target.is_alive and self._is_up():
            self._network.delivered += 1
            self._target.post(self._arrived.put_nowait, data)

    def _ack(self) -> None:
        serving = self._serving
        if serving is not None and serving.is_alive and self._is_up():
            self._network.delivered += 1
            serving.post(self._settle)

    def _settle(self) -> None:
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)

    def _is_up(self) -> bool:
        """What a cut link loses is lost for good: the connection breaks at last."""
        one, other = int(self._source), self._target.number
        return self._network.is_cut(one, other) is None and self._network.is_cut(other, one) is None
