"""Topics that are made, listed and deleted by several clients at once, a few names over and over."""

from __future__ import annotations

import asyncio
import random

from raftmq.chaos.experiment import Churn
from raftmq.chaos.workloads.base import Load, outcome_of, reason_of
from raftmq.client import Client
from raftmq.errors import RaftmqError

CALL_TIMEOUT_MS = 5_000
ERA_US = 6_000_000


def start(plan: Churn, load: Load, number: int, seed: int) -> None:
    for i in range(plan.clients):
        load.start(f"churn-{number}-{i}", _churn(plan, load, random.Random(f"{seed}/{number}/{i}")))


async def _churn(plan: Churn, load: Load, rng: random.Random) -> None:
    async with load.client() as client:
        while await load.pause(plan.every_ms / 1000 * rng.uniform(0.5, 1.5)):
            action = rng.choice(("create", "delete", "list", "list"))
            # New names every few seconds: of one whose fate is not known, nothing can be told any more.
            era = load.recorder.now_us // ERA_US
            topic = "" if action == "list" else f"churn-{era}-{rng.randrange(plan.names)}"
            op = load.recorder.invoke("topic", action=action, topic=topic)
            try:
                told = await _call(client, action, topic)
            except RaftmqError as error:
                load.recorder.settle("topic", op, outcome_of(error), error=reason_of(error))
            except asyncio.CancelledError:
                load.recorder.settle("topic", op, "info", error="CANCELLED")
                raise
            else:
                load.recorder.settle("topic", op, "ok", topics=told)


async def _call(client: Client, action: str, topic: str) -> dict[str, int]:
    """Name and id of the topics that the answer tells."""
    if action == "create":
        made = await client.admin.create_topic(topic, partitions=1, timeout_ms=CALL_TIMEOUT_MS)
        return {made.name: made.topic_id}
    if action == "delete":
        await client.admin.delete_topic(topic, timeout_ms=CALL_TIMEOUT_MS)
        return {}
    return {one.name: one.topic_id for one in await client.admin.list_topics(timeout_ms=CALL_TIMEOUT_MS)}
