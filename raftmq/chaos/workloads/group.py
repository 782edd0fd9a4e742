"""Members of a consumer group: they join, read, commit what they have done, and leave; some are paused for longer than
their session in the middle of their work, and commit when they wake up.

When the load ends all that are there stay and work until everything is committed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from raftmq.chaos.experiment import ConsumerGroup
from raftmq.chaos.workloads.base import BACK_OFF_S, Load, outcome_of, reason_of
from raftmq.client import Client, GroupConsumer
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.membership import Partition
from raftmq.errors import FencedMember, RaftmqError, StaleMember, UnknownGroup, UnknownMember
from raftmq.v1 import groups_pb2

ASK_EVERY_S = 0.3
ASK_TIMEOUT_MS = 5_000
READ_TIMEOUT_MS = 30_000
OVERSLEPT_S = 1.5
"""Beyond the session."""
FREEZES = 0.04
"""Share of its batches after which a zombie is paused."""


def start(plan: ConsumerGroup, load: Load, number: int, seed: int) -> None:
    group = _Group(plan, load, f"readers-{number + 1}")
    for i in range(plan.members + plan.zombies):
        rng = random.Random(f"{seed}/{number}/{i}")
        member = _Member(plan, load, group.name, f"member-{number + 1}.{i + 1}", i >= plan.members, rng)
        load.start_endless(f"group-{number}-{i}", member.run())
    load.start(f"group-{number}-ask", group.ask())
    load.is_drained.append(group.is_drained)
    load.last_readings.append(group.read_out)


class _Group:
    def __init__(self, plan: ConsumerGroup, load: Load, name: str) -> None:
        self.name = name
        self._load = load

    async def ask(self) -> None:
        async with self._load.client() as client:
            while await self._load.pause(ASK_EVERY_S):
                await self._ask(client, ASK_TIMEOUT_MS)

    async def _ask(self, client: Client, timeout_ms: int) -> dict[str, int] | None:
        load, recorder = self._load, self._load.recorder
        op = recorder.invoke("committed", group=self.name)
        try:
            found = await client.groups.committed(self.name, timeout_ms=timeout_ms)
        except UnknownGroup:
            found = {}
        except RaftmqError as error:
            recorder.settle("committed", op, "fail", group=self.name, error=reason_of(error))
            return None
        except asyncio.CancelledError:
            recorder.settle("committed", op, "fail", group=self.name, error="CANCELLED")
            raise
        offsets = {load.partition_name(number): offset for (_, number), offset in found.items()}
        recorder.settle("committed", op, "ok", group=self.name, offsets=offsets)
        return offsets

    async def is_drained(self, client: Client) -> bool:
        """Whether all records are committed. Raises RaftmqError."""
        committed = await client.groups.committed(self.name)
        bounds = await client.list_offsets(self._load.topic)
        return all(committed.get((self._load.topic, b.partition), 0) >= b.high_watermark for b in bounds)

    async def read_out(self, client: Client) -> None:
        await self._ask(client, READ_TIMEOUT_MS)


class _Calls(CoordinatorCalls):
    """Writes down every commit, with the member and the epoch that it names."""

    def __init__(self, load: Load, client: Client, group: str) -> None:
        super().__init__(client._router, group)
        self._load = load

    async def call(self, select: Any, request: Any, **options: Any) -> Any:
        if not isinstance(request, groups_pb2.CommitOffsetsRequest):
            return await super().call(select, request, **options)
        load, recorder = self._load, self._load.recorder
        offsets = {load.partition_name(one.partition): one.offset for one in request.offsets}
        op = recorder.invoke(
            "commit", group=self.group, member=request.member_id, epoch=request.member_epoch, offsets=offsets
        )
        try:
            answer = await super().call(select, request, **options)
        except RaftmqError as error:
            recorder.settle("commit", op, outcome_of(error), error=reason_of(error))
            raise
        except asyncio.CancelledError:
            recorder.settle("commit", op, "info", error="CANCELLED")
            raise
        refused = {load.partition_name(one.partition): one.error.reason for one in answer.refused}
        if refused and options["doubt"].is_there:
            recorder.settle("commit", op, "info", error="REFUSED")  # an attempt before it may have counted
        else:
            recorder.settle("commit", op, "ok", refused=refused)
        return answer


class _Member:
    """One process's worth of members: one life after the other, each under another member id."""

    def __init__(
        self, plan: ConsumerGroup, load: Load, group: str, name: str, is_zombie: bool, rng: random.Random
    ) -> None:
        self._plan = plan
        self._load = load
        self._group = group
        self._name = name
        self._is_zombie = is_zombie
        self._rng = rng
        self._consumer: GroupConsumer | None = None

    async def run(self) -> None:
        load = self._load
        async with load.client() as client:
            while True:
                try:
                    await self._live(client)
                    await load.pause(self._rng.uniform(0.0, 0.5))
                except RaftmqError as error:
                    load.recorder.write("died", client=self._name, error=error.reason, message=error.message)
                    await asyncio.sleep(BACK_OFF_S)

    async def _live(self, client: Client) -> None:
        """Join, read, and after a while leave; after the load, stay."""
        consumer = client.group_consumer(
            self._load.topic, self._group, commit="manual", client_id=self._name,
            session_timeout_ms=self._plan.session_timeout_ms, rebalance_timeout_ms=self._plan.session_timeout_ms * 2,
            on_assigned=self._owns, on_revoked=lambda _: None, on_lost=lambda _: None,
        )  # fmt: skip
        consumer._commits._calls = _Calls(self._load, client, self._group)
        self._consumer = consumer
        async with consumer:
            reading = asyncio.create_task(self._read(consumer), name=f"read-{self._name}")
            try:
                life_s = self._plan.life_ms / 1000 * self._rng.uniform(0.5, 1.5)
                if self._is_zombie or self._load.stopping.is_set():
                    await asyncio.wait({reading})
                else:
                    await asyncio.wait({reading}, timeout=life_s)
                    if self._load.stopping.is_set():
                        await asyncio.wait({reading})
            finally:
                reading.cancel()
                (ended,) = await asyncio.gather(reading, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended

    def _owns(self, partitions: Sequence[Partition]) -> None:
        assert self._consumer is not None
        membership = self._consumer._membership
        self._load.recorder.write(
            "owns", group=self._group, member=membership.member_id, epoch=membership.epoch,
            partitions=[self._load.partition_name(number) for _, number in partitions],
        )  # fmt: skip

    async def _read(self, consumer: GroupConsumer) -> None:
        load = self._load
        async for batch in consumer.batches():
            load.recorder.write(
                "given", group=self._group, member=consumer.member_id, partition=load.partition_name(batch.partition),
                offset=batch.records[0].offset, next=batch.next_offset,
            )  # fmt: skip
            if self._is_zombie and not load.stopping.is_set() and self._rng.random() < FREEZES:
                await self._freeze(consumer)
                continue
            await self._commit(consumer)

    async def _commit(self, consumer: GroupConsumer) -> None:
        try:
            await consumer.commit()
        except (UnknownMember, StaleMember, FencedMember):
            return  # it will learn the rest by its heartbeat
        except RaftmqError as error:
            if not error.retriable:
                raise

    async def _freeze(self, consumer: GroupConsumer) -> None:
        """As a process that is paused: no heartbeat, and it finds out only after it has acted."""
        membership = consumer._membership
        await membership.stop()
        self._load.recorder.counts["freezes"] += 1
        await self._load.pause(self._plan.session_timeout_ms / 1000 + OVERSLEPT_S)
        await self._commit(consumer)
        membership.start()
