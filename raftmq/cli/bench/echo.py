"""A bare gRPC server that sends back what it gets, in a process of its own: the least that a broker's call can cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from raftmq.cli.bench.workers import Signals

UNARY = "/bench.Echo/Unary"
STREAM = "/bench.Echo/Stream"
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.enable_http_proxy", 0),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Echo:
    """Serve on a port of loopback until told to end."""

    port: int

    async def run(self, signals: Signals) -> None:
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "bench.Echo",
                    {
                        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
                        "Stream": grpc.stream_stream_rpc_method_handler(_stream),
                    },
                ),
            )
        )
        server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        await signals.started()
        await signals.ending.wait()
        await server.stop(None)


async def _unary(request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


async def _stream(requests: AsyncIterator[bytes], _context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request
