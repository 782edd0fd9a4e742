"""A queue before an API that takes ten calls a second: the group hands out no more, however many workers ask.

Run it against a cluster: python examples/slow_api.py 127.0.0.1:9401
"""

from __future__ import annotations

import asyncio
import sys

import raftmq

PER_SECOND = 10
CALLS = 25


async def main(address: str) -> float:
    """Returns how many seconds `CALLS` calls took."""
    called: list[bytes | None] = []
    everything = asyncio.Event()

    async def call_api(message: raftmq.QueueMessage) -> None:
        called.append(message.value)
        if len(called) == CALLS:
            everything.set()

    async with raftmq.connect(address) as client:
        await client.admin.create_topic("letters", partitions=1)
        await client.queues.set_group("letters", "printer", raftmq.QueueSettings(drain_per_s=PER_SECOND))
        async with client.producer("letters") as producer:
            for number in range(CALLS):
                await producer.send(b"letter %d" % number)
        began = asyncio.get_running_loop().time()
        async with client.queue("letters", "printer", lease_ms=60_000) as worker:
            working = asyncio.create_task(worker.run(call_api, concurrency=5))
            await everything.wait()
            working.cancel()
        seconds = asyncio.get_running_loop().time() - began
        print(f"{CALLS} calls in {seconds:.1f} s")
        return seconds


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9401"))
