"""Verdicts on messages, gathered: those of one moment on one partition go in one call.

A verdict may be sent again: a token that has said the same before is answered the same. So whatever becomes of a call,
it is tried again for as long as that can help.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from raftmq import status
from raftmq.client import convert
from raftmq.client.connection import NodeChannel
from raftmq.client.convert import to_duration
from raftmq.client.once import to_record
from raftmq.client.retry import with_outcome
from raftmq.client.router import Router
from raftmq.client.types import Acks, BatchReceipt, NewRecord
from raftmq.errors import Outcome, RaftmqError
from raftmq.v1 import queue_pb2

CALL_TIMEOUT_MS = 10_000
IN_FLIGHT_MAX = 2
"""Calls of one partition; the next one gathers meanwhile."""
TOKENS_MAX = 1_000
"""Of one call."""


class Verdict(Enum):
    """What a worker says of a message."""

    ACK = "ack"
    RELEASE = "release"
    RETRY = "retry"
    PARK = "park"


@dataclass(frozen=True, slots=True)
class VerdictResult:
    """What became of a verdict that was taken."""

    already_processed: bool = False
    is_at_end: bool = False
    """It was a retry too many: the message is parked or dropped."""


_PLAIN = VerdictResult()


@dataclass(frozen=True, slots=True)
class AckReceipt:
    """What became of messages that were to be acknowledged together with records that come of them."""

    receipt: BatchReceipt | None
    """Of the records, which are one log entry with the acknowledgements. None: nothing was published."""
    already_processed: tuple[int, ...] = ()
    """Messages, by position, whose work was done before, under other messages. They are acknowledged; the others are
    held as before."""


class _Ruling(NamedTuple):
    """Verdicts that are equal in this go together."""

    verdict: Verdict
    delay_ms: int | None
    reason: str
    error: str


class _Given(NamedTuple):
    ruling: _Ruling
    token: bytes
    processed_key: bytes
    answer: asyncio.Future[VerdictResult]


class Settler:
    """Of one partition and group. ``timeout_ms``: how long a verdict is tried before its error is told."""

    def __init__(self, router: Router, topic: str, group: str, partition: int, timeout_ms: int) -> None:
        self._router = router
        self._topic = topic
        self._group = group
        self._partition = partition
        self._timeout_ms = timeout_ms
        self._given: list[_Given] = []
        self._is_due = False
        self._calls: set[asyncio.Task[None]] = set()

    async def settle(
        self, token: bytes, verdict: Verdict, delay_ms: int | None, reason: str, error: str, processed_key: bytes
    ) -> VerdictResult:
        """Raises LeaseExpired, or the last error where nobody answered."""
        answer: asyncio.Future[VerdictResult] = asyncio.get_running_loop().create_future()
        self._given.append(_Given(_Ruling(verdict, delay_ms, reason, error), token, processed_key, answer))
        self._look()
        return await answer

    async def extend(self, token: bytes, lease_ms: int | None) -> None:
        """Raises LeaseExpired, or the last error where nobody answered."""
        request = queue_pb2.ExtendRequest(
            topic=self._topic,
            group=self._group,
            tokens=[token],
            lease=None if lease_ms is None else to_duration(lease_ms),
        )
        response, doubtful = await self._call(lambda node: node.queue.Extend, request)
        if response.failures:
            raise _refusal(response.failures[0].error, doubtful)

    async def hand_over(
        self, tokens: Sequence[bytes], processed_keys: Sequence[bytes], records: Sequence[NewRecord], acks: Acks
    ) -> AckReceipt:
        """Acknowledge and publish, both or neither. Raises LeaseExpired, whatever refuses the records, or the last
        error where nobody answered; its outcome is UNKNOWN where an attempt may have counted."""
        request = queue_pb2.AckAndPublishRequest(
            topic=self._topic,
            group=self._group,
            tokens=tokens,
            processed_keys=processed_keys,
            records=[to_record(record) for record in records],
            acks=acks.value,
        )
        request.timeout.FromMilliseconds(min(self._timeout_ms, CALL_TIMEOUT_MS))
        loop = asyncio.get_running_loop()
        began, attempts = loop.time(), 0

        def select(node: NodeChannel) -> Any:
            nonlocal attempts
            attempts += 1
            return node.queue.AckAndPublish

        response, _ = await self._call(select, request)
        if not response.HasField("receipt"):
            return AckReceipt(None, tuple(response.already_processed))
        latency_us = int((loop.time() - began) * 1_000_000)
        return AckReceipt(convert.receipt(response.receipt, latency_us=latency_us, attempts=attempts))

    async def drained(self) -> None:
        """Return when everything that was given is settled, or has failed."""
        while self._given or self._calls:
            if self._calls:
                await asyncio.wait(set(self._calls))
            else:
                await asyncio.sleep(0)

    def _look(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        while self._given and len(self._calls) < IN_FLIGHT_MAX:
            ruling = self._given[0].ruling
            mine = [one for one in self._given if one.ruling == ruling][:TOKENS_MAX]
            if len(mine) == len(self._given):
                self._given = []
            else:
                taken = set(map(id, mine))
                self._given = [one for one in self._given if id(one) not in taken]
            call = asyncio.create_task(self._settle(ruling, mine), name="raftmq-queue-verdicts")
            self._calls.add(call)
            call.add_done_callback(self._done)

    def _done(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if self._given:
            self._look()

    async def _settle(self, ruling: _Ruling, given: Sequence[_Given]) -> None:
        select, request = _request(self._topic, self._group, ruling, given)
        try:
            response, doubtful = await self._call(select, request)
        except BaseException as error:
            for one in given:
                if not one.answer.done():
                    one.answer.set_exception(error.copy() if isinstance(error, RaftmqError) else error)
            if not isinstance(error, RaftmqError):
                raise
            return
        refused = {failure.position: failure.error for failure in response.failures}
        known = set(getattr(response, "already_processed", ()))
        ended = set(getattr(response, "at_end", ()))
        for position, one in enumerate(given):
            if one.answer.done():
                continue
            if position in refused:
                one.answer.set_exception(_refusal(refused[position], doubtful))
            elif position in known or position in ended:
                one.answer.set_result(VerdictResult(position in known, position in ended))
            else:
                one.answer.set_result(_PLAIN)

    async def _call(self, select: Callable[[NodeChannel], Any], request: Any) -> tuple[Any, bool]:
        """The answer, and whether an attempt before it may have counted as well."""
        doubtful = False

        async def attempt() -> Any:
            nonlocal doubtful
            try:
                return await self._router.to_partition(
                    self._topic, self._partition, select, request, timeout_ms=min(self._timeout_ms, CALL_TIMEOUT_MS)
                )
            except RaftmqError as error:
                doubtful = doubtful or error.outcome is not Outcome.NOT_APPLIED
                raise

        try:
            answer = await self._router.policy.call(attempt, lambda error: error.retriable, timeout_ms=self._timeout_ms)
        except RaftmqError as error:
            if doubtful and error.outcome is Outcome.NOT_APPLIED:
                raise with_outcome(error, Outcome.UNKNOWN) from error
            raise
        return answer, doubtful


def _refusal(error: Any, doubtful: bool) -> RaftmqError:
    """Why a verdict was not taken. Where an attempt before may have counted, its lease may be over for that."""
    refusal = status.from_message(error)
    return with_outcome(refusal, Outcome.UNKNOWN) if doubtful else refusal


def _request(
    topic: str, group: str, ruling: _Ruling, given: Sequence[_Given]
) -> tuple[Callable[[NodeChannel], Any], Any]:
    tokens = [one.token for one in given]
    match ruling.verdict:
        case Verdict.ACK:
            keys = [one.processed_key for one in given]
            ack = queue_pb2.AckRequest(
                topic=topic, group=group, tokens=tokens, processed_keys=keys if any(keys) else []
            )
            return lambda node: node.queue.Ack, ack
        case Verdict.RELEASE:
            return lambda node: node.queue.Release, queue_pb2.ReleaseRequest(topic=topic, group=group, tokens=tokens)
        case Verdict.RETRY:
            retry = queue_pb2.RetryRequest(
                topic=topic,
                group=group,
                tokens=tokens,
                delay=None if ruling.delay_ms is None else to_duration(ruling.delay_ms),
                error=ruling.error,
            )
            return lambda node: node.queue.Retry, retry
        case Verdict.PARK:
            park = queue_pb2.ParkRequest(
                topic=topic, group=group, tokens=tokens, reason=ruling.reason, error=ruling.error
            )
            return lambda node: node.queue.Park, park
