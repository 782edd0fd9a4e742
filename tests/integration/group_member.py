"""A member of a consumer group in a process of its own: prints what it is given, holds it until it is told to go on,
then commits, and prints what became of that."""

from __future__ import annotations

import asyncio
import sys

import raftmq


async def main(bootstrap: str, topic: str, group: str) -> None:
    async with raftmq.connect(bootstrap) as client:
        consumer = client.consumer(topic, group=group, commit="manual", session_timeout_ms=3_000, client_id="held")
        async with consumer:
            async for record in consumer:
                print("got", record.partition, record.offset, flush=True)
                await asyncio.to_thread(sys.stdin.readline)
                try:
                    await consumer.commit()
                except raftmq.RaftmqError as error:
                    print("refused", error.reason, flush=True)
                else:
                    print("committed", flush=True)


asyncio.run(main(*sys.argv[1:]))
