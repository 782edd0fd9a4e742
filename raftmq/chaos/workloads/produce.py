"""Producers of records with unique values, at a steady rate, whatever the answers are."""

from __future__ import annotations

import asyncio
from functools import partial

from raftmq.chaos.experiment import Produce
from raftmq.chaos.workloads.base import BACK_OFF_S, Load, encode, outcome_of, reason_of
from raftmq.client import Acks, BatchReceipt, Client, NewRecord, Producer, RecordReceipt
from raftmq.errors import RaftmqError

TICK_S = 0.02
REQUEST_TIMEOUT_MS = 3_000


def start(plan: Produce, load: Load, number: int) -> None:
    for i in range(plan.producers):
        load.start(f"produce-{number}-{i}", _ProducerLoop(plan, load, f"producer-{number + 1}.{i + 1}").run())


class _ProducerLoop:
    """One producer. One that has ended for good is followed by another, which is another client to the checks."""

    def __init__(self, plan: Produce, load: Load, name: str) -> None:
        self._plan = plan
        self._load = load
        self._name = name
        self._owed = 0.0
        self._number = 0

    async def run(self) -> None:
        load, plan = self._load, self._plan
        life = 0
        while not load.stopping.is_set():
            life += 1
            name = self._name if life == 1 else f"{self._name} life {life}"
            load.recorder.write("client", client=name, idempotent=plan.idempotent)
            try:
                # Leaving the block waits until everything is settled.
                async with load.client() as client, self._producer(client) as producer:
                    await self._produce(producer, name)
            except RaftmqError as error:
                load.recorder.write("died", client=name, error=error.reason, message=error.message)
                await load.pause(BACK_OFF_S)

    def _producer(self, client: Client) -> Producer:
        return client.producer(
            self._load.topic,
            acks=Acks.ALL if self._plan.acks == "all" else Acks.QUORUM,
            idempotent=self._plan.idempotent,
            delivery_timeout_ms=self._plan.delivery_timeout_ms,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )

    async def _produce(self, producer: Producer, name: str) -> None:
        """Hand in what is due, until the end of the load. Raises what ended the producer."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        share = self._plan.rate / self._plan.producers
        while await self._load.pause(TICK_S):
            now = loop.time()
            # What a stalled loop owes is not made up for: a burst would hide the stall's end.
            self._owed = min(self._owed + (now - last) * share, share)
            last = now
            while self._owed >= self._plan.batch:
                self._owed -= self._plan.batch
                await self._hand_in(producer, name)

    async def _hand_in(self, producer: Producer, name: str) -> None:
        load, plan, recorder = self._load, self._plan, self._load.recorder
        self._number += 1
        key = b"%s %d" % (self._name.encode(), self._number % plan.keys)
        partition = load.partition_of(key)
        values = [recorder.new_value() for _ in range(plan.batch)]
        op = recorder.invoke("send", client=name, partition=load.partition_name(partition), values=values)
        try:
            if plan.batch == 1:
                record = await producer.enqueue(encode(values[0], plan.value_bytes), key, partition)
                record.add_done_callback(partial(self._record_settled, op))
            else:
                records = [NewRecord(encode(value, plan.value_bytes), key) for value in values]
                batch = await producer.enqueue_batch(records, partition)
                batch.add_done_callback(partial(self._batch_settled, op))
        except RaftmqError as error:
            recorder.settle("send", op, outcome_of(error), error=reason_of(error))
            raise

    def _record_settled(self, op: int, done: asyncio.Future[RecordReceipt]) -> None:
        if (error := _error(done)) is not None:
            self._failed(op, error)
        else:
            receipt = done.result()
            self._acknowledged(op, receipt.batch, receipt.offset)

    def _batch_settled(self, op: int, done: asyncio.Future[BatchReceipt]) -> None:
        if (error := _error(done)) is not None:
            self._failed(op, error)
        else:
            self._acknowledged(op, done.result(), done.result().base_offset)

    def _acknowledged(self, op: int, batch: BatchReceipt, offset: int | None) -> None:
        self._load.recorder.settle(
            "send", op, "ok", offset=-1 if offset is None else offset, epoch=batch.leader_epoch,
            duplicate=batch.duplicate, attempts=batch.attempts,
        )  # fmt: skip

    def _failed(self, op: int, error: BaseException) -> None:
        self._load.recorder.settle("send", op, outcome_of(error), error=reason_of(error), message=str(error)[:200])


def _error(done: asyncio.Future[RecordReceipt] | asyncio.Future[BatchReceipt]) -> BaseException | None:
    return asyncio.CancelledError() if done.cancelled() else done.exception()
