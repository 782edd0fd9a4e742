"""Receive: messages from one partition, or from whichever of a topic has some.

A request that leaves the partition open is looked after by the node that was asked. It asks the partitions one after
the other, beginning with another one each time; where none has anything it waits at all of them at once, and takes what
comes first. What comes from a second one in that very moment is given back.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.dispatch import Target
from raftmq.broker.patience import LEADER_WAIT_MS, RESERVE_MS
from raftmq.broker.queues.groups import milliseconds
from raftmq.broker.queues.tokens import pack
from raftmq.broker.streaming import Routed
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, RaftmqError
from raftmq.metadata.image import TopicRecord
from raftmq.metadata.queue_groups import LEASE_MS_MAX, LEASE_MS_MIN, QueueGroupRecord, check_group_name
from raftmq.replica.queues.calls import Received, Wish
from raftmq.v1 import queue_pb2

METHOD = "/raftmq.v1.Queue/Receive"
RELEASE = "/raftmq.v1.Queue/Release"
MESSAGES_MAX = 10_000
BYTES_DEFAULT = 1024 * 1024
BYTES_MAX = 4 * 1024 * 1024
MAX_WAIT_MAX_MS = 60_000
WORKER_BYTES_MAX = 128
TURNS_MAX = 10_000
LIMIT_MS = 10_000
"""For everything but the wait for messages."""


class Receiving:
    """The method Receive."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._turns: dict[tuple[str, str], int] = {}

    def target(self, request: queue_pb2.ReceiveRequest) -> Target:
        """Where `request` goes; all of it is checked."""
        topic = self._view.topic(request.topic)
        check_group_name(request.group)
        check(request)
        limit_ms = max_wait_ms(request) + LIMIT_MS + LEADER_WAIT_MS
        if request.HasField("partition"):
            partition = self._view.partition(topic, request.partition)
            return Target(partition.group, limit_ms, request.no_forward)
        if request.no_forward:
            raise InvalidArgument("is required where the call must not be forwarded", field="partition")
        if len(topic.partitions) == 1:
            request.partition = 0
            return Target(topic.partitions[0].group, limit_ms, amended=True)
        return Target(topic.partitions[0].group, limit_ms, spread=partial(self._spread, topic, request))

    async def receive(self, request: queue_pb2.ReceiveRequest, context: CallContext) -> queue_pb2.ReceiveResponse:
        """Lease messages of a partition that is led here; `target` has passed."""
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, request.partition)
        group = await self._group(request, context)
        wish = Wish(
            request.worker, request.max_messages or 1, request.max_bytes or BYTES_DEFAULT, _lease_ms(request, group)
        )
        wait_ms = min(max_wait_ms(request), max(0, context.remaining_ms - RESERVE_MS))
        received = await self._view.queues.receive(partition.group, group, wish, wait_ms)
        return self._answer(request.partition, received, self._view.header(partition.group))

    async def _group(self, request: queue_pb2.ReceiveRequest, context: CallContext) -> QueueGroupRecord:
        groups = self._view.cluster.queue_groups
        known = groups.known(request.topic, request.group)
        return known or await groups.ensure(request.topic, request.group, context.within(LIMIT_MS))

    @staticmethod
    def _answer(partition: int, received: Received, header: Any) -> queue_pb2.ReceiveResponse:
        response = queue_pb2.ReceiveResponse(
            header=header, lease=milliseconds(received.lease_ms), waited=milliseconds(received.waited_ms)
        )
        add, secret = response.messages.add, received.secret
        for lease, offset, record, attempt, failures, wall_ms in received.deliveries:
            add(
                partition=partition,
                offset=offset,
                token=pack(partition, lease, offset, secret),
                record=record,
                attempt=attempt,
                failures=failures,
                append_time_ms=wall_ms,
            )
        return response

    # -- any partition -----------------------------------------------------------------------------------------------

    async def _spread(
        self, topic: TopicRecord, request: queue_pb2.ReceiveRequest, calls: Routed, context: CallContext
    ) -> queue_pb2.ReceiveResponse:
        """From whichever partition has messages first. Raises what the partitions raised where none answers."""
        wait_ms = min(max_wait_ms(request), max(0, context.remaining_ms - RESERVE_MS))
        if len(self._turns) >= TURNS_MAX:
            self._turns.clear()  # anybody may name any group
        turn = self._turns.get((request.topic, request.group), 0)
        self._turns[request.topic, request.group] = turn + 1
        count = len(topic.partitions)
        order = [(turn + step) % count for step in range(count)]
        errors: list[RaftmqError] = []
        for number in order:
            try:
                answer = await _ask(calls, request, number, 0, context)
            except RaftmqError as error:
                errors.append(error)
                continue
            if answer.messages:
                return answer
        if len(errors) == count:
            raise errors[0]
        if not wait_ms:
            return answer
        return await self._first(calls, request, order, wait_ms, context)

    async def _first(
        self, calls: Routed, request: queue_pb2.ReceiveRequest, order: list[int], wait_ms: int, context: CallContext
    ) -> queue_pb2.ReceiveResponse:
        polls = [asyncio.create_task(_ask(calls, request, number, wait_ms, context)) for number in order]
        found: list[queue_pb2.ReceiveResponse] = []
        try:
            left = set(polls)
            while left and not found:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                found = [poll.result() for poll in polls if poll in done and poll.exception() is None]
                found = [answer for answer in found if answer.messages]
        finally:
            await _end(polls)
            late = [p.result() for p in polls if not p.cancelled() and p.exception() is None]
            surplus = [answer for answer in late if answer.messages and answer is not next(iter(found), None)]
            for answer in surplus:
                _give_back(calls, request, answer)
        if found:
            return found[0]
        answers = [poll for poll in polls if poll.exception() is None]
        return (answers or polls)[0].result()


