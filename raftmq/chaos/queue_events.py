"""What workers of a queue group did, as JSON lines: written by ``workloads/work_queue``, judged by the checks.

Kinds of lines, beside those of ``history``::

    {"f": "queue", "queue": "workers", "attempts_max": 4, "ordered": false}                     before its first worker
    {"f": "deliver", "queue": ..., "client": "worker-1", "partition": "records/0", "offset": 4, "lease": 17,
     "attempt": 2, "failures": 1, "value": 12, "key": "a 3", "left": 2990000}
    {"f": "verdict", "type": "invoke", "op": 9, "queue": ..., "client": ..., "partition": ..., "offset": 4, "lease": 17,
     "verdict": "ack" | "release" | "retry" | "park" | "extend"}
    {"f": "verdict", "type": "ok" | "fail" | "info", "op": 9, "error": "LEASE_EXPIRED", "at_end": false, "left": ...}
    {"f": "queue-left", "queue": ..., "partition": ..., "offset": 4, "state": "parked", "value": 12, "attempts": 4,
     "failures": 4, "reason": "TOO_MANY_FAILURES"}         what is not done when all is quiet, each record
    {"f": "queue-counts", "queue": ..., "partition": ..., "ready": 0, ...}          the group's own description of it

``left``: for how many microseconds more, by its own clock, the worker was told that the message is its own. A lease's
number and a message's offset are what a delivery token says; numbers of leases grow within a partition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from raftmq.chaos.history import NEVER, Outcome

CLOSING = frozenset({"ack", "park"})
"""Verdicts after which a message is out of the way of those behind it."""
ENDED = frozenset({"parked", "gone"})
"""States of what has come to its end without an acknowledgement. "gone": dropped, too late, cancelled, removed."""
Message = tuple[str, int]
"""Partition and offset."""


class Delivery(NamedTuple):
    time: int
    client: str
    partition: str
    offset: int
    lease: int
    attempt: int
    failures: int
    value: int
    key: str
    until: int
    """The worker's last safe moment."""

    @property
    def message(self) -> Message:
        return self.partition, self.offset

    def __str__(self) -> str:
        return f"{self.partition} offset {self.offset}"


@dataclass(slots=True)
class Verdict:
    kind: str
    partition: str
    offset: int
    lease: int
    invoked: int
    returned: int = NEVER
    outcome: Outcome = Outcome.INFO
    at_end: bool = False
    until: int = 0
    """Of an extension that was granted: the new last safe moment."""

    @property
    def token(self) -> tuple[str, int, int]:
        return self.partition, self.offset, self.lease


class Left(NamedTuple):
    """A record that is not done when all is quiet, or that is done for another reason than an acknowledgement."""

    partition: str
    offset: int
    state: str
    value: int
    attempts: int
    failures: int
    reason: str


@dataclass
class Queue:
    """One group; deliveries and verdicts in the order of time."""

    name: str
    attempts_max: int
    ordered: bool
    deliveries: list[Delivery] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    left: dict[Message, Left] = field(default_factory=dict)
    counts: dict[str, Mapping[str, int]] = field(default_factory=dict)
    """By partition. Empty where the group could not be described in the end."""
    expiry_fails: bool = True
    """A lease that runs out is a failure."""

    @cached_property
    def by_message(self) -> dict[Message, list[Delivery]]:
        """The deliveries of each message, in the order in which its leases were granted."""
        found: dict[Message, list[Delivery]] = {}
        for one in self.deliveries:
            found.setdefault(one.message, []).append(one)
        for same in found.values():
            same.sort(key=lambda one: (one.lease, one.time))
        return dict(sorted(found.items()))

    @cached_property
    def by_token(self) -> dict[tuple[str, int, int], list[Verdict]]:
        """What was said of each delivery, in the order in which it was said."""
        found: dict[tuple[str, int, int], list[Verdict]] = {}
        for one in self.verdicts:
            found.setdefault(one.token, []).append(one)
        return found

    def said(self, delivery: Delivery) -> list[Verdict]:
        return self.by_token.get((delivery.partition, delivery.offset, delivery.lease), [])

    def taken(self, kind: str, *outcomes: Outcome) -> set[Message]:
        """Messages of which some verdict of this kind ended so."""
        return {(one.partition, one.offset) for one in self.verdicts if one.kind == kind and one.outcome in outcomes}


class QueueReader:
    """Takes the lines of queues."""

    def __init__(self, queues: dict[str, Queue]) -> None:
        self._queues = queues
        self._verdicts: dict[int, Verdict] = {}

    def kinds(self) -> Iterator[tuple[str, Any]]:
        yield "queue", self._queue
        yield "deliver", self._deliver
        yield "verdict", self._verdict
        yield "queue-left", self._left
        yield "queue-counts", self._counts

    def _queue(self, event: Mapping[str, Any]) -> None:
        self._queues[event["queue"]] = Queue(event["queue"], event["attempts_max"], event["ordered"])

    def _deliver(self, event: Mapping[str, Any]) -> None:
        self._queues[event["queue"]].deliveries.append(
            Delivery(
                event["t"], event["client"], event["partition"], event["offset"], event["lease"], event["attempt"],
                event["failures"], event["value"], event["key"], event["t"] + event["left"],
            )
        )  # fmt: skip

    def _verdict(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "invoke":
            verdict = Verdict(event["verdict"], event["partition"], event["offset"], event["lease"], event["t"])
            self._verdicts[event["op"]] = verdict
            self._queues[event["queue"]].verdicts.append(verdict)
            return
        verdict = self._verdicts.pop(event["op"])
        verdict.returned, verdict.outcome = event["t"], Outcome[event["type"].upper()]
        verdict.at_end = event.get("at_end", False)
        if left := event.get("left", 0):  # of 0 nobody knows since when: the worker may have been stopped
            verdict.until = event["t"] + left

    def _left(self, event: Mapping[str, Any]) -> None:
        left = Left(
            event["partition"], event["offset"], event["state"], event["value"], event["attempts"], event["failures"],
            event["reason"],
        )  # fmt: skip
        self._queues[event["queue"]].left[left.partition, left.offset] = left

    def _counts(self, event: Mapping[str, Any]) -> None:
        counts = {name: number for name, number in event.items() if isinstance(number, int)}
        self._queues[event["queue"]].counts[event["partition"]] = counts
