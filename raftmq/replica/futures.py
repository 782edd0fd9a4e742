"""Answers that somebody awaits."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from raftmq.errors import RaftmqError

T = TypeVar("T")


def settle(future: asyncio.Future[T], answer: T | RaftmqError) -> None:
    """End `future` with an answer, or an error; the one who waited may have gone."""
    if future.done():
        return
    if isinstance(answer, RaftmqError):
        future.set_exception(answer)
    else:
        future.set_result(answer)
