"""The last reading: when all is quiet, everything that is there goes into the history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from raftmq.chaos.arena import Arena
from raftmq.chaos.recorder import Recorder
from raftmq.chaos.workloads.base import Load
from raftmq.chaos.workloads.consume import record
from raftmq.client.types import ReplicaDescription
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

QUIET_SECONDS = 60.0
CONSUMED_SECONDS = 60.0
METADATA_SECONDS = 30.0
READ_TIMEOUT_MS = 60_000


async def wait_consumed(arena: Arena, load: Load) -> None:
    """Until every consumer of the load has been given all that there is, and all of its work is done; whether it was,
    the history tells.
    """
    deadline = asyncio.get_running_loop().time() + CONSUMED_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        try:
            bounds = await arena.admin.list_offsets(load.topic, timeout_ms=READ_TIMEOUT_MS)
            drained = [await ask(arena.admin) for ask in load.is_drained]
        except RaftmqError:
            bounds, drained = (), [False]
        behind = (p[one.partition] < one.high_watermark for p in load.positions.values() for one in bounds)
        if bounds and all(drained) and not any(behind):
            return
        await asyncio.sleep(0.1)


async def read_out(arena: Arena, load: Load) -> list[tuple[str, bool]]:
    """Wait until replicas are equal, then write what they hold and what the log gives. Returns what was amiss, and of
    each whether it was no more than too slow.
    """
    amiss = [(told, False) for told in _broken_nodes(arena)]
    if not await _wait_equal(arena):
        amiss.append((f"replicas were not equal, or not led, {QUIET_SECONDS:.0f} s after the load", True))
    if not await _write_metadata(arena):
        amiss.append((f"nodes had different metadata {METADATA_SECONDS:.0f} s after the load", True))
    recorder = load.recorder
    try:
        bounds = await arena.admin.list_offsets(load.topic, timeout_ms=READ_TIMEOUT_MS)
        async with arena.admin.consumer(
            load.topic, start="earliest", until={b.partition: b.high_watermark for b in bounds}, on_trimmed="earliest",
            unavailable_timeout_ms=READ_TIMEOUT_MS,
        ) as consumer:  # fmt: skip
            async for batch in consumer.batches():
                record(load, "final", batch)
        # What is removed may have gone while it was read: nobody promised to keep it.
        for one in await arena.admin.list_offsets(load.topic, timeout_ms=READ_TIMEOUT_MS):
            recorder.write(
                "end", partition=load.partition_name(one.partition), start=one.log_start_offset,
                high_watermark=one.high_watermark,
            )  # fmt: skip
            if one.log_start_offset:
                await _read_below(arena, load, one.partition, one.log_start_offset)
        for read in load.last_readings:
            await read(arena.admin)
        await _write_replicas(arena, recorder)
    except RaftmqError as error:
        amiss.append((f"the log cannot be read after the run: {error.reason}: {error.message}", False))
    return amiss


async def _read_below(arena: Arena, load: Load, partition: int, start: int) -> None:
    """Write what a reader is told that asks for what is not there any more."""
    told = "records"
    try:
        async with arena.admin.consumer(
            load.topic, start={partition: start - 1}, partitions=[partition], until={partition: start},
            unavailable_timeout_ms=READ_TIMEOUT_MS,
        ) as consumer:  # fmt: skip
            async for _ in consumer.batches():
                break
    except RaftmqError as error:
        told = error.reason
    load.recorder.write("below", partition=load.partition_name(partition), offset=start - 1, start=start, told=told)


def _broken_nodes(arena: Arena) -> Iterator[str]:
    """Nodes that ended by themselves, and bugs that they survived."""
    for node in _expected(arena):
        log = arena.processes.log_file(node).read_text(errors="replace")
        if arena.processes.pid(node) is None:
            yield f"node {node} ended by itself; the last that it said: {log.rstrip().rpartition(chr(10))[2][:300]}"
        if (place := log.find("Traceback (most recent call last)")) >= 0:
            yield f"node {node} met an error that nobody foresaw, at byte {place} of its log"


async def _write_replicas(arena: Arena, recorder: Recorder) -> None:
    for node in _expected(arena):
        for replica in await arena.admin.cluster.list_replicas(node):
            recorder.write(
                "replica", node=node, partition=_name(replica), index=replica.chain_index,
                chain=replica.chain_hash.hex(), end=replica.log_end_offset,
            )  # fmt: skip


async def _write_metadata(arena: Arena) -> bool:
    """Write what every node says of the cluster, once all say the same, or have had the time to."""
    deadline = asyncio.get_running_loop().time() + METADATA_SECONDS
    while True:
        versions = {await arena.observer.write_metadata(node) for node in _expected(arena)}
        same = len(versions) == 1 and versions != {0}
        if same or asyncio.get_running_loop().time() > deadline:
            for node in _expected(arena):
                await arena.observer.write_metadata(node, is_last=True)
            return same
        await asyncio.sleep(0.2)


async def _wait_equal(arena: Arena) -> bool:
    deadline = asyncio.get_running_loop().time() + QUIET_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        if await _equal(arena):
            return True
        await asyncio.sleep(0.2)
    return False


async def _equal(arena: Arena) -> bool:
    """All nodes hold the same entries, to the same end, and somebody leads every group."""
    chains: dict[str, set[tuple[int, bytes]]] = {}
    led: set[str] = set()
    for node in _expected(arena):
        try:
            replicas = await arena.admin.cluster.list_replicas(node, timeout_ms=2_000)
        except RaftmqError:
            return False
        for replica in replicas:
            chains.setdefault(_name(replica), set()).add((replica.chain_index, replica.chain_hash))
            if replica.role == "leader":
                led.add(_name(replica))
    return bool(chains) and led == set(chains) and all(len(ends) == 1 for ends in chains.values())


def _expected(arena: Arena) -> list[NodeId]:
    return [node for node in arena.nodes if node not in arena.given_up]


def _name(replica: ReplicaDescription) -> str:
    return f"{replica.topic}/{replica.partition}"
