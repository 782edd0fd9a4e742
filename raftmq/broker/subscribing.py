"""Subscribe: Fetch in a loop, its answers pushed as far as the client has granted credit.

Each fetch is routed like a client's own, so a subscription works on any node: one that does not lead the partition asks
the leader, and asks the next one when leadership moves on. With ``no_forward`` the stream ends then instead, and says
who leads.
"""

from __future__ import annotations

import asyncio

from raftmq.broker.deadlines import CALL_MAX_MS, CallContext
from raftmq.broker.dispatch import Target
from raftmq.broker.streaming import Routed, Stream
from raftmq.errors import InvalidArgument, NoLeader, NotLeader, RaftmqError
from raftmq.v1 import broker_pb2

METHOD = "/raftmq.v1.Broker/Fetch"
POLL_MS = 30_000
"""How long one fetch waits for records; the client notices nothing of the next one."""
ANSWER_BYTES_MAX = 1024 * 1024
"""Soft, as in Fetch: what is read, and held for this client, at once."""
HINT_WAIT_MS = 1_000
"""How long a stream that must not be forwarded waits to learn who leads after this node."""
CREDIT_MAX = 2**63 - 1


async def subscribe(calls: Routed, stream: Stream) -> None:
    """Serve one stream until it has an error, or the client has closed its side and used up its credit."""
    requests = stream.requests()
    first = await stream.unless_ended(anext(requests, None))
    if first is None:
        return
    fetch = _first_fetch(first)
    credit = Credit()
    credit.grant(first)

    async def follow() -> None:
        try:
            async for request in requests:
                if request.HasField("subscription"):
                    raise InvalidArgument("only the first message subscribes", field="subscription")
                credit.grant(request)
            credit.close()
        except Exception as error:  # noqa: BLE001  whatever it is, the sender must not wait for ever
            stream.end(error)

    granting = asyncio.create_task(follow(), name="subscribe-credit")
    try:
        while await stream.unless_ended(credit.positive()):
            fetch.max_bytes = min(credit.bytes, ANSWER_BYTES_MAX)
            answer = await stream.unless_ended(_fetch(calls, fetch))
            credit.spend(answer)
            if answer.batches:
                # The fields of a SubscribeResponse, under the same numbers: its bytes are the same.
                await stream.send(answer)
                fetch.offset = answer.next_offset
    finally:
        granting.cancel()
        await asyncio.wait({granting})


class Credit:
    """What the client is ready to take: records and bytes, each granted additively."""

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        # Invariant: at most one answer's last batch below zero.
        self._closed = False
        self._changed = asyncio.Event()

    def grant(self, request: broker_pb2.SubscribeRequest) -> None:
        self.records = min(self.records + request.records, CREDIT_MAX)
        self.bytes = min(self.bytes + request.bytes, CREDIT_MAX)
        self._changed.set()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._changed.set()

    async def positive(self) -> bool:
        """Wait until both balances are above zero; False where they never will be."""
        while self.records <= 0 or self.bytes <= 0:
            if self._closed:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def spend(self, answer: broker_pb2.FetchResponse) -> None:
        """Pay for `answer`, and cut off what there is no credit for; its first batch is always let through."""
        for position, batch in enumerate(answer.batches):
            if position and (self.records <= 0 or self.bytes <= 0):
                answer.next_offset = batch.base_offset
                del answer.batches[position:]
                return
            self.records -= batch.header.count
            self.bytes -= len(batch.records)


def _first_fetch(request: broker_pb2.SubscribeRequest) -> broker_pb2.FetchRequest:
    """Raises InvalidArgument where `request` subscribes to nothing. The rest is checked as in Fetch."""
    if not request.HasField("subscription"):
        raise InvalidArgument("is required in the first message", field="subscription")
    wanted = request.subscription
    fetch = broker_pb2.FetchRequest(
        topic=wanted.topic,
        partition=wanted.partition if wanted.HasField("partition") else None,
        offset=wanted.offset if wanted.HasField("offset") else None,
        isolation=wanted.isolation,
        no_forward=wanted.no_forward,
        any_replica=wanted.any_replica,
    )
    fetch.max_wait.FromMilliseconds(POLL_MS)
    return fetch


async def _fetch(calls: Routed, request: broker_pb2.FetchRequest) -> broker_pb2.FetchResponse:
    context = CallContext.starting(CALL_MAX_MS)
    try:
        target = await calls.target(METHOD, request, context)
        return await _as_told(calls, request, target, context)
    except RaftmqError as error:
        if error.field:
            error.field = f"subscription.{error.field}"
        raise


async def _as_told(
    calls: Routed, request: broker_pb2.FetchRequest, target: Target, context: CallContext
) -> broker_pb2.FetchResponse:
    """One routed fetch. Where it must not be forwarded and leadership is lost, the error names the next leader."""
    patience = calls.patience(context)
    while True:
        try:
            answer: broker_pb2.FetchResponse = await calls.answer(METHOD, request, target, context)
        except (NotLeader, NoLeader) as error:
            if not request.no_forward or "leader_node" in error.metadata:
                raise
            await patience.wait_after(error, HINT_WAIT_MS)
        else:
            return answer
