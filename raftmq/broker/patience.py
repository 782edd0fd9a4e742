"""Short waits for a leader, or for news that other nodes already have."""

from __future__ import annotations

import asyncio
from random import Random

from raftmq.broker.deadlines import CallContext
from raftmq.errors import NoLeader, NotLeader, RaftmqError

LEADER_WAIT_MS = 5_000
"""How long a call waits for a leader at most: an election takes one to three seconds, a lost quorum for ever."""
NEWS_WAIT_MS = 500
"""How long a name that is not known here may still turn out to have been created at another node just now."""
PAUSE_MS = (20, 100)
"""Between two looks; drawn at random, so that calls that wait for one leader do not all come at once."""
RESERVE_MS = 10
"""An attempt that would have less time than this is not worth a pause."""


class Patience:
    """How long one call goes on trying, counted from its first failure."""

    def __init__(self, context: CallContext, rng: Random) -> None:
        self._context = context
        self._rng = rng
        self._first: int | None = None

    async def wait_after(self, error: RaftmqError, limit_ms: int = LEADER_WAIT_MS) -> None:
        """Pause, or raise what `error` means to the caller where its time, or `limit_ms` of it, is used up."""
        remaining = self._context.remaining_ms
        pause = self._rng.uniform(*PAUSE_MS)
        if self._first is None:
            self._first = remaining
        spent = self._first - remaining
        if pause > min(limit_ms - spent, remaining - RESERVE_MS):
            raise _told(error)
        await asyncio.sleep(pause / 1000)


def _told(error: RaftmqError) -> RaftmqError:
    """NOT_LEADER is for those who asked not to be forwarded; to others it means that no leader was found."""
    if isinstance(error, NotLeader):
        return NoLeader(f"no leader answered in time: {error.message}", metadata=error.metadata)
    return error
