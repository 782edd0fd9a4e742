"""Work: messages pushed, and verdicts on them, in one stream; above all what is published with an acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc.aio import EOF  # type: ignore[attr-defined]

from raftmq import status
from raftmq.broker.queues import work
from raftmq.broker.queues.tokens import pack
from raftmq.errors import InvalidArgument, LeaseExpired, Outcome, QueueFull, ShuttingDown
from raftmq.ids import GroupId, LogIndex, NodeId, Offset, Term
from raftmq.metadata.queue_groups import QueueGroupRecord, QueueGroupSet, QueueSettings
from raftmq.partition.queues.commands import Status
from raftmq.replica.queues.calls import Claim, Handover, Received, Ruling, Wish
from raftmq.replica.waits import Ack
from raftmq.v1 import queue_pb2, types_pb2
from tests.broker.cluster import Node, open_streams, refusal, running
from tests.broker.fakes import FakeQueues

TOKEN = pack(0, 1, 7, bytes(16))
Request = queue_pb2.WorkRequest
ACK = Ack(Offset(8), 1, Term(2), LogIndex(9), 5, (NodeId(1), NodeId(2)), False, 0, 0, 0)


class Queues:
    """What the partitions answer; publishing waits until it is let go."""

    def __init__(self) -> None:
        self.handed: list[Handover] = []
        self.answer: Ack | list[int] | Exception = ACK
        self.let_go = asyncio.Event()
        self.gone = asyncio.Event()
        self.waited_ms = 0

    async def receive(self, _: object, group_id: GroupId, group: QueueGroupRecord, wish: Wish, ms: int) -> Received:
        await asyncio.Event().wait()
        raise AssertionError

    async def settle(
        self, _: object, group: GroupId, known: QueueGroupRecord, claims: Sequence[Claim], ruling: Ruling, ms: int
    ) -> list[Status]:
        return [Status.OK] * len(claims)

    async def hand_over(
        self, _: object, group: GroupId, known: QueueGroupRecord, handover: Handover, timeout_ms: int
    ) -> Ack | list[int]:
        self.handed.append(handover)
        self.waited_ms = timeout_ms
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.gone.set()
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> Queues:
    queues = Queues()
    for name in ("receive", "settle", "hand_over"):
        method = getattr(queues, name)
        monkeypatch.setattr(FakeQueues, name, lambda *args, method=method: method(*args))
    return queues


@pytest.fixture
async def nodes(queues: Queues) -> AsyncIterator[list[Node]]:
    async with running(1, 2) as nodes:
        for node in nodes:
            event = QueueGroupSet(1, 1, "billing", QueueSettings())
            node.cluster.image = node.cluster.image.replay(event)
        yield nodes


async def opened(node: Node) -> Any:
    call = cast(Any, node.queue.Work)()
    subscription = queue_pb2.ReceiveRequest(topic="orders", group="billing", partition=0)
    await call.write(Request(subscription=subscription))
    return call


def publish(number: int, size: int = 1, **values: Any) -> queue_pb2.WorkRequest:
    told: dict[str, Any] = {
        "topic": "orders",
        "group": "billing",
        "tokens": [TOKEN],
        "records": [types_pb2.Record(value=b"r" * size)],
    }
    asked = queue_pb2.AckAndPublishRequest(**(told | values))
    return Request(correlation_id=number, ack_and_publish=asked)


def ack(number: int) -> queue_pb2.WorkRequest:
    return Request(correlation_id=number, ack=queue_pb2.AckRequest(topic="orders", group="billing", tokens=[TOKEN]))


async def result(call: Any) -> queue_pb2.VerdictResult:
    answer = await call.read()
    assert isinstance(answer, queue_pb2.WorkResponse), answer
    assert answer.HasField("verdict")
    return answer.verdict


@pytest.mark.parametrize("asked", [0, 1])
async def test_records_are_published_with_an_acknowledgement_through_any_node(
    nodes: list[Node], queues: Queues, asked: int
) -> None:
    queues.let_go.set()
    call = await opened(nodes[asked])
    await call.write(publish(3, timeout=Duration(seconds=70)))
    told = await result(call)
    assert (told.correlation_id, told.error.reason, list(told.failures)) == (3, "", [])
    assert (told.receipt.topic, told.receipt.partition, told.receipt.base_offset) == ("orders", 0, 8)
    (handed,) = queues.handed
    assert [claim.offset for claim in handed.claims] == [7]
    assert 60_000 < queues.waited_ms <= 70_000
    await call.done_writing()
    assert await call.read() is EOF


async def test_a_refusal_is_a_result_and_the_stream_goes_on(nodes: list[Node], queues: Queues) -> None:
    queues.let_go.set()
    call = await opened(nodes[0])
    for error in (LeaseExpired("it is over"), QueueFull("no room"), ValueError("a bug")):
        queues.answer = error
        await call.write(publish(1))
        told = await result(call)
        assert told.error.reason == getattr(error, "reason", "INTERNAL")
        assert not told.HasField("receipt")
    queues.answer = [0]
    await call.write(publish(2, processed_keys=[b"k"]))
    told = await result(call)
    assert (list(told.already_processed), told.HasField("receipt"), told.error.reason) == ([0], False, "")
    call.cancel()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"topic": ""}, "topic"),
        ({"group": ""}, "group"),
        ({"tokens": []}, "tokens"),
        ({"tokens": [b"x"]}, "tokens[0]"),
        ({"tokens": [TOKEN, pack(1, 1, 7, bytes(16))]}, "tokens[1]"),
        ({"processed_keys": [b"a", b"b"]}, "processed_keys"),
        ({"records": []}, "records"),
        ({"acks": types_pb2.ACKS_LEADER}, "acks"),
        ({"timeout": Duration(seconds=-1)}, "timeout"),
    ],
)
async def test_bad_input_is_refused_before_anything_is_asked(
    nodes: list[Node], queues: Queues, values: dict[str, Any], field: str
) -> None:
    call = await opened(nodes[0])
    await call.write(publish(5, **values))
    told = await result(call)
    refused = status.from_message(told.error)
    assert (told.correlation_id, refused.reason, refused.field) == (5, "INVALID_ARGUMENT", field)
    assert not queues.handed
    await call.write(ack(6))
    assert (await result(call)).correlation_id == 6
    call.cancel()


async def test_those_that_wait_for_room_do_not_keep_the_verdicts_behind_them(nodes: list[Node], queues: Queues) -> None:
    """They may be what makes room."""
    call = await opened(nodes[0])
    for number in range(work.PUBLISHED_MAX + 1):
        await call.write(publish(number))
    told = await result(call)
    assert (told.correlation_id, told.error.reason) == (work.PUBLISHED_MAX, "OVERLOADED")
    assert status.from_message(told.error).outcome is Outcome.NOT_APPLIED
    await call.write(ack(1_000))
    assert (await result(call)).correlation_id == 1_000
    queues.let_go.set()
    numbers = sorted([(await result(call)).correlation_id for _ in range(work.PUBLISHED_MAX)])
    assert numbers == list(range(work.PUBLISHED_MAX))
    await call.write(publish(2_000))
    assert (await result(call)).HasField("receipt")
    call.cancel()


async def test_they_are_bounded_by_bytes_too(
    nodes: list[Node], queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "PUBLISHED_BYTES_MAX", 1_000)
    call = await opened(nodes[0])
    await call.write(publish(1, size=5_000))  # alone it may be larger
    await call.write(publish(2))
    told = await result(call)
    assert (told.correlation_id, told.error.reason) == (2, "OVERLOADED")
    queues.let_go.set()
    assert (await result(call)).correlation_id == 1
    await call.write(publish(3))
    assert (await result(call)).HasField("receipt")
    call.cancel()


async def test_nothing_is_published_for_a_client_that_has_gone(nodes: list[Node], queues: Queues) -> None:
    call = await opened(nodes[0])
    await call.write(publish(1))
    await call.write(ack(2))
    assert (await result(call)).correlation_id == 2
    call.cancel()
    await queues.gone.wait()
    await open_streams(nodes[0], 0)


async def test_a_node_that_stops_tells_what_became_of_them(nodes: list[Node], queues: Queues) -> None:
    call = await opened(nodes[0])
    await call.write(publish(1))
    await call.write(ack(2))
    assert (await result(call)).correlation_id == 2
    nodes[0].calls.end_streams()
    queues.let_go.set()
    assert (await result(call)).HasField("receipt")
    assert isinstance(await refusal(call.read()), ShuttingDown)


async def test_what_follows_the_first_message_does_not_subscribe(nodes: list[Node]) -> None:
    call = await opened(nodes[0])
    await call.write(Request(subscription=queue_pb2.ReceiveRequest(topic="orders", group="billing")))
    refused = await refusal(call.read())
    assert isinstance(refused, InvalidArgument)
    assert refused.field == "subscription"
