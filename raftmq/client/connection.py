"""Channels to nodes, one per address, and the one place where a gRPC error becomes a raftmq error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar, cast

import grpc
import grpc.aio

from raftmq import status
from raftmq.client.produce_stream import ProduceStream
from raftmq.errors import InvalidArgument, Outcome, RaftmqError, Unavailable
from raftmq.v1 import (
    admin_pb2_grpc,
    broker_pb2,
    broker_pb2_grpc,
    cluster_pb2_grpc,
    exchanges_pb2_grpc,
    groups_pb2_grpc,
    queue_pb2_grpc,
)

Request = TypeVar("Request")
Response = TypeVar("Response")

MAX_RECEIVE_BYTES = 64 * 1024 * 1024
"""An answer to Fetch is at most 8 MiB and one batch: far above, so that the limit is never what fails."""
CONNECT_TIMEOUT_MS = 2_000
AVOID_MS = 1_000
"""How long a node that just failed is not chosen while there are others."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", MAX_RECEIVE_BYTES),
    # Of gRPC's defaults the reconnect back-off grows to two minutes: a restarted node would be found far too late.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Despite its name this is also the time that an attempt to connect gets.
    ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
    # A cut cable or a frozen node says nothing at all; only a ping without an answer tells. The third of these is the
    # one that bounds the answer; it is a minute by default.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC knows nothing of outcomes, and a retry that we do not see cannot be counted. Ours are in retry.py.
    ("grpc.enable_retries", 0),
    # Nodes are reached as they advertise themselves, never through what the environment has for web traffic.
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a node's client port is reached."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


AddressMap = Callable[[str, int], tuple[str, int]]
"""From the address that a node advertises to the one to dial instead (a tunnel, a proxy)."""


def parse_addresses(text: str) -> tuple[Address, ...]:
    """The addresses of ``"host:port,host:port"``; IPv6 hosts stand in brackets. Raises InvalidArgument."""
    addresses = tuple(_parse_address(part.strip()) for part in text.split(",") if part.strip())
    if not addresses:
        raise InvalidArgument("no address: expected host:port, or several with commas", field="addresses")
    return addresses


def _parse_address(text: str) -> Address:
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise InvalidArgument(f"{text!r} is not an address: expected host:port", field="addresses")
    return Address(host, int(port))


class NodeChannel:
    """One channel to one address, with the stubs of all services."""

    def __init__(self, address: Address, client_id: str = "") -> None:
        self.address = address
        self._metadata = (("raftmq-client-id", client_id),) if client_id else None
        self._channel = grpc.aio.insecure_channel(str(address), options=CHANNEL_OPTIONS)
        self.broker = broker_pb2_grpc.BrokerStub(self._channel)
        self.admin = admin_pb2_grpc.AdminStub(self._channel)
        self.cluster = cluster_pb2_grpc.ClusterStub(self._channel)
        self.queue = queue_pb2_grpc.QueueStub(self._channel)
        self.exchanges = exchanges_pb2_grpc.ExchangesStub(self._channel)
        self.groups = groups_pb2_grpc.GroupsStub(self._channel)
        self._stream = ProduceStream(lambda: self.broker.ProduceStream(None, metadata=self._metadata), self._translate)
        self._avoid_until = 0.0

    @property
    def avoided(self) -> bool:
        """It failed within the last `AVOID_MS`."""
        return asyncio.get_running_loop().time() < self._avoid_until

    def _failed(self) -> None:
        self._avoid_until = asyncio.get_running_loop().time() + AVOID_MS / 1000

    async def ready(self) -> None:
        """Return when connected. Raises Unavailable, NOT_APPLIED, when that fails or takes `CONNECT_TIMEOUT_MS`.

        Without this step a call to a dead node would end in a bare UNAVAILABLE, whose outcome nobody knows.
        """
        state = self._channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_MS / 1000):
                while state is not grpc.ChannelConnectivity.READY:
                    if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                        raise Unavailable(f"cannot connect to {self.address}", outcome=Outcome.NOT_APPLIED)
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            self._failed()
            raise Unavailable(
                f"no connection to {self.address} within {CONNECT_TIMEOUT_MS} ms", outcome=Outcome.NOT_APPLIED
            ) from None
        except Unavailable:
            self._failed()
            raise

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout_ms: int,
    ) -> Response:
        """One call, once. Raises RaftmqError; an error of the transport has the outcome UNKNOWN."""
        await self.ready()
        try:
            return await method(request, timeout=timeout_ms / 1000, metadata=self._metadata)
        except grpc.aio.AioRpcError as rpc_error:
            error = self._translate(rpc_error)
        # Outside the handler: the gRPC error repeats the text and would only lengthen every traceback.
        raise error

    async def produce(self, request: broker_pb2.ProduceRequest, *, timeout_ms: int) -> broker_pb2.ProduceResponse:
        """As `call` with Produce, on the one stream that all producers of this channel share."""
        await self.ready()
        try:
            return await self._stream.produce(request, timeout_ms=timeout_ms)
        except RaftmqError as error:
            if status.is_bare(error):
                self._failed()
            raise

    def _translate(self, rpc_error: grpc.aio.AioRpcError) -> RaftmqError:
        trailers = cast("Iterable[tuple[str, str | bytes]]", rpc_error.trailing_metadata() or ())
        error = status.decode(rpc_error.code().name, rpc_error.details() or "", trailers)
        if status.is_bare(error):
            self._failed()
            error.message = f"{self.address}: {error.message}"
            error.args = (error.message,)
        return error

    async def close(self) -> None:
        await self._stream.close()
        await self._channel.close(grace=None)


class ConnectionPool:
    """Channels by address, opened on first use and kept until the client closes."""

    def __init__(
        self, address_map: AddressMap | None = None, open_channel: Callable[[Address], NodeChannel] = NodeChannel
    ) -> None:
        self._address_map = address_map
        self._open_channel = open_channel
        self._channels: dict[Address, NodeChannel] = {}
        self._closed = False

    def at(self, address: Address) -> NodeChannel:
        """The channel to exactly this address. Raises Unavailable after `close`."""
        if self._closed:
            raise Unavailable("the client is closed", outcome=Outcome.NOT_APPLIED)
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._open_channel(address)
        return channel

    def advertised(self, host: str, port: int) -> NodeChannel:
        """The channel to a node that says it is reached at this address, as the address map has it."""
        if self._address_map is not None:
            host, port = self._address_map(host, port)
        return self.at(Address(host, port))

    async def close(self) -> None:
        self._closed = True
        channels, self._channels = self._channels, {}
        await asyncio.gather(*(channel.close() for channel in channels.values()))
