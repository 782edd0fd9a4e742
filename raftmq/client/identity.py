"""The producer id and epoch under which an idempotent producer numbers its batches."""

from __future__ import annotations

import asyncio

from raftmq.client.accumulator import Identity
from raftmq.client.retry import may_retry_read
from raftmq.client.router import Router
from raftmq.v1 import broker_pb2


class IdentityKeeper:
    """Gets the identity when it is first needed, and a higher epoch when a partition must start over.

    One producer id serves all partitions of a producer. Epochs fence partition by partition, so that a partition may
    move to a higher epoch while the others go on with theirs.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._newest: Identity | None = None
        self._lock = asyncio.Lock()

    async def after(self, stale: Identity | None, *, timeout_ms: int) -> Identity:
        """An identity that is not `stale`: the newest one, or a new epoch where that is `stale` itself.

        Raises the error of the last attempt after `timeout_ms`, and FencedProducer where somebody else took over the
        producer id. An attempt whose answer was lost costs a number, nothing else.
        """
        async with self._lock:
            if self._newest is None or self._newest == stale:
                self._newest = await self._ask(self._newest, timeout_ms)
            return self._newest

    async def _ask(self, present: Identity | None, timeout_ms: int) -> Identity:
        request = broker_pb2.InitProducerRequest()
        if present is not None:
            request.producer_id, request.producer_epoch = present
        answer = await self._router.to_any(
            lambda node: node.broker.InitProducer, request, timeout_ms=timeout_ms, judge=may_retry_read
        )
        return Identity(answer.producer_id, answer.producer_epoch)
