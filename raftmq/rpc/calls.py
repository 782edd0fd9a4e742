"""Calls to a peer that are no frames: a forwarded request, the question who somebody is, and a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from grpc import ChannelConnectivity, aio

from raftmq.errors import Unavailable
from raftmq.internal.v1 import peer_pb2, peer_pb2_grpc
from raftmq.ports import Channel, SnapshotPart
from raftmq.rpc.options import channel_options
from raftmq.rpc.snapshot_codec import decode_part

PART_TIMEOUT_S = 15.0
"""A source that is silent for so long is given up; the fetch goes on at the next order."""


class ForwardChannel:
    """The third connection to a peer, kept open: forwarded calls neither wait behind appends nor delay them."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = aio.insecure_channel(address, options=channel_options())
        self._stub = _stub(self._channel)

    async def forward(self, request: peer_pb2.ForwardRequest, timeout_s: float) -> peer_pb2.ForwardResponse:
        """Send `request` and wait for its answer, at most `timeout_s` in all.

        Raises Unavailable (NOT_APPLIED) where no connection was had, so that the request never left. Once it has
        left, raises grpc.aio.AioRpcError as it came: its trailers are the remote node's answer, and without them
        the outcome is UNKNOWN.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._connect()
        except TimeoutError:
            raise Unavailable(f"no connection to {self._address} within {timeout_s:.3f} s") from None
        remaining_s = max(0.0, deadline - asyncio.get_running_loop().time())
        return await self._stub.Forward(request, timeout=remaining_s)

    async def close(self) -> None:
        await self._channel.close(grace=None)

    async def _connect(self) -> None:
        state = self._channel.get_state(try_to_connect=True)
        while state is not ChannelConnectivity.READY:
            if state in (ChannelConnectivity.TRANSIENT_FAILURE, ChannelConnectivity.SHUTDOWN):
                raise Unavailable(f"no connection to {self._address}")
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)


async def identify(address: str, request: peer_pb2.IdentifyRequest, timeout_s: float) -> peer_pb2.IdentifyResponse:
    """Ask the node at `address` who it is. Raises Unavailable where it does not answer, or refuses to."""
    async with aio.insecure_channel(address, options=channel_options()) as channel:
        try:
            return await _stub(channel).Identify(request, timeout=timeout_s)
        except aio.AioRpcError as error:
            raise Unavailable(f"{address} did not identify itself: {error.details()}") from None


async def fetch_snapshot(address: str, request: peer_pb2.FetchSnapshotRequest) -> AsyncGenerator[SnapshotPart, None]:
    """The parts of a snapshot, over a connection of their own. Raises Unavailable where the stream breaks off or
    nothing comes for PART_TIMEOUT_S, MalformedFrame where what comes is no part."""
    async with aio.insecure_channel(address, options=channel_options(Channel.BULK)) as channel:
        call = _stub(channel).FetchSnapshot(request)
        parts = aiter(call)
        while True:
            try:
                async with asyncio.timeout(PART_TIMEOUT_S):
                    wire = await anext(parts)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise Unavailable(f"{address} sent nothing for {PART_TIMEOUT_S} s") from None
            except aio.AioRpcError as error:
                raise Unavailable(f"{address} did not send the snapshot: {error.details()}") from None
            yield decode_part(wire)


def _stub(channel: aio.Channel) -> peer_pb2_grpc.PeerAsyncStub:
    return peer_pb2_grpc.PeerStub(channel)
