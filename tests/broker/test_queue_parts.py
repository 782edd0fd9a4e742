"""Requests about several partitions of a queue, as they are dealt to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.duration_pb2 import Duration

from raftmq.broker.queues.groups import QueueGroupMethods
from raftmq.broker.queues.processed import FAN_OUT_BYTES_MAX, ProcessedKeys
from raftmq.broker.queues.verdicts import Request, _part
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument
from raftmq.v1 import queue_pb2

TOKENS = [b"a", b"b", b"c"]
ONE_MS = Duration(nanos=1_000_000)


@pytest.mark.parametrize(
    ("whole", "part"),
    [
        (
            queue_pb2.AckRequest(topic="t", group="g", tokens=TOKENS, processed_keys=[b"x", b"", b"z"]),
            queue_pb2.AckRequest(topic="t", group="g", tokens=[b"a", b"c"], processed_keys=[b"x", b"z"]),
        ),
        (
            queue_pb2.RetryRequest(topic="t", group="g", tokens=TOKENS, delay=ONE_MS, error="e"),
            queue_pb2.RetryRequest(topic="t", group="g", tokens=[b"a", b"c"], delay=ONE_MS, error="e"),
        ),
        (
            queue_pb2.RetryRequest(topic="t", group="g", tokens=TOKENS, delay=Duration()),
            queue_pb2.RetryRequest(topic="t", group="g", tokens=[b"a", b"c"], delay=Duration()),
        ),
        (
            queue_pb2.ParkRequest(topic="t", group="g", tokens=TOKENS, reason="r", error="e"),
            queue_pb2.ParkRequest(topic="t", group="g", tokens=[b"a", b"c"], reason="r", error="e"),
        ),
        (
            queue_pb2.ExtendRequest(topic="t", group="g", tokens=TOKENS, lease=ONE_MS),
            queue_pb2.ExtendRequest(topic="t", group="g", tokens=[b"a", b"c"], lease=ONE_MS),
        ),
    ],
)
def test_a_part_says_what_the_whole_says_of_its_tokens(whole: Request, part: Request) -> None:
    assert _part(whole, [0, 2]) == part


def test_keys_for_many_partitions_are_bounded_together() -> None:
    """Each partition gets a request with all of them."""
    partitions = [SimpleNamespace(partition=number, group=number + 1) for number in range(1_000)]
    topic = SimpleNamespace(partitions=partitions)
    view: Any = SimpleNamespace(topic=lambda _: topic, partition=lambda *_: None)
    groups: Any = SimpleNamespace(group=lambda *_: None)
    methods = ProcessedKeys(cast(View, view), cast(QueueGroupMethods, groups))
    few = queue_pb2.FindProcessedKeysRequest(topic="t", group="g", keys=[b"k" * 256] * 10)
    assert len(methods.target(few).parts) == 1_000
    many = queue_pb2.FindProcessedKeysRequest(topic="t", group="g", keys=[b"k" * 256] * 1_000)
    with pytest.raises(InvalidArgument, match=f"at most {FAN_OUT_BYTES_MAX}") as refused:
        methods.target(many)
    assert refused.value.field == "keys"
