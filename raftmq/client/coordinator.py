"""Calls to the coordinator of a consumer group: directly where it is known, else through any node."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from raftmq import status
from raftmq.client.connection import NodeChannel
from raftmq.client.retry import Doubt, Judgement
from raftmq.client.router import HasHeader, Router, Select
from raftmq.errors import DeadlineExceeded, RaftmqError

Request = TypeVar("Request")
Reply = TypeVar("Reply", bound=HasHeader)

ATTEMPT_TIMEOUT_MS = 10_000


class CoordinatorCalls:
    """Of one group. Every call of the API about groups may be made twice without harm, so all of them are retried."""

    def __init__(self, router: Router, group: str) -> None:
        self.group = group
        self.router = router
        self._node: int | None = None

    async def call(
        self,
        select: Select[Request, Reply],
        request: Request,
        *,
        timeout_ms: int,
        attempt_ms: int = ATTEMPT_TIMEOUT_MS,
        judge: Judgement = lambda error: error.retriable,
        doubt: Doubt | None = None,
    ) -> Reply:
        """Attempts, of `attempt_ms` at most each, while `judge` allows, for `timeout_ms` in all.

        The outcome of what is raised is that of all attempts. `doubt` learns whether one of them may have counted
        before the one that was answered.
        """
        doubts = Doubt() if doubt is None else doubt
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000

        async def attempt() -> Reply:
            left_ms = max(1, int((deadline - asyncio.get_running_loop().time()) * 1000))
            try:
                return await self.once(select, request, timeout_ms=min(left_ms, attempt_ms))
            except RaftmqError as error:
                doubts.note(error)
                raise

        try:
            return await self.router.policy.call(attempt, judge, timeout_ms=timeout_ms)
        except RaftmqError as error:
            raise doubts.of(error) from None

    async def once(self, select: Select[Request, Reply], request: Request, *, timeout_ms: int) -> Reply:
        """One attempt."""
        channel = self._channel()
        try:
            reply = await channel.call(select(channel), request, timeout_ms=timeout_ms)
        except RaftmqError as error:
            if error.refresh_metadata or status.is_bare(error) or isinstance(error, DeadlineExceeded):
                self._node = None
            raise
        self.router.metadata.image.check_cluster(reply.header.cluster_id)
        self._node = reply.header.leader_node_id or None
        return reply

    def _channel(self) -> NodeChannel:
        metadata = self.router.metadata
        if self._node is not None and self._node in metadata.image.nodes:
            channel = metadata.node(self._node)
            if not channel.avoided:
                return channel
        return metadata.channels()[0]
