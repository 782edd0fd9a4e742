"""The life of a call, from bytes to bytes: read it, find who answers, answer or hand it on, in time.

Requests and responses stay bytes at both ends, so that a forwarded call is neither written nor read a second time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from random import Random
from typing import Any

from google.protobuf.message import Message

from raftmq.broker.cluster import ClusterView, Host
from raftmq.broker.deadlines import CallContext, answer_within_ms
from raftmq.broker.dispatch import Entry, Method, Part, Settle, StreamEntry, Target, build_table
from raftmq.broker.forwarding import Forwarder
from raftmq.broker.parsing import parse
from raftmq.broker.patience import NEWS_WAIT_MS, Patience
from raftmq.broker.quotas import Quotas
from raftmq.broker.routing import Forward, Local, Refuse, Wait, may_route_again, route
from raftmq.broker.streaming import Send, Stream
from raftmq.errors import (
    DeadlineExceeded,
    NotLeader,
    NotReady,
    Outcome,
    RaftmqError,
    ShuttingDown,
    Unimplemented,
    UnknownQueueGroup,
    UnknownTopic,
)
from raftmq.ids import CONTROLLER_GROUP, NodeId, Term

BACKSTOP_MS = 20
"""How long after its deadline a handler is cut off that has not ended by itself: those that do end know more."""


Answer = Message | bytes
"""A response: bytes as another node wrote them, or a message that was made here."""


class Calls:
    """Every call of this node, whether it came from a client or from another node."""

    def __init__(
        self,
        host: Host,
        cluster: ClusterView,
        forwarder: Forwarder,
        entries: Mapping[str, Entry | StreamEntry],
        rng: Random,
    ) -> None:
        table = build_table(entries)
        self.methods = table.methods
        self.streams = table.streams
        self._host = host
        self._cluster = cluster
        self._forwarder = forwarder
        self._rng = rng
        self.quotas = Quotas(cluster, time.monotonic)
        self._open: dict[Stream, None] = {}

    # -- one request, one response -----------------------------------------------------------------------------------

    async def serve(self, name: str, data: bytes, remaining_ms: float | None, *, forwarded: bool = False) -> bytes:
        """Answer the request `data` of the method `name`.

        `remaining_ms`: how long the caller will still wait; None: not said. `forwarded`: it came from another node.
        Raises RaftmqError; whatever else it raises is a bug.
        """
        method = self.methods.get(name)
        if method is None:
            raise Unimplemented(f"this node has no method {name[:100]}")
        request = parse(method.request_class, data)
        context = CallContext.starting(answer_within_ms(remaining_ms), forwarded=forwarded)
        if context.remaining_ms == 0:
            raise DeadlineExceeded("there was no time left when the call arrived", outcome=Outcome.NOT_APPLIED)
        answer = await _in_time(method, context, self._answer(method, request, data, context))
        return answer if isinstance(answer, bytes) else answer.SerializeToString()

    async def _answer(self, method: Method, request: Message, data: bytes, context: CallContext) -> Answer:
        if method.entry.target is None:
            response: Message = await method.entry.handler(request, context)
            return response
        target = await self._target(method.entry.target, request, context)
        return await self._routed(method, request, data, target, context)

    async def _routed(
        self, method: Method, request: Message, data: bytes | None, target: Target, context: CallContext
    ) -> Answer:
        """`data`: the bytes of `request`, where it came in bytes of its own."""
        context = context.narrowed(target.limit_ms)
        if target.parts:
            return await self._in_parts(method, target.parts, context)
        if target.spread is not None:
            spread: Message = await target.spread(self, context)
            return spread
        patience: Patience | None = None
        while True:
            try:
                return await self._attempt(method, request, data, target, context)
            except RaftmqError as error:
                # The node that the call came from has the patience, and perhaps better news.
                waits = context.patient and not context.forwarded and not target.no_forward
                if not (waits and may_route_again(error, reads=method.entry.reads)):
                    raise
                patience = patience or self.patience(context)
                await patience.wait_after(error)

    async def _in_parts(self, method: Method, parts: Sequence[Part], context: CallContext) -> Answer:
        """Each part goes its own way, and waits for a leader by itself."""
        find, join = method.entry.target, method.entry.join
        assert find is not None
        assert join is not None

        async def answer(part: Part) -> Message | RaftmqError:
            try:
                answer = await self._routed(method, part.request, None, find(part.request), context)
            except RaftmqError as error:
                return error
            return method.response_class.FromString(answer) if isinstance(answer, bytes) else answer

        answers = await asyncio.gather(*(answer(part) for part in parts))
        joined: Message = join(list(zip(parts, answers, strict=True)))
        return joined

    async def _attempt(
        self, method: Method, request: Message, data: bytes | None, target: Target, context: CallContext
    ) -> Answer:
        """Route once, by what is known at this moment."""
        leads = self._host.leads(target.group)
        if target.any_replica and not leads and self._host.follows(target.group):
            try:
                answer: Message = await method.entry.handler(request, context)
            except (NotReady, NotLeader):
                pass  # this replica is behind: the leader is not
            else:
                return answer
        decision = route(
            self._cluster.node_id,
            leads=leads,
            leader=self._leader(target),
            no_forward=target.no_forward,
            forwarded=context.forwarded,
        )
        match decision:
            case Local():
                response: Message = await method.entry.handler(request, context)
                return response
            case Forward(node):
                body = request.SerializeToString() if target.amended or data is None else data
                return await self._hand_on(node, method, body, context)
            case Wait(error) | Refuse(error):
                raise error

    async def _hand_on(self, node: NodeId, method: Method, body: bytes, context: CallContext) -> bytes:
        try:
            return await self._forwarder(node, method.name, body, context.within(context.remaining_ms))
        except RaftmqError as error:
            if method.entry.reads:
                error.outcome = Outcome.NOT_APPLIED
            raise

    def _leader(self, target: Target) -> tuple[NodeId, Term] | None:
        if target.group == CONTROLLER_GROUP:
            return self._cluster.controller()
        return self._host.leader_of(target.group)

    async def _target(self, target: Any, request: Message, context: CallContext) -> Target:
        """Whose leader answers. A topic or group that is not known here may have been made elsewhere a moment ago."""
        patience: Patience | None = None
        while True:
            try:
                found: Target = target(request)
            except (UnknownTopic, UnknownQueueGroup) as error:
                if self._host.leads(CONTROLLER_GROUP):
                    raise
                patience = patience or self.patience(context)
                await patience.wait_after(error, NEWS_WAIT_MS)
            except NotReady as error:
                if context.forwarded:
                    raise
                patience = patience or self.patience(context)
                await patience.wait_after(error)
            else:
                return found

    # -- streams -----------------------------------------------------------------------------------------------------

    async def serve_stream(self, name: str, requests: AsyncIterator[bytes], send: Send) -> None:
        """Serve a stream until it ends. Raises RaftmqError; whatever else it raises is a bug."""
        method = self.streams[name]
        stream = Stream(method, requests, send)
        self._open[stream] = None
        try:
            await method.entry.handler(self, stream)
        finally:
            del self._open[stream]
            stream.close()

    @property
    def open_streams(self) -> int:
        """How many streams are being served."""
        return len(self._open)

    def end_streams(self) -> None:
        """The node stops: let every stream settle what is under way, and end it."""
        for stream in self._open:
            stream.end(ShuttingDown("this node is shutting down: go on through another one"))

    async def target(self, name: str, request: Message, context: CallContext) -> Target:
        """Who answers a `request` that a stream carries; it is checked as far as any node can. Raises RaftmqError."""
        find = self.methods[name].entry.target
        assert find is not None, f"{name} is answered by any node"
        return await self._target(find, request, context)

    async def answer(self, name: str, request: Message, target: Target, context: CallContext) -> Any:
        """The response to a `request` that a stream carries. Raises RaftmqError."""
        method = self.methods[name]
        answer = await _in_time(method, context, self._routed(method, request, None, target, context))
        return method.response_class.FromString(answer) if isinstance(answer, bytes) else answer

    def begin(self, name: str, request: Message, target: Target, context: CallContext, settle: Settle) -> bool:
        """Answer a `request` that a stream carries by ``settle``, as soon as it can be. False where it takes more than
        this node: then ``answer`` is to be asked. Raises RaftmqError."""
        begin = self.methods[name].entry.begin
        if begin is None or target.parts or target.spread is not None or not self._host.leads(target.group):
            return False
        return begin(request, context.narrowed(target.limit_ms), settle)

    def patience(self, context: CallContext) -> Patience:
        return Patience(context, self._rng)


async def _in_time(method: Method, context: CallContext, answer: Awaitable[Answer]) -> Answer:
    """`answer`, or the error that it has not come in time."""
    try:
        async with asyncio.timeout_at(context.deadline + BACKSTOP_MS / 1000) as backstop:
            return await answer
    except TimeoutError:
        if not backstop.expired():
            raise
        outcome = Outcome.NOT_APPLIED if method.entry.reads else Outcome.UNKNOWN
        raise DeadlineExceeded("the call was not answered in time", outcome=outcome) from None
