"""Workers that acknowledge messages and publish what came of them as one entry (AckAndPublish).

A worker does it as a program would that counts on it, and some things besides: it does it again when it has been told
all is well, and when it was told nothing; with other records than before; with several messages at once, and with one
of them by itself in the same moment. What it publishes goes to the partition of the messages, so that it comes back to
the group as a message: a *result*, of which nothing more comes. Everything is written down, for ``invariants.q08``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from raftmq.broker.queues.tokens import claim
from raftmq.chaos.history import Outcome
from raftmq.chaos.queue_events import Queue, Verdict
from raftmq.client.queue import QueueWorker
from raftmq.client.queue_message import QueueMessage
from raftmq.client.types import Acks, BatchReceipt, NewRecord, RecordReceipt
from raftmq.errors import Outcome as Applied
from raftmq.errors import RaftmqError
from raftmq.sim.oracle import HandedOver, Partition, Send, Told

if TYPE_CHECKING:
    from raftmq.sim.workload import Task

RESULT = b"result "
"""What the value of a result begins with."""


@dataclass(frozen=True, slots=True)
class HandingPlan:
    """How a group's workers hand over."""

    share: float = 0.0
    """Of all acknowledgements of messages that are no results themselves."""
    works: int = 0
    """So many neighbouring messages are the same work, known by one key; 0: no keys are told."""


def draw_handing(rng: Random) -> HandingPlan:
    """Of two groups in five; half of those acknowledge nothing without a result."""
    return HandingPlan(rng.choice((0.0, 0.0, 0.0, 0.5, 1.0)), rng.choice((0, 0, 2)))


@dataclass(slots=True)
class _Attempt:
    """What was asked, to be asked again."""

    messages: Sequence[QueueMessage]
    records: list[NewRecord]
    keys: list[bytes]
    acks: Acks
    sends: list[Send]
    in_doubt: bool = False
    """Some call of it may have counted, and nobody was told."""


