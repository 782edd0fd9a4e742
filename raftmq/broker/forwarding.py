"""Calls on their one hop: handing a call to another node, and telling what became of it.

first node                                 second node
Forwarder ── Peer.Forward ──────────────>  PeerServer ──> Calls.serve(forwarded=True)
          <─ response, or a status with ─
             raftmq's trailers
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

from grpc import aio

from raftmq import status
from raftmq.broker.cluster import Forward
from raftmq.errors import Outcome, RaftmqError, Unavailable
from raftmq.ids import NodeId


class Forwarder:
    """Turns everything that may happen on the way into a ``RaftmqError`` with an honest outcome."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    async def __call__(self, node: NodeId, method: str, request: bytes, remaining_ms: int) -> bytes:
        """The serialised response of `node`. Raises what that node raised, Unavailable (NOT_APPLIED) where the request
        surely never left, and where nobody knows, the error of the transport's code with outcome UNKNOWN."""
        try:
            return await self._forward(node, method, request, remaining_ms)
        except RaftmqError:
            raise
        except ConnectionError as error:
            raise Unavailable(f"node {node} cannot be reached: {error}") from None
        except aio.AioRpcError as error:
            raise error_of(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # gRPC says so too where its channel was closed, as happens when the node moves or is removed.
            raise Unavailable(f"the link to node {node} was closed", outcome=Outcome.UNKNOWN) from None


def error_of(error: aio.AioRpcError) -> RaftmqError:
    """What a gRPC error tells."""
    trailers = cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ())
    return status.decode(error.code().name, error.details() or "", trailers)
