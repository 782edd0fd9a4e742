"""A producer id that changes hands: every owner goes on after its successor has taken over, as a process does that was
paused at the wrong moment.

It speaks to the cluster by the generated stubs: the client library would not do this.
"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio

from raftmq import status
from raftmq.chaos.experiment import Zombie
from raftmq.chaos.workloads.base import BACK_OFF_S, Load, encode, outcome_of, reason_of
from raftmq.errors import FencedProducer, RaftmqError
from raftmq.records.batch import make_batch
from raftmq.v1 import broker_pb2, broker_pb2_grpc, types_pb2

CALL_TIMEOUT_S = 3.0
PARTITION = 0
GIVES_UP_AFTER = 20
"""Refusals in a row after which a fenced owner believes it."""


def start(plan: Zombie, load: Load, number: int) -> None:
    load.start(f"zombie-{number}", _Succession(plan, load, f"zombie-{number + 1}").run())


class _Succession:
    def __init__(self, plan: Zombie, load: Load, name: str) -> None:
        self._plan = plan
        self._load = load
        self._name = name
        self._stubs = [
            broker_pb2_grpc.BrokerStub(channel)
            for channel in (
                grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
                for address in load.bootstrap.split(",")
            )
        ]
        self._turn = 0

    async def run(self) -> None:
        """One owner after the other. The last one ends with the load."""
        owners: set[asyncio.Task[None]] = set()
        producer = epoch = 0
        while not self._load.stopping.is_set():
            try:
                answer = await self._init(producer, epoch)
            except RaftmqError:
                await self._load.pause(BACK_OFF_S)
                continue
            producer, epoch = answer.producer_id, answer.producer_epoch
            owner = asyncio.create_task(self._own(producer, epoch))
            owners.add(owner)
            owner.add_done_callback(owners.discard)
            await self._load.pause(self._plan.takeover_ms / 1000)
        await asyncio.gather(*owners)

    async def _own(self, producer: int, epoch: int) -> None:
        """Send batch after batch; the same one again until it has an answer that means something."""
        name, load = f"{self._name} epoch {epoch}", self._load
        load.recorder.write("client", client=name, idempotent=True, producer=str(producer), epoch=epoch)
        sequence = refusals = 0
        while refusals < GIVES_UP_AFTER and await load.pause(self._plan.every_ms / 1000):
            value = load.recorder.new_value()
            record = types_pb2.Record(value=encode(value, 0))
            batch = make_batch([record], producer_id=producer, producer_epoch=epoch, first_sequence=sequence)
            op = load.recorder.invoke("send", client=name, partition=load.partition_name(PARTITION), values=[value])
            outcome = await self._settle(op, batch)
            if outcome == "ok":
                sequence, refusals = sequence + 1, 0
            elif outcome == "info":
                return  # whether its number is used up nobody knows: this owner cannot go on
            else:
                refusals += 1

    async def _settle(self, op: int, batch: types_pb2.RecordBatch) -> str:
        load, doubtful = self._load, False
        while True:
            try:
                receipt = (await self._produce(batch)).receipt
            except RaftmqError as error:
                doubtful = doubtful or outcome_of(error) == "info"
                if error.retriable and not load.stopping.is_set():
                    await load.pause(BACK_OFF_S)
                    continue
                outcome = "info" if doubtful else "fail"
                load.recorder.settle("send", op, outcome, error=reason_of(error))
                load.recorder.counts["fenced"] += isinstance(error, FencedProducer)
                return outcome
            offset = receipt.base_offset if receipt.HasField("base_offset") else -1
            load.recorder.settle(
                "send", op, "ok", offset=offset, epoch=receipt.leader_epoch, duplicate=receipt.duplicate
            )
            return "ok"

    async def _init(self, producer: int, epoch: int) -> broker_pb2.InitProducerResponse:
        request = broker_pb2.InitProducerRequest(producer_id=producer, producer_epoch=epoch)
        try:
            return await self._next().InitProducer(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error

    async def _produce(self, batch: types_pb2.RecordBatch) -> broker_pb2.ProduceResponse:
        request = broker_pb2.ProduceRequest(topic=self._load.topic, partition=PARTITION, batch=batch)
        try:
            return await self._next().Produce(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error

    def _next(self) -> broker_pb2_grpc.BrokerAsyncStub:
        """Another node each time: any of them takes any call."""
        self._turn += 1
        return self._stubs[self._turn % len(self._stubs)]


def _translated(error: grpc.aio.AioRpcError) -> RaftmqError:
    return status.decode(error.code().name, error.details() or "", tuple(error.trailing_metadata() or ()))  # type: ignore[arg-type]
