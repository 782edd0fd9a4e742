"""What a worker may believe: of a verdict whose answer was lost, and of how long it still has a message."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from raftmq import status
from raftmq.client.queue import AckReceipt, QueueMessage, QueueWorker, WorkerSettings
from raftmq.client.queue_message import Lease
from raftmq.client.queue_message import hand_over as hand_over_messages
from raftmq.client.retry import RetryPolicy
from raftmq.client.router import Router
from raftmq.client.settling import Settler, Verdict
from raftmq.client.types import Acks, NewRecord
from raftmq.errors import LeaseExpired, MessageTooLarge, NoLeader, Outcome, RaftmqError, Unavailable
from raftmq.v1 import queue_pb2, types_pb2

REFUSED = status.to_message(LeaseExpired("somebody else may have the message"))


class ScriptedRouter:
    """Answers the calls to a partition one after the other; the last answer is given again."""

    def __init__(self, *answers: Any) -> None:
        self.policy = RetryPolicy(initial_ms=1, max_ms=1)
        self._answers = list(answers)

    async def to_partition(self, _topic: str, _partition: int, select: Any, *_: object, **__: object) -> Any:
        select(Mock())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, RaftmqError):
            raise answer
        return answer


def refusal() -> queue_pb2.AckResponse:
    return queue_pb2.AckResponse(failures=[queue_pb2.VerdictFailure(position=0, error=REFUSED)])


async def ack(*answers: Any, timeout_ms: int = 60_000) -> object:
    settler = Settler(cast(Router, ScriptedRouter(*answers)), "orders", "billing", 0, timeout_ms)
    return await settler.settle(b"token", Verdict.ACK, None, "", "", b"")


async def test_a_late_verdict_is_surely_not_applied() -> None:
    with pytest.raises(LeaseExpired) as caught:
        await ack(NoLeader("nobody leads"), refusal())
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_nobody_knows_of_a_verdict_that_is_late_only_when_it_is_repeated() -> None:
    """The first attempt may have counted, and its lease been forgotten since."""
    with pytest.raises(LeaseExpired) as caught:
        await ack(Unavailable("the connection broke", outcome=Outcome.UNKNOWN), refusal())
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_the_last_error_does_not_hide_that_an_attempt_before_may_have_counted() -> None:
    lost = Unavailable("the connection broke", outcome=Outcome.UNKNOWN)
    with pytest.raises(RaftmqError) as caught:
        await ack(lost, NoLeader("nobody leads"), timeout_ms=50)
    assert caught.value.outcome is Outcome.UNKNOWN


def published() -> queue_pb2.AckAndPublishResponse:
    return queue_pb2.AckAndPublishResponse(receipt=types_pb2.Receipt(topic="orders", base_offset=7, count=1))


async def hand_over(*answers: Any) -> AckReceipt:
    settler = Settler(cast(Router, ScriptedRouter(*answers)), "orders", "billing", 0, 60_000)
    return await settler.hand_over([b"token"], [], [NewRecord(b"result")], Acks.ALL)


async def test_a_lost_answer_to_an_acknowledgement_with_records_is_asked_for_again() -> None:
    told = await hand_over(Unavailable("the connection broke", outcome=Outcome.UNKNOWN), published())
    assert told.receipt is not None
    assert (told.receipt.base_offset, told.receipt.attempts) == (7, 2)


async def test_records_are_surely_not_published_where_the_lease_is_over() -> None:
    with pytest.raises(LeaseExpired) as caught:
        await hand_over(NoLeader("nobody leads"), LeaseExpired("over"))
    assert caught.value.outcome is Outcome.NOT_APPLIED


async def test_nobody_knows_of_records_whose_lease_is_over_when_they_are_sent_again() -> None:
    with pytest.raises(LeaseExpired) as caught:
        await hand_over(Unavailable("the connection broke", outcome=Outcome.UNKNOWN), LeaseExpired("over"))
    assert caught.value.outcome is Outcome.UNKNOWN


class Holder:
    """Holds messages, of which it counts those that it holds no more."""

    topic = "orders"

    def __init__(self, *answers: Any) -> None:
        self.free = 0
        self._settler = Settler(cast(Router, ScriptedRouter(*answers)), "orders", "billing", 0, 60_000)

    def settler(self, _partition: int) -> Settler:
        return self._settler

    def freed(self, messages: int) -> None:
        self.free += messages


@pytest.mark.parametrize(
    ("answer", "free"),
    [
        (published(), 2),
        (queue_pb2.AckAndPublishResponse(already_processed=[1]), 1),
        (LeaseExpired("over"), 2),
        (MessageTooLarge("by far"), 0),
    ],
    ids=["published", "done before", "lease over", "refused"],
)
async def test_what_a_worker_still_holds_it_may_retry(answer: Any, free: int) -> None:
    holder = Holder(answer)
    messages = [QueueMessage(holder, queue_pb2.QueueMessage(offset=offset), Lease(30_000, 0.0)) for offset in (0, 1)]
    with contextlib.suppress(RaftmqError):
        await hand_over_messages(messages, [NewRecord(b"result")], [], Acks.ALL)
    assert holder.free == free


class SlowRouter:
    """A partition whose answers are long on their way. Then it has no more messages."""

    metadata = SimpleNamespace(topic=lambda _: _topic())
    way_back_s = 0.05

    def __init__(self, *answers: queue_pb2.ReceiveResponse) -> None:
        self.policy = RetryPolicy(initial_ms=1, max_ms=1)
        self.given_back: list[bytes] = []
        self._answers = list(answers)

    async def to_partition(self, _topic: str, _partition: int, select: Any, request: Any, **_: object) -> Any:
        if isinstance(request, queue_pb2.ReleaseRequest):
            self.given_back += request.tokens
            return queue_pb2.ReleaseResponse()
        if not self._answers:
            await asyncio.Event().wait()
        await asyncio.sleep(self.way_back_s)
        return self._answers.pop(0)

    def worker(self) -> QueueWorker:
        settings = WorkerSettings(
            worker="w", lease_ms=None, prefetch=1, max_bytes=1000, partitions=None, unavailable_timeout_ms=60_000
        )
        return QueueWorker(cast(Router, self), "orders", "billing", settings)


def leased(offset: int, lease_ms: int) -> queue_pb2.ReceiveResponse:
    message = queue_pb2.QueueMessage(partition=0, offset=offset, attempt=1, token=b"%d" % offset)
    answer = queue_pb2.ReceiveResponse(messages=[message])
    answer.lease.FromMilliseconds(lease_ms)
    return answer


async def test_a_lease_is_counted_from_before_it_was_granted() -> None:
    """From when the request was sent, and what it waited there: the way back takes time too."""
    answer = leased(7, 30_000)
    answer.waited.FromMilliseconds(20)
    router = SlowRouter(answer)
    async with router.worker() as worker:
        message = await anext(worker)
        assert 0 < message.lease_left_ms <= 30_000 + 20 - router.way_back_s * 1000
        await message.release()


async def test_what_may_be_leased_to_somebody_else_by_now_is_given_to_nobody() -> None:
    router = SlowRouter(leased(7, lease_ms=1), leased(8, lease_ms=30_000))
    async with router.worker() as worker:
        assert (await anext(worker)).offset == 8  # of two, and with room for one: the first takes none any more
        assert router.given_back == [b"7"]


async def _topic() -> Any:
    return SimpleNamespace(partitions=[SimpleNamespace(partition=0)])
