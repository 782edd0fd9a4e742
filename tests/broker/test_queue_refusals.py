"""The queue's methods refuse what cannot be right, field by field, before any partition is asked; and what they tell of
requests that came to something in some partitions only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from raftmq.broker.deadlines import CallContext
from raftmq.broker.queues.tokens import pack
from raftmq.errors import DeadlineExceeded, NotLeader, Outcome, RaftmqError, Unavailable, UnknownQueueGroup
from raftmq.ids import GroupId, NodeId, Offset
from raftmq.metadata.queue_groups import QueueGroupRecord, QueueGroupSet, QueueSettings
from raftmq.partition.queues.commands import DONE, QueueAnswer, QueueOp, Refusal, Refused, Seek, Sought
from raftmq.replica.queues.looking import Pace, ParkedFilter, RedriveCount
from raftmq.v1 import queue_pb2, types_pb2
from tests.broker.cluster import Node, refusal, running
from tests.broker.fakes import FakeQueues

TOKEN = pack(0, 1, 7, bytes(16))
STRANGE = pack(99, 1, 7, bytes(16))
BACKWARDS = Duration(seconds=-1)
BEYOND = Timestamp(seconds=2**62)
PARKED = queue_pb2.MESSAGE_STATE_PARKED
HUGE = 2**32 - 1
OFFSET_HUGE = 2**64 - 1

GOOD: dict[str, dict[str, Any]] = {
    "Receive": {"partition": 0},
    "Ack": {"tokens": [TOKEN]},
    "AckAndPublish": {"tokens": [TOKEN], "records": [types_pb2.Record()]},
    "Release": {"tokens": [TOKEN]},
    "Retry": {"tokens": [TOKEN]},
    "Park": {"tokens": [TOKEN]},
    "Extend": {"tokens": [TOKEN]},
    "DescribeGroup": {},
    "Peek": {"partition": 0, "state": PARKED},
    "Redrive": {},
    "SeekGroup": {"earliest": True},
    "ResumeGroup": {},
    "CancelScheduled": {"partition": 0, "offset": 1},
    "FindProcessedKeys": {"keys": [b"k"]},
}
"""Besides topic and group, what makes a request right."""

BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("Receive", "partition", {"partition": 99}),
    ("Receive", "partition", {"partition": None, "no_forward": True}),
    ("Receive", "max_messages", {"max_messages": 10_001}),
    ("Receive", "max_bytes", {"max_bytes": 4 * 2**20 + 1}),
    ("Receive", "lease", {"lease": Duration(nanos=99_000_000)}),
    ("Receive", "max_wait", {"max_wait": BACKWARDS}),
    ("Receive", "worker", {"worker": "é" * 65}),
    ("Ack", "tokens", {"tokens": [TOKEN] * 10_001}),
    ("Ack", "tokens[1]", {"tokens": [TOKEN, TOKEN[:-1]]}),
    ("Ack", "processed_keys", {"processed_keys": [b"a", b"b"]}),
    ("Ack", "processed_keys[0]", {"processed_keys": [b"k" * 257]}),
    ("AckAndPublish", "tokens[1]", {"tokens": [TOKEN, STRANGE]}),
    ("AckAndPublish", "tokens[0]", {"tokens": [STRANGE]}),
    ("AckAndPublish", "processed_keys", {"processed_keys": [b"a", b"b"]}),
    ("AckAndPublish", "records", {"records": [types_pb2.Record()] * 10_001}),
    ("AckAndPublish", "acks", {"acks": types_pb2.ACKS_NONE}),
    ("AckAndPublish", "timeout", {"timeout": BACKWARDS}),
    ("Release", "tokens", {"tokens": []}),
    ("Retry", "tokens[0]", {"tokens": [b"\x02" + TOKEN[1:]]}),
    ("Retry", "delay", {"delay": BACKWARDS}),
    ("Retry", "error", {"error": "é" * 513}),
    ("Park", "tokens[0]", {"tokens": [STRANGE]}),
    ("Park", "reason", {"reason": "é" * 65}),
    ("Park", "error", {"error": "x" * 1_025}),
    ("Extend", "tokens", {"tokens": []}),
    ("Extend", "lease", {"lease": Duration()}),
    ("DescribeGroup", "partitions[1]", {"partitions": [0, 99]}),
    ("DescribeGroup", "partitions", {"partitions": [0] * 10_001}),
    ("Peek", "partition", {"partition": None}),
    ("Peek", "partition", {"partition": 99}),
    ("Peek", "state", {"state": 0}),
    ("Peek", "state", {"state": 9}),
    ("Peek", "offset", {"offset": OFFSET_HUGE}),
    ("Peek", "max_messages", {"max_messages": 1_001}),
    ("Redrive", "partition", {"partition": 99}),
    ("Redrive", "partition", {"filter": queue_pb2.ParkedFilter(offsets=[1])}),
    ("Redrive", "filter.offsets", {"partition": 0, "filter": queue_pb2.ParkedFilter(offsets=[1] * 10_001)}),
    ("Redrive", "filter.parked_after", {"filter": queue_pb2.ParkedFilter(parked_after=BEYOND)}),
    ("Redrive", "filter.parked_before", {"filter": queue_pb2.ParkedFilter(parked_before=Timestamp(nanos=-1))}),
    ("Redrive", "max_messages", {"max_messages": 100_001}),
    ("Redrive", "timeout", {"timeout": Duration()}),
    ("SeekGroup", "partitions[0]", {"partitions": [99]}),
    ("SeekGroup", "partitions", {"partitions": [0] * 10_001}),
    ("SeekGroup", "offset", {"earliest": None}),
    ("SeekGroup", "offset", {"earliest": None, "offset": OFFSET_HUGE}),
    ("SeekGroup", "appended_at", {"earliest": None, "appended_at": BEYOND}),
    ("SeekGroup", "earliest", {"earliest": False}),
    ("SeekGroup", "latest", {"earliest": None, "latest": False}),
    ("ResumeGroup", "partitions[1]", {"partitions": [0, HUGE]}),
    ("ResumeGroup", "partitions", {"partitions": [0] * 10_001}),
    ("CancelScheduled", "partition", {"partition": None}),
    ("CancelScheduled", "partition", {"partition": 99}),
    ("CancelScheduled", "offset", {"offset": None}),
    ("CancelScheduled", "offset", {"offset": OFFSET_HUGE}),
    ("FindProcessedKeys", "keys", {"keys": []}),
    ("FindProcessedKeys", "keys[1]", {"keys": [b"k", b""]}),
    ("FindProcessedKeys", "keys[0]", {"keys": [b"k" * 257]}),
    ("FindProcessedKeys", "partitions[0]", {"partitions": [99]}),
    ("FindProcessedKeys", "partitions", {"partitions": [0] * 10_001}),
]
ANYTHING = {
    "Receive": {"no_forward"},
    "Peek": {"no_forward"},
    "CancelScheduled": {"no_forward"},
    "Redrive": {"rate_per_s", "dry_run"},
}
"""Fields of which every value makes sense."""


def asked(name: str, **values: Any) -> Any:
    kind: Any = getattr(queue_pb2, f"{name}Request")
    return kind(**({"topic": "orders", "group": "billing"} | GOOD[name] | values))


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    async with running(1) as nodes:
        (node,) = nodes
        for number, name in ((1, "billing"), (2, "shipping")):
            event = QueueGroupSet(number, 1, name, QueueSettings())
            node.cluster.image = node.cluster.image.replay(event)
        # Of all partitions: what is told of several at once is not about who leads them.
        node.host.leaders.update(dict.fromkeys(node.host.leaders, NodeId(1)))
        yield node


async def told(node: Node, name: str, request: Any) -> RaftmqError:
    """Why the request is refused by a node that need ask nobody."""
    with pytest.raises(RaftmqError) as refused:
        await node.calls.target(f"/raftmq.v1.Queue/{name}", request, CallContext.starting(10_000))
    assert refused.value.outcome is Outcome.NOT_APPLIED
    return refused.value


@pytest.mark.parametrize(("name", "field", "values"), BAD)
async def test_a_field_that_cannot_be_right_is_named(node: Node, name: str, field: str, values: dict[str, Any]) -> None:
    assert (await told(node, name, asked(name, **values))).field == field


@pytest.mark.parametrize("name", list(GOOD))
async def test_names_are_looked_up(node: Node, name: str) -> None:
    assert (await told(node, name, asked(name, topic=""))).field == "topic"
    assert (await told(node, name, asked(name, topic="nope"))).reason == "UNKNOWN_TOPIC"
    if name == "CancelScheduled":  # without a group it is about all of them
        await node.calls.target("/raftmq.v1.Queue/CancelScheduled", asked(name, group=""), CallContext.starting(9))
    else:
        assert (await told(node, name, asked(name, group=""))).field == "group"
    if name == "Receive":  # makes the group
        assert (await told(node, name, asked(name, group="a/b"))).field == "group"
    else:
        assert (await told(node, name, asked(name, group="nope"))).reason == "UNKNOWN_QUEUE_GROUP"


@pytest.mark.parametrize("name", list(GOOD))
async def test_what_is_right_is_not_refused(node: Node, name: str) -> None:
    await node.calls.target(f"/raftmq.v1.Queue/{name}", asked(name), CallContext.starting(10_000))


def test_every_field_has_a_row() -> None:
    for name in GOOD:
        tried = {field.split("[")[0].split(".")[0] for method, field, _ in BAD if method == name}
        fields = {field.name for field in getattr(queue_pb2, f"{name}Request").DESCRIPTOR.fields}
        assert fields == tried | ANYTHING.get(name, set()) | {"topic", "group"}, name
    filtered = {field.split(".")[1] for _, field, _ in BAD if field.startswith("filter.")}
    assert filtered | {"reason", "error_contains"} == {one.name for one in queue_pb2.ParkedFilter.DESCRIPTOR.fields}


# -- in some partitions only -------------------------------------------------------------------------------------------


def answers(monkeypatch: pytest.MonkeyPatch, name: str, answer: Any) -> None:
    """What partitions (`group_id`) say; an error is raised."""

    async def method(_self: object, group_id: GroupId, group: QueueGroupRecord, *args: Any) -> Any:
        said = answer(group_id, group, *args)
        if isinstance(said, RaftmqError):
            raise said
        return said

    monkeypatch.setattr(FakeQueues, name, method)


async def test_a_redrive_tells_of_each_partition_and_fails_where_all_do(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Unavailable("cut", outcome=Outcome.UNKNOWN)

    def redriven(group_id: GroupId, _: QueueGroupRecord, wanted: ParkedFilter, pace: Pace, _ms: int) -> object:
        assert wanted == ParkedFilter(reason="bad", after_ms=5_000)
        assert pace == Pace(7, 3, dry_run=True)
        return refused if group_id == 2 else RedriveCount(5, 2, 1)

    answers(monkeypatch, "redrive", redriven)
    chosen = queue_pb2.ParkedFilter(reason="bad", parked_after=Timestamp(seconds=5))
    request = asked("Redrive", filter=chosen, max_messages=7, rate_per_s=3, dry_run=True)
    answer = await node.queue.Redrive(request)
    assert [(one.partition, one.remaining, one.error.reason) for one in answer.partitions] == [
        (0, 2, ""), (1, 0, "UNAVAILABLE"), (2, 2, ""),
    ]  # fmt: skip
    answers(monkeypatch, "redrive", lambda *_: refused)
    error = await refusal(node.queue.Redrive(asked("Redrive")))
    assert (error.reason, error.outcome) == ("UNAVAILABLE", Outcome.UNKNOWN)


async def test_a_seek_or_resume_of_a_group_that_is_gone_did_not_succeed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was once answered as if the group began there now."""

    def answer(group_id: GroupId, _: QueueGroupRecord, op: QueueOp, _ms: int) -> QueueAnswer:
        if group_id == 2:
            return Refused(Refusal.UNKNOWN_GROUP)
        return Sought(Offset(4)) if isinstance(op, Seek) else DONE

    answers(monkeypatch, "ask", answer)
    sought = await node.queue.SeekGroup(asked("SeekGroup"))
    assert [(one.partition, one.offset, one.error.reason) for one in sought.partitions] == [
        (0, 4, ""), (1, 0, "UNKNOWN_QUEUE_GROUP"), (2, 4, ""),
    ]  # fmt: skip
    resumed = await node.queue.ResumeGroup(asked("ResumeGroup"))
    assert [(one.partition, one.error.reason) for one in resumed.failures] == [(1, "UNKNOWN_QUEUE_GROUP")]
    for name in ("SeekGroup", "ResumeGroup"):
        assert isinstance(await refusal(getattr(node.queue, name)(asked(name, partitions=[1]))), UnknownQueueGroup)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DeadlineExceeded("unknown to it", outcome=Outcome.NOT_APPLIED), Outcome.UNKNOWN),
        (NotLeader("it moved"), Outcome.UNKNOWN),
        (Unavailable("cut", outcome=Outcome.UNKNOWN), Outcome.UNKNOWN),
    ],
)
async def test_what_was_cancelled_for_one_group_is_not_denied_for_the_next(
    node: Node, monkeypatch: pytest.MonkeyPatch, error: RaftmqError, outcome: Outcome
) -> None:
    """Told NOT_APPLIED it was asked for once more, and then it was too late for the group that it was cancelled for."""
    asked_of: list[str] = []

    def cancelled(_: GroupId, group: QueueGroupRecord, _offset: Offset, _ms: int) -> object:
        asked_of.append(group.name)
        return True if group.name == "billing" else error

    answers(monkeypatch, "cancel", cancelled)
    refused = await refusal(node.queue.CancelScheduled(asked("CancelScheduled", group="")))
    assert (refused.reason, refused.outcome) == (error.reason, outcome)
    assert asked_of == ["billing", "shipping"], "once"


async def test_a_cancellation_tells_of_each_group(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "cancel", lambda _, group, *__: group.name == "shipping")
    answer = await node.queue.CancelScheduled(asked("CancelScheduled", group=""))
    assert (list(answer.cancelled), list(answer.too_late)) == (["shipping"], ["billing"])
    answer = await node.queue.CancelScheduled(asked("CancelScheduled"))
    assert (list(answer.cancelled), list(answer.too_late)) == ([], ["billing"])
