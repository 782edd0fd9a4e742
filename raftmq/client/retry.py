"""When to try again, and how long to wait before it. The waiting is tenacity's; the judgement is here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from raftmq.errors import Outcome, RaftmqError

Result = TypeVar("Result")
Judgement = Callable[[RaftmqError], bool]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter: the n-th wait is drawn from 0 to min(initial * 2**n, max)."""

    initial_ms: int = 20
    max_ms: int = 500
    rng: Random = field(default_factory=Random, repr=False, compare=False)

    def retrying(
        self,
        judge: Judgement,
        *,
        timeout_ms: int,
        before_sleep: Callable[[RetryCallState], Awaitable[None] | None] | None = None,
    ) -> AsyncRetrying:
        """Tries until success, an error that `judge` refuses, or `timeout_ms`; then the last error is raised."""
        return AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, RaftmqError) and judge(error)),
            wait=_WaitAsTold(self),
            stop=_StopAfter(timeout_ms),
            before_sleep=before_sleep,
            reraise=True,
        )

    async def call(self, attempt: Callable[[], Awaitable[Result]], judge: Judgement, *, timeout_ms: int) -> Result:
        """Result of the first attempt that succeeds; see `retrying`.

        Almost every first attempt does, and to prepare for the others costs as much as a small answer: so it is made
        before, and its failure is handed to the retrying as that of the first attempt there.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await attempt()
        except RaftmqError as error:
            if not judge(error):
                raise
            failures = [error]

        async def again() -> Result:
            if failures:
                raise failures.pop()
            return await attempt()

        left_ms = timeout_ms - int((loop.time() - began) * 1000)
        return await self.retrying(judge, timeout_ms=left_ms)(again)


class _WaitAsTold(wait_base):
    """Back-off, but never shorter than what the server asked for."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy

    def __call__(self, retry_state: RetryCallState) -> float:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        told = error.retry_after_ms / 1000 if isinstance(error, RaftmqError) else 0.0
        policy = self._policy
        ceiling = min(policy.initial_ms * 2.0 ** min(retry_state.attempt_number - 1, 30), policy.max_ms)
        return max(told, policy.rng.uniform(0, ceiling) / 1000)


class _StopAfter(stop_base):
    """Gives up so many milliseconds after it was made, by the event loop's clock."""

    def __init__(self, timeout_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout_ms / 1000

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self._loop.time() >= self._deadline


@dataclass(slots=True)
class Doubt:
    """Of one call, over all its attempts: whether one of those that failed may have counted all the same."""

    is_there: bool = False

    def note(self, error: RaftmqError) -> None:
        """An attempt failed."""
        self.is_there = self.is_there or error.outcome is not Outcome.NOT_APPLIED

    def of(self, error: RaftmqError) -> RaftmqError:
        """`error` as the end of the whole call: what refuses the last attempt says nothing of those before it."""
        doubtful = self.is_there and error.outcome is Outcome.NOT_APPLIED
        return with_outcome(error, Outcome.UNKNOWN) if doubtful else error


def may_retry_read(error: RaftmqError) -> bool:
    """Reads change nothing, so that an unknown outcome does not matter."""
    return error.retriable


def may_retry_write(error: RaftmqError) -> bool:
    """A write that is not idempotent may be repeated only if it surely did not happen."""
    return error.retriable and error.outcome is Outcome.NOT_APPLIED


def leader_epoch(error: RaftmqError) -> int:
    """Epoch of the leader that said it, 0 where it did not say."""
    text = error.metadata.get("leader_epoch", "")
    return int(text) if text.isdecimal() else 0


def with_outcome(error: RaftmqError, outcome: Outcome) -> RaftmqError:
    """The same error, with what became of it over all attempts."""
    told = error.copy()
    told.outcome = outcome
    return told
