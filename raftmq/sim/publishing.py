"""Clients that send to an exchange instead of a topic, while others change bindings all around.

What they have bound themselves stands for the whole run, so that whichever node is asked, restarted or behind, a record
reaches the topic of its routing key and no other. Values stay unique: each goes to one topic only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from raftmq.client.types import NewRecord, RecordReceipt
from raftmq.errors import Outcome, RaftmqError, UnknownExchange, Unroutable
from raftmq.records.slots import partition_for_key
from raftmq.sim.oracle import Partition, Told
from raftmq.sim.thin import ThinPlan
from raftmq.sim.workload import Task, until_done

ENTRY, INNER = "entry", "inner"
"""Two exchanges: every record takes two turns."""
NOISE = ("noise-0", "noise-1", "noise-2")
NOISE_KEY = "noise"


async def publish(task: Task, plan: ThinPlan, topics: Mapping[str, int]) -> None:
    """Bind once, then send one record after the other, each until it is acknowledged."""
    await _bind(task, sorted(topics))
    number = 0
    while not task.stopping():
        number += 1
        message_id = f"{task.name}:{number}"
        topic = task.rng.choice(sorted(topics))
        partition = Partition(topic, partition_for_key(message_id.encode(), topics[topic]))
        await _send(task, plan, partition, message_id)
        await asyncio.sleep(task.rng.expovariate(1.0) * plan.pause_ms / 1000)


async def _bind(task: Task, topics: Sequence[str]) -> None:
    """However often: what is declared and bound already stays as it is."""
    exchanges = task.client.exchanges

    async def attempt() -> None:
        await exchanges.declare(INNER, "direct")
        await exchanges.declare(ENTRY, "topic")
        for topic in topics:
            await exchanges.bind(INNER, topic=topic, routing_key=topic)
            await exchanges.bind(ENTRY, to_exchange=INNER, routing_key=f"{topic}.#")

    await until_done(attempt)


async def _send(task: Task, plan: ThinPlan, partition: Partition, message_id: str) -> None:
    send = task.oracle.sending(message_id.encode(), partition, plan.acks)
    worst: RaftmqError | None = None
    while send.told is not Told.OK:
        try:
            published = await task.client.publish_batch(
                ENTRY,
                [NewRecord(send.value)],
                routing_key=partition.topic,
                mandatory=True,
                acks=plan.acks,
                message_id=message_id,
                timeout_ms=plan.timeout_ms,
            )
        except (UnknownExchange, Unroutable) as error:
            raise AssertionError(f"{message_id} for {partition}, by bindings that never went: {error}") from error
        except RaftmqError as error:
            task.oracle.counts[f"published {error.reason}"] += 1
            worst = error if worst is None or error.outcome is not Outcome.NOT_APPLIED else worst
            if task.stopping():
                task.oracle.unsent(send, worst)
                return
            await asyncio.sleep(task.rng.expovariate(1.0) * plan.pause_ms / 1000)
            continue
        [reached] = published.topics
        [receipt] = reached.receipts
        assert (receipt.topic, receipt.partition) == partition, f"{message_id} for {partition} went to {receipt}"
        task.oracle.counts["records published"] += 1
        task.oracle.sent(send, RecordReceipt(receipt, 0))


async def churn_bindings(task: Task, topics: Sequence[str], pause_ms: float) -> None:
    """Declare, bind, unbind and delete exchanges that nobody publishes to, some of which `ENTRY` leads to."""
    exchanges, rng = task.client.exchanges, task.rng
    while not task.stopping():
        name, topic = rng.choice(NOISE), rng.choice(topics)
        try:
            match rng.randrange(5):
                case 0:
                    await exchanges.declare(name, "topic")
                case 1:
                    await exchanges.delete(name, force=True)
                case 2:
                    await exchanges.bind(ENTRY, to_exchange=name, routing_key=NOISE_KEY)
                case 3:
                    await exchanges.unbind(ENTRY, to_exchange=name, routing_key=NOISE_KEY)
                case _:
                    await exchanges.bind(name, topic=topic, routing_key="#")
            task.oracle.counts["bindings changed"] += 1
        except RaftmqError as error:
            task.oracle.counts[f"bindings {error.reason}"] += 1
        await task.rest(rng.uniform(0.2, 2.0) * pause_ms / 1000)