async def _ask(
    calls: Routed, request: queue_pb2.ReceiveRequest, number: int, wait_ms: int, context: CallContext
) -> queue_pb2.ReceiveResponse:
    asked = queue_pb2.ReceiveRequest()
    asked.CopyFrom(request)
    asked.partition = number
    asked.max_wait.FromMilliseconds(wait_ms)
    target = await calls.target(METHOD, asked, context)
    answer: queue_pb2.ReceiveResponse = await calls.answer(METHOD, asked, target, context)
    return answer


async def _end(polls: list[asyncio.Task[queue_pb2.ReceiveResponse]]) -> None:
    for poll in polls:
        poll.cancel()
    await asyncio.wait(polls)


_releases: set[asyncio.Task[None]] = set()
"""The event loop keeps no task alive by itself."""


def _give_back(calls: Routed, request: queue_pb2.ReceiveRequest, answer: queue_pb2.ReceiveResponse) -> None:
    """Somebody else may have these messages at once, and need not wait until their lease is over."""

    async def release() -> None:
        context = CallContext.starting(LIMIT_MS)
        back = queue_pb2.ReleaseRequest(
            topic=request.topic, group=request.group, tokens=[message.token for message in answer.messages]
        )
        try:
            await calls.answer(RELEASE, back, await calls.target(RELEASE, back, context), context)
        except RaftmqError:
            return  # the leases end by themselves

    task = asyncio.create_task(release(), name="queue-give-back")
    _releases.add(task)
    task.add_done_callback(_releases.discard)


# -- requests ----------------------------------------------------------------------------------------------------------


def check(request: queue_pb2.ReceiveRequest) -> None:
    """Everything but the names. Raises InvalidArgument."""
    if request.max_messages > MESSAGES_MAX:
        raise InvalidArgument(f"{request.max_messages} is more than {MESSAGES_MAX}", field="max_messages")
    if request.max_bytes > BYTES_MAX:
        raise InvalidArgument(f"{request.max_bytes} is more than {BYTES_MAX}", field="max_bytes")
    if len(request.worker.encode()) > WORKER_BYTES_MAX:
        raise InvalidArgument(f"has more than {WORKER_BYTES_MAX} bytes", field="worker")
    if request.HasField("lease"):
        duration_ms(request.lease, "lease", low=LEASE_MS_MIN, high=LEASE_MS_MAX)
    max_wait_ms(request)


def max_wait_ms(request: queue_pb2.ReceiveRequest) -> int:
    if not request.HasField("max_wait"):
        return 0
    return duration_ms(request.max_wait, "max_wait", low=0, high=MAX_WAIT_MAX_MS)


def _lease_ms(request: queue_pb2.ReceiveRequest, group: QueueGroupRecord) -> int:
    if not request.HasField("lease"):
        return group.settings.lease_ms
    return duration_ms(request.lease, "lease", low=LEASE_MS_MIN, high=LEASE_MS_MAX)
