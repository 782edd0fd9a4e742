"""Publishing to an exchange: tried again, under one message id, until every topic has it or the time is over.

What several topics take is not one thing that happens or not. So every publish goes under an id: whatever an attempt
came to, the next one completes what is missing and repeats nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import uuid4

from raftmq import status
from raftmq.client import convert
from raftmq.client.exchange_types import Published, TopicReceipt
from raftmq.client.exchanges import wire_headers
from raftmq.client.router import Router
from raftmq.client.types import Acks, Headers, NewRecord
from raftmq.errors import Outcome, RaftmqError
from raftmq.v1 import exchanges_pb2, types_pb2

ATTEMPT_TIMEOUT_MS = 10_000
ROUTING_KEY = "raftmq-routing-key"
"""Header of a record that was published under a routing key: with which one."""


def published_record(value: bytes | None, key: bytes | None, routing_key: str, headers: Headers) -> NewRecord:
    """The record for one value: its headers are those that it is routed by, and consumers find the routing key."""
    told = [(ROUTING_KEY, routing_key.encode())] if routing_key else []
    return NewRecord(value, key, [*headers, *told])


async def publish(
    router: Router,
    exchange: str,
    records: Sequence[NewRecord],
    *,
    routing_key: str,
    headers: Headers | Mapping[str, bytes],
    mandatory: bool,
    acks: Acks,
    message_id: str,
    min_version: int,
    timeout_ms: int,
) -> Published:
    """See `Client.publish_batch`."""
    request = exchanges_pb2.PublishRequest(
        exchange=exchange,
        routing_key=routing_key,
        headers=wire_headers(headers),
        records=[_record(record) for record in records],
        mandatory=mandatory,
        acks=acks.value,
        message_id=message_id or uuid4().hex,
        min_metadata_version=min_version,
    )
    return await _Publish(router, request, timeout_ms).run()


def raise_failure(published: Published) -> None:
    """Raise the first topic's error where any topic failed; its metadata tells which did and which did not."""
    if not published.failed:
        return
    error = published.failed[0].error
    assert error is not None
    taken = [one.topic for one in published.topics if one.error is None]
    error.metadata |= {
        "message_id": published.message_id,
        "failed": ",".join(one.topic for one in published.failed),
        "appended": ",".join(taken),
    }
    if taken or any(one.receipts for one in published.failed):
        error.outcome = Outcome.UNKNOWN  # of the whole
    raise error


class _Publish:
    """The attempts of one publish, and the best that each topic has come to."""

    def __init__(self, router: Router, request: exchanges_pb2.PublishRequest, timeout_ms: int) -> None:
        self._router = router
        self._request = request
        self._timeout_ms = timeout_ms
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._attempts = 0
        self._topics: dict[str, TopicReceipt] = {}
        self._answered = False
        self._outcome = Outcome.NOT_APPLIED
        """Of the attempts that were not answered: UNKNOWN once any of them may have got through."""

    async def run(self) -> Published:
        try:
            await self._router.policy.call(self._attempt, lambda error: error.retriable, timeout_ms=self._timeout_ms)
        except RaftmqError:
            if not self._answered:
                raise
        self._doubt()
        return Published(self._request.message_id, tuple(self._topics.values()))

    def _doubt(self) -> None:
        """Where an attempt was not answered, before or after the one that was, nothing is surely not applied."""
        if self._outcome is Outcome.NOT_APPLIED:
            return
        for topic in self._topics.values():
            if topic.error is not None and topic.error.outcome is Outcome.NOT_APPLIED:
                topic.error.outcome = self._outcome

    async def _attempt(self) -> None:
        """Raises the first error that is worth another attempt."""
        self._attempts += 1
        spent_ms = int((self._loop.time() - self._began) * 1000)
        left_ms = min(max(1, self._timeout_ms - spent_ms), ATTEMPT_TIMEOUT_MS)
        self._request.timeout.FromMilliseconds(left_ms)
        try:
            answer = await self._router.to_any(
                lambda node: node.exchanges.Publish, self._request, timeout_ms=left_ms, judge=lambda _: False
            )
        except RaftmqError as error:
            if error.outcome is not Outcome.NOT_APPLIED:
                self._outcome = Outcome.UNKNOWN
            error.outcome = self._outcome
            raise
        self._answered = True
        for result in answer.results:
            before = self._topics.get(result.topic)
            if before is None or before.error is not None:
                self._topics[result.topic] = self._receipt(result, before)
        again = (one.error for one in self._topics.values() if one.error is not None and one.error.retriable)
        retriable = next(again, None)
        if retriable is not None:
            raise retriable

    def _receipt(self, result: exchanges_pb2.TopicResult, before: TopicReceipt | None) -> TopicReceipt:
        latency_us = int((self._loop.time() - self._began) * 1_000_000)
        receipts = tuple(
            convert.receipt(one.receipt, latency_us=latency_us, attempts=self._attempts)
            for one in result.partitions
            if one.HasField("receipt")
        )
        if not result.HasField("error"):
            return TopicReceipt(result.topic, receipts, None)
        error = status.from_message(result.error)
        earlier = None if before is None else before.error
        if error.outcome is Outcome.NOT_APPLIED and earlier is not None and earlier.outcome is not error.outcome:
            error.outcome = Outcome.UNKNOWN  # an attempt before may have got through
        return TopicReceipt(result.topic, receipts or (() if before is None else before.receipts), error)


def _record(record: NewRecord) -> types_pb2.Record:
    return types_pb2.Record(
        key=record.key,
        value=record.value,
        headers=wire_headers(record.headers),
        timestamp_ms=record.timestamp_ms or 0,
    )
