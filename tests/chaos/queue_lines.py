"""Histories of a queue group, made by hand."""

from __future__ import annotations

from typing import Any

from tests.chaos.events import Events, P, final, send

Q = "workers"


def queue(*, attempts_max: int = 3, ordered: bool = False) -> Events:
    return [{"t": 0, "f": "queue", "queue": Q, "attempts_max": attempts_max, "ordered": ordered}]


def deliver(
    offset: int, lease: int, *, t: int, attempt: int = 1, failures: int = 0, left: int = 100, value: int | None = None,
    key: str = "k", by: str = "w1",
) -> Events:  # fmt: skip
    return [
        {"t": t, "f": "deliver", "queue": Q, "client": by, "partition": P, "offset": offset, "lease": lease,
         "attempt": attempt, "failures": failures, "value": offset + 10 if value is None else value, "key": key,
         "left": left}
    ]  # fmt: skip


def say(
    op: int, verdict: str, offset: int, lease: int, *, t: int, until: int, outcome: str = "ok", **fields: Any
) -> Events:
    return [
        {"t": t, "f": "verdict", "type": "invoke", "op": op, "queue": Q, "client": "w1", "partition": P,
         "offset": offset, "lease": lease, "verdict": verdict},
        {"t": until, "f": "verdict", "type": outcome, "op": op, **fields},
    ]  # fmt: skip


def left(offset: int, *, state: str = "parked", failures: int = 3, reason: str = "TOO_MANY_FAILURES") -> Events:
    return [
        {"t": 920, "f": "queue-left", "queue": Q, "partition": P, "offset": offset, "state": state,
         "value": offset + 10, "attempts": failures, "failures": failures, "reason": reason}
    ]  # fmt: skip


def counts(*, done: int, acked: int, retried: int = 0, parked: int = 0, unseen: int = 0, ready: int = 0) -> Events:
    return [
        {"t": 921, "f": "queue-counts", "queue": Q, "partition": P, "start": 0, "done": done, "ready": ready,
         "waiting": 0, "leased": 0, "delayed": 0, "parked": parked, "unseen": unseen, "acked": acked,
         "retried": retried}
    ]  # fmt: skip


def good_queue() -> tuple[Events, ...]:
    """Three messages of one key: done at once; done after a release, a retry and an expiry; failed three times."""
    return (
        queue(attempts_max=3, ordered=True),
        send(1, 10, 11, 12, t=1, until=5, offset=0),
        deliver(0, 1, t=10),
        say(2, "ack", 0, 1, t=12, until=14),
        say(3, "ack", 0, 1, t=15, until=16),
        say(4, "retry", 0, 1, t=17, until=18, outcome="fail", error="LEASE_EXPIRED"),
        deliver(1, 2, t=20),
        say(5, "release", 1, 2, t=21, until=22),
        deliver(1, 3, t=23, attempt=2),
        say(6, "retry", 1, 3, t=24, until=25),
        deliver(1, 4, t=30, attempt=3, failures=1),
        say(7, "ack", 1, 4, t=150, until=160, outcome="fail", error="LEASE_EXPIRED"),
        deliver(1, 6, t=140, attempt=5, failures=2, by="w2"),
        say(8, "extend", 1, 6, t=141, until=142, left=200),
        say(9, "ack", 1, 6, t=170, until=180),
        deliver(2, 7, t=190),
        say(10, "retry", 2, 7, t=191, until=192),
        deliver(2, 8, t=193, attempt=2, failures=1),
        say(11, "retry", 2, 8, t=194, until=195),
        deliver(2, 9, t=196, attempt=3, failures=2),
        say(12, "retry", 2, 9, t=197, until=198, at_end=True),
        final(10, 11, 12),
        left(2),
        counts(done=2, acked=2, retried=4, parked=1),
    )
