"""Files that cannot be read, or not fast. Proof: what the preloaded library counted.

What a node has just written it has in memory: to make it read, it is started anew.
"""

from __future__ import annotations

import asyncio

from raftmq.chaos import shim
from raftmq.chaos.arena import TOPIC, Arena
from raftmq.chaos.faults.base import NotAsPlanned, PlanT, Shimmed, named
from raftmq.chaos.plans import ReadError, SlowRead
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

READY_SECONDS = 60.0
STARTS_SECONDS = 15.0
LEADS_SECONDS = 20.0
READ_TIMEOUT_MS = 5_000


class _Reading(Shimmed[PlanT]):
    _target: NodeId | None = None

    async def _start_anew(self, node: NodeId) -> None:
        """Nothing of what it holds is in memory, and it leads all partitions that it can."""
        processes = self.arena.processes
        await processes.kill(node)
        await processes.start(node)
        await processes.wait_ready([node], timeout=READY_SECONDS)
        self.proof.evidence["partitions_led"] = await _lead(self.arena, node)

    async def heal(self) -> None:
        if self._target is None:
            return
        cells, processes = self.arena.shims[self._target], self.arena.processes
        cells[shim.FAIL_READS] = cells[shim.SLOW_READ_US] = 0
        if processes.pid(self._target) is None:
            await processes.start(self._target)


class ReadErrorFault(_Reading[ReadError]):
    @property
    def title(self) -> str:
        return f"read EIO on {named((self._target,)) if self._target else self.plan.target}"

    async def inject(self) -> None:
        (node,) = self.arena.choose(self.plan.target)
        cells, processes = self.arena.shims[node], self.arena.processes
        self._target = node
        before = cells[shim.READS_FAILED]
        if self.plan.when == "start":
            await processes.kill(node)
            cells[shim.FAIL_READS] = self.plan.count
            await processes.start(node)
            await _until_read(self.arena, node, STARTS_SECONDS, before + self.plan.count)
        else:
            await self._start_anew(node)
            cells[shim.FAIL_READS] = self.plan.count
            self.proof.evidence["readers_were_told"] = await _read_all(self.arena)
        failed = cells[shim.READS_FAILED] - before
        self.proof.evidence |= {"reads_failed": failed, "node_runs": processes.pid(node) is not None}
        self.proof.fired = failed > 0


class SlowReadFault(_Reading[SlowRead]):
    @property
    def title(self) -> str:
        where = named((self._target,)) if self._target else self.plan.target
        return f"reads take {self.plan.delay_ms} ms on {where}"

    async def inject(self) -> None:
        (node,) = self.arena.choose(self.plan.target)
        cells = self.arena.shims[node]
        self._target = node
        await self._start_anew(node)
        before = cells[shim.READS_SLOWED]
        cells[shim.SLOW_READ_US] = self.plan.delay_ms * 1000
        self.proof.evidence["readers_were_told"] = await _read_all(self.arena)
        self.proof.evidence["reads_slowed"] = cells[shim.READS_SLOWED] - before
        self.proof.fired = cells[shim.READS_SLOWED] > before


async def _until_read(arena: Arena, node: NodeId, seconds: float, failures: int) -> None:
    """Until a starting node has met its errors, or has ended, or has had time enough."""
    deadline = asyncio.get_running_loop().time() + seconds
    while arena.processes.pid(node) is not None and asyncio.get_running_loop().time() < deadline:
        if arena.shims[node][shim.READS_FAILED] >= failures and arena.observer.answering[node]:
            return
        await asyncio.sleep(0.1)


async def _lead(arena: Arena, node: NodeId) -> int:
    """Have a node lead the load's partitions. Returns how many of them it leads in the end; at least one."""
    deadline = asyncio.get_running_loop().time() + LEADS_SECONDS
    partitions = [one.partition for one in (await arena.admin.admin.describe_topic(TOPIC)).partitions]
    while True:
        led = [partition for partition in partitions if arena.observer.leader(TOPIC, partition) == node]
        late = asyncio.get_running_loop().time() > deadline
        if led and (late or len(led) == len(partitions)):
            return len(led)
        if late:
            raise NotAsPlanned(f"node {node} leads nothing, {LEADS_SECONDS:.0f} s after its start")
        for partition in partitions:
            try:
                await arena.admin.cluster.transfer_leader(TOPIC, partition, node, timeout_ms=2_000)
            except RaftmqError:
                continue  # not in sync yet, or the leader already
        await asyncio.sleep(0.5)


async def _read_all(arena: Arena) -> str:
    """Read everything from the beginning, once. Returns how it ended, as a reader is told."""
    try:
        bounds = await arena.admin.list_offsets(TOPIC, timeout_ms=READ_TIMEOUT_MS)
        async with arena.admin.consumer(
            TOPIC, start="earliest", until={b.partition: b.high_watermark for b in bounds},
            unavailable_timeout_ms=READ_TIMEOUT_MS,
        ) as consumer:  # fmt: skip
            records = 0
            async for batch in consumer.batches():
                records += len(batch.records)
    except RaftmqError as error:
        return f"{error.reason}: {error.message}"
    return f"{records} records"
