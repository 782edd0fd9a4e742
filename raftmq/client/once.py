"""Records under a message id: sent by a program that keeps no state, and appended once however often it is run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from raftmq import status
from raftmq.client import convert
from raftmq.client.router import Router
from raftmq.client.types import Acks, BatchReceipt, NewRecord
from raftmq.errors import DeadlineExceeded, Outcome, RaftmqError
from raftmq.v1 import broker_pb2, types_pb2

ATTEMPT_TIMEOUT_MS = 10_000


async def send_once(
    router: Router,
    topic: str,
    records: Sequence[NewRecord],
    message_id: str,
    *,
    partition: int | None,
    acks: Acks,
    timeout_ms: int,
) -> tuple[BatchReceipt, ...]:
    """See `Client.send_once`. Under an id everything may be tried again, also what may have been applied."""
    request = broker_pb2.ProduceRequest(
        topic=topic,
        partition=partition,
        records=[to_record(record) for record in records],
        acks=acks.value,
        message_id=message_id,
    )
    loop = asyncio.get_running_loop()
    began, attempts, outcome = loop.time(), 0, Outcome.NOT_APPLIED
    reason: RaftmqError | None = None

    async def attempt() -> tuple[BatchReceipt, ...]:
        nonlocal attempts, outcome, reason
        attempts += 1
        left_ms = max(1, timeout_ms - int((loop.time() - began) * 1000))
        request.timeout.FromMilliseconds(min(left_ms, ATTEMPT_TIMEOUT_MS))
        try:
            answer = await router.to_any(
                lambda node: node.broker.Produce,
                request,
                timeout_ms=min(left_ms, ATTEMPT_TIMEOUT_MS),
                judge=lambda _: False,
            )
            receipts = _receipts(answer)
        except RaftmqError as error:
            if error.outcome is not Outcome.NOT_APPLIED:
                outcome = Outcome.UNKNOWN
            error.outcome = error.outcome if error.outcome is Outcome.APPLIED else outcome
            reason = error if reason is None or not isinstance(error, DeadlineExceeded) else reason
            raise
        latency_us = int((loop.time() - began) * 1_000_000)
        return tuple(convert.receipt(one, latency_us=latency_us, attempts=attempts) for one in receipts)

    try:
        return await router.policy.call(attempt, lambda error: error.retriable, timeout_ms=timeout_ms)
    except DeadlineExceeded as error:
        if reason is None or error.outcome is Outcome.APPLIED:
            raise
        # The last attempt had no time left; what those before it met says more.
        reason.outcome = outcome
        raise reason from None


def _receipts(answer: broker_pb2.ProduceResponse) -> list[types_pb2.Receipt]:
    """By partition. Raises the first error of a partition that refused its part."""
    if not answer.results:
        return [answer.receipt]
    for result in answer.results:
        if result.HasField("error"):
            error = status.from_message(result.error)
            error.outcome = Outcome.UNKNOWN  # of the whole: other parts are there
            raise error
    return [result.receipt for result in answer.results]


def to_record(record: NewRecord) -> types_pb2.Record:
    """For a request."""
    headers = [types_pb2.Header(name=name, value=value) for name, value in record.headers]
    return types_pb2.Record(key=record.key, value=record.value, headers=headers, timestamp_ms=record.timestamp_ms or 0)