class HandingOver:
    """Of one worker. ``now``: microseconds of the time that is true for all."""

    def __init__(self, task: Task, plan: HandingPlan, history: Queue, now: Callable[[], int]) -> None:
        self._task = task
        self._plan = plan
        self._history = history
        self._now = now
        self._number = 0
        self._made: dict[bytes, _Attempt] = {}
        """The newest attempt with a single message, by its token."""

    def wants(self, message: QueueMessage) -> bool:
        """Whether the acknowledgement that is due is to be one with a result."""
        return not is_result(message.value) and self._task.rng.random() < self._plan.share

    def key(self, message: QueueMessage) -> bytes:
        """What the work is known by; empty: by nothing. Results are no work."""
        works = 0 if is_result(message.value) else self._plan.works
        return b"work %d" % (message.offset // works) if works else b""

    async def one(self, worker: QueueWorker, message: QueueMessage) -> bool:
        """Hand over. False: it has not happened, and the message is still held. What was asked of it before is asked
        again, now and then with other records."""
        known = self._made.get(message.token)
        attempt = self._anew(message) if known is None or self._task.rng.random() < 0.3 else known
        done = await self._ask(worker, attempt)
        if self._task.rng.random() < (0.02 if self._task.stopping() else 0.35):
            self._task.oracle.counts["hand-overs repeated"] += 1
            attempt = self._anew(message) if self._task.rng.random() < 0.3 else attempt
            return await self._ask(worker, attempt) or done
        return done

    def _anew(self, message: QueueMessage) -> _Attempt:
        made = self._made[message.token] = self._make([message])
        return made

    async def several(self, worker: QueueWorker, messages: Sequence[QueueMessage]) -> bool:
        """All of them as one, and now and then the first of them by itself in the same moment. False: it has not
        happened, and all but the first are surely still held."""
        task, attempt = self._task, self._make(messages)
        task.oracle.counts["hand-overs of several messages"] += 1
        if task.rng.random() < (0.05 if task.stopping() else 0.5):
            task.oracle.counts["hand-overs that overlap"] += 1
            both = [attempt, self._anew(messages[0])]
            task.rng.shuffle(both)
            await asyncio.gather(*(self._ask(worker, one) for one in both))
            return attempt.sends[0].told is Told.OK
        return await self._ask(worker, attempt)

    def _make(self, messages: Sequence[QueueMessage]) -> _Attempt:
        task, rng = self._task, self._task.rng
        partition = Partition(messages[0].topic, messages[0].partition)
        acks = rng.choice((Acks.ALL, Acks.ALL, Acks.QUORUM))
        values = []
        for _ in range(rng.choice((1, 1, 1, 2))):
            self._number += 1
            values.append(RESULT + f"{task.name}:{self._number}".encode())
        sends = [task.oracle.sending(value, partition, acks) for value in values]
        for send in sends:
            send.told = Told.UNKNOWN  # a worker that dies tells nobody
        keys = [self.key(message) for message in messages] if self._plan.works else []
        if len(set(keys)) < len(keys):
            keys = []  # the same work twice in one call is refused
        claims = tuple([(claim(message.token).lease, message.offset) for message in messages])
        task.oracle.handed.append(HandedOver(self._history.name, partition, claims, tuple(keys), tuple(values)))
        records = [NewRecord(value, messages[0].key) for value in values]
        return _Attempt(messages, records, keys, acks, sends)

    async def _ask(self, worker: QueueWorker, attempt: _Attempt) -> bool:
        verdicts = [self._begin(message) for message in attempt.messages]
        doubtful, attempt.in_doubt = attempt.in_doubt, True
        for send in attempt.sends:
            send.told = Told.OK if send.told is Told.OK else Told.UNKNOWN
        try:
            told = await worker.ack_and_publish(
                attempt.messages, attempt.records, processed_keys=attempt.keys, acks=attempt.acks
            )
        except RaftmqError as error:
            attempt.in_doubt = doubtful or error.outcome is not Applied.NOT_APPLIED
            return self._refused(attempt, verdicts, error)
        attempt.in_doubt = doubtful and told.receipt is None
        if told.receipt is None:
            return self._done_before(attempt, verdicts, told.already_processed)
        self._published(attempt, told.receipt)
        self._end(verdicts, Outcome.OK)
        return True

    def _begin(self, message: QueueMessage) -> Verdict:
        where = f"{message.topic}/{message.partition}"
        verdict = Verdict("ack", where, message.offset, claim(message.token).lease, self._now())
        self._history.verdicts.append(verdict)
        return verdict

    def _end(self, verdicts: Sequence[Verdict], outcome: Outcome) -> None:
        for verdict in verdicts:
            verdict.returned, verdict.outcome = self._now(), outcome

    def _published(self, attempt: _Attempt, receipt: BatchReceipt) -> None:
        oracle = self._task.oracle
        assert receipt.count == len(attempt.sends), f"{attempt.records}: {receipt}"
        for position, send in enumerate(attempt.sends):
            one = RecordReceipt(receipt, position)
            if send.told is Told.OK:
                assert (one.offset, one.duplicate) == (send.offset, True), f"{send}, then {one}"
            else:
                oracle.sent(send, one)
        oracle.counts["hand-overs told"] += 1
        oracle.counts["hand-overs told as duplicates"] += receipt.duplicate

    def _refused(self, attempt: _Attempt, verdicts: Sequence[Verdict], error: RaftmqError) -> bool:
        oracle, surely_not = self._task.oracle, error.outcome is Applied.NOT_APPLIED
        oracle.counts[f"hand-over {error.reason}" + ("" if surely_not else " or not")] += 1
        oracle.counts["hand-overs with other records refused"] += error.field == "records"
        if not (surely_not and attempt.in_doubt):  # else a call before may have counted, whatever is told of this one
            for send in attempt.sends:
                if send.told is not Told.OK:
                    oracle.unsent(send, error)
        self._end(verdicts, Outcome.FAIL if surely_not else Outcome.INFO)
        return not surely_not

    def _done_before(self, attempt: _Attempt, verdicts: Sequence[Verdict], known: Sequence[int]) -> bool:
        """Nothing was published: the work of some was done under other messages."""
        self._task.oracle.counts["hand-overs of work done before"] += 1
        for send in attempt.sends:
            assert send.told is not Told.OK, f"{send}, and now it is told that others did the work"
            if not attempt.in_doubt:
                send.told, send.reason = Told.FAILED, "done before"
        for position, verdict in enumerate(verdicts):
            self._end([verdict], Outcome.OK if position in known else Outcome.FAIL)
        return len(known) == len(verdicts)


def is_result(value: bytes | None) -> bool:
    """Whether a record was published together with an acknowledgement."""
    return value is not None and value.startswith(RESULT)
