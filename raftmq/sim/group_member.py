"""One member of a consumer group in the simulation: a process with the real client, which joins, reads, commits,
leaves, dies, oversleeps, and says what it was told.

A record is *processed* when the program is done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Any

from raftmq.client.client import Client
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.group_consumer import GroupConsumer
from raftmq.client.membership import Partition as Read
from raftmq.client.types import ConsumedRecord
from raftmq.errors import DataLoss, FencedMember, NotFound, Outcome, RaftmqError, StaleMember, UnknownMember
from raftmq.sim.cluster import SimCluster
from raftmq.sim.group_history import NOTHING, GroupCommit, GroupHistory, Who
from raftmq.sim.group_plan import GroupPlan, Life
from raftmq.sim.oracle import Partition, Told
from raftmq.sim.workload import until_done
from raftmq.v1 import groups_pb2

RETRY_S = 0.2


@dataclass(slots=True)
class Circle:
    """What all members of a group share."""

    cluster: SimCluster
    plan: GroupPlan
    history: GroupHistory
    is_over: bool = False
    """Faults are."""


class _Calls(CoordinatorCalls):
    """Writes down every commit, and every question for what is committed, of one member."""

    def __init__(self, client: Client, history: GroupHistory, instance: str) -> None:
        super().__init__(client._router, history.group)
        self._history = history
        self._instance = instance

    async def call(self, select: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, groups_pb2.CommitOffsetsRequest):
            return await self._commit(select, request, **options)
        if isinstance(request, groups_pb2.FetchOffsetsRequest):
            floors = dict(self._history.floors)
            answer = await super().call(select, request, **options)
            found = {(one.topic, one.partition): one.offset for one in answer.offsets}
            asked = [Partition(one.topic, number) for one in request.topics for number in one.partitions]
            self._history.read(floors, {key: found.get((key.topic, key.number), NOTHING) for key in asked})
            return answer
        return await super().call(select, request, **options)

    async def _commit(self, select: Any, request: groups_pb2.CommitOffsetsRequest, **options: Any) -> Any:
        history = self._history
        who = Who(history.group, request.member_id, self._instance)
        offsets = {Partition(one.topic, one.partition): one.offset for one in request.offsets}
        commits = history.committing(who, request.member_epoch, offsets)
        try:
            answer = await super().call(select, request, **options)
        except RaftmqError as error:
            self._ended(commits, _told(error), error.reason)
            raise
        except asyncio.CancelledError:
            self._ended(commits, Told.UNKNOWN, "CANCELLED")
            raise
        doubtful = options["doubt"].is_there
        refused = {Partition(one.topic, one.partition): one.error.reason for one in answer.refused}
        for commit in commits:
            if (reason := refused.get(commit.partition)) is None:
                history.committed(commit, Told.OK)
            else:
                history.committed(commit, Told.UNKNOWN if doubtful else Told.FAILED, reason)
        return answer

    def _ended(self, commits: Sequence[GroupCommit], told: Told, reason: str) -> None:
        for commit in commits:
            self._history.committed(commit, told, reason)


def _told(error: RaftmqError) -> Told:
    return {Outcome.NOT_APPLIED: Told.FAILED, Outcome.APPLIED: Told.OK}.get(error.outcome, Told.UNKNOWN)


class Member:
    """One process."""

    def __init__(self, circle: Circle, life: Life, name: str) -> None:
        self.life = life
        self.name = name
        self.consumer: GroupConsumer | None = None
        self.is_leaving = False
        self._circle = circle
        self._plan = circle.plan
        self._history = circle.history
        self.process, self._client = circle.cluster.client(name)
        self._rng = Random(f"member {name} {circle.cluster.plan.seed}")
        self._ids = 0
        self._oversleeps = life.oversleeps
        self._is_working = False
        self._assigned = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive and self._work is not None and not self._work.done()

    def start(self) -> None:
        self._history.came(self.name, self.life.instance)
        self._work = self._circle.cluster.spawn(self.process, self._live())

    def leave(self) -> None:
        """On its loop: finish the record in hand, and leave the group."""
        self.is_leaving = True
        if self._reading is not None and not self._is_working:
            self._reading.cancel()

    async def visit(self) -> None:
        """Join, wait for partitions, and leave."""
        await until_done(lambda: enter(self._client))
        self.consumer = self._join()
        async with self.consumer as consumer:
            await self._assigned.wait()
            await consumer.commit()

    def _join(self) -> GroupConsumer:
        plan = self._plan
        consumer = self._client.group_consumer(
            sorted(self._circle.cluster.plan.topics), plan.name, commit=plan.commit,
            commit_interval_ms=plan.commit_interval_ms, assignor=plan.assignor, instance_id=self.life.instance,
            session_timeout_ms=plan.session_ms, rebalance_timeout_ms=plan.rebalance_ms, client_id=self.name,
            max_bytes=plan.max_bytes, max_wait_ms=self._rng.choice((100, 500)), unavailable_timeout_ms=5_000,
            on_assigned=self._took_up, on_revoked=lambda partitions: None,
            on_lost=self._lost,
        )  # fmt: skip
        membership = consumer._membership
        membership.new_id = self._new_id
        membership.member_id = self._new_id()
        consumer._commits._calls = _Calls(self._client, self._history, self.life.instance)
        return consumer

    @property
    def _who(self) -> Who:
        assert self.consumer is not None
        return Who(self._plan.name, self.consumer.member_id, self.life.instance)

    def _took_up(self, partitions: Sequence[Read]) -> None:
        assert self.consumer is not None
        for topic, number in partitions:
            self._history.owns(self._who, self.consumer._membership.epoch, Partition(topic, number))
        self._assigned.set()

    def _lost(self, partitions: Sequence[Read]) -> None:
        self._history.counts["partitions lost"] += len(partitions)

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self.name}.{self._ids}"

    # -- life --------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        await self._belong()
        self._history.went(self.name, self.life.instance)

    async def _belong(self) -> None:
        """Until it is told to leave, or fenced."""
        await until_done(lambda: enter(self._client))
        while not self.is_leaving:
            self.consumer = self._join()
            try:
                async with self.consumer as consumer:
                    await self._stay(consumer)
            except FencedMember:
                self._history.counts["members fenced"] += 1
                return
            except RaftmqError as error:
                self._history.counts[f"member {error.reason}"] += 1
                if not error.retriable and not isinstance(error, (NotFound, DataLoss)):
                    raise
                await asyncio.sleep(RETRY_S)
            finally:
                self.consumer = None

    async def _stay(self, consumer: GroupConsumer) -> None:
        if self.is_leaving:
            return
        self._is_working = False
        self._reading = asyncio.create_task(self._read(consumer))
        try:
            await asyncio.wait([self._reading])
            if not self._reading.cancelled():
                self._reading.result()
        finally:
            self._reading.cancel()
            self._reading = None

    async def _read(self, consumer: GroupConsumer) -> None:
        if self.life.by_batches:
            async with aclosing(consumer.batches()) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    await self._process(consumer, batch.records)
                    if self.is_leaving:
                        return
        async for record in consumer:
            await self._process(consumer, (record,))
            if self.is_leaving:
                return

    async def _process(self, consumer: GroupConsumer, records: Sequence[ConsumedRecord]) -> None:
        self._is_working = True
        history, plan, rng = self._history, self._plan, self._rng
        who = self._who
        key = Partition(records[0].topic, records[0].partition)
        for record in records:
            history.given(who, key, record.offset)
        if plan.process_ms:
            await asyncio.sleep(rng.expovariate(1.0) * plan.process_ms / 1000)
        for record in records:
            history.processed(who, key, record.offset)
        if self._oversleeps and not self._circle.is_over:
            await self._oversleep(consumer)
        elif plan.commit == "manual" and (self._circle.is_over or rng.random() < 0.5):
            await self._commit(consumer)
        self._is_working = False

    async def _oversleep(self, consumer: GroupConsumer) -> None:
        """As a program that is stuck: no heartbeat, and it finds out only after it has acted."""
        length, self._oversleeps = self._oversleeps, 0
        self._history.counts["members overslept"] += 1
        membership = consumer._membership
        await membership.stop()
        await asyncio.sleep(length / 1_000_000)
        await self._commit(consumer)
        membership.start()

    async def _commit(self, consumer: GroupConsumer) -> None:
        try:
            await consumer.commit()
        except (UnknownMember, StaleMember, FencedMember):
            return  # the next heartbeat tells the rest
        except RaftmqError as error:
            if not error.retriable:
                raise


async def enter(client: Client) -> None:
    await client.__aenter__()
