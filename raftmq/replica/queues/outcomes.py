"""What callers are told where several ops, or several attempts, have had a part in it."""

from __future__ import annotations

from collections.abc import Sequence

from raftmq.errors import LeadershipLost, NotLeader, Outcome, RaftmqError
from raftmq.partition.queues.commands import Status
from raftmq.partition.queues.group import QueueGroup
from raftmq.replica.queues.calls import Claim


def error_of_all(errors: Sequence[BaseException], *, is_partial: bool) -> BaseException:
    """What a call ends with whose ops did not share an entry: NOT_APPLIED only if that holds for all of them.

    `errors`: those of the ops that failed, at least one. `is_partial`: others were done.
    """
    for error in errors:
        if not isinstance(error, RaftmqError) or error.outcome is not Outcome.NOT_APPLIED:
            return error
    first = errors[0]
    if not is_partial or not isinstance(first, RaftmqError):
        return first
    if isinstance(first, NotLeader):
        return LeadershipLost("leadership was lost when some of it had been done", outcome=Outcome.UNKNOWN)
    told = first.copy()
    told.outcome = Outcome.UNKNOWN
    return told


def recall(group: QueueGroup | None, claims: Sequence[Claim], keys: Sequence[bytes], statuses: list[Status]) -> None:
    """Who acknowledges once more is told once more that the work had been done before, under another message."""
    for position, key in enumerate(keys):
        known = group.processed.get(key) if group is not None and statuses[position] is Status.DUPLICATE else None
        if known is not None and known.offset != claims[position].offset:
            statuses[position] = Status.ALREADY_PROCESSED
