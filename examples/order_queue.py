"""Orders are processed by workers that share a queue: what fails is tried again, and set aside when it fails for good.

    producer ──> "orders" ──> group "billing": worker, worker, ...
                                  │ fails: again after a back-off ── three failures ──> parked
                                  └────────────── redriven, once the cause is repaired <──┘

Run it against a cluster: python examples/order_queue.py 127.0.0.1:9401
"""

from __future__ import annotations

import asyncio
import sys

import raftmq


async def main(address: str) -> tuple[list[bytes], list[bytes]]:
    """Returns the orders that were charged at first, and those that were redriven."""
    known, charged = {b"ann", b"bob"}, []
    everything = asyncio.Event()

    async def charge(message: raftmq.QueueMessage) -> None:
        """Raising an error hands the message back; returning acknowledges it."""
        if message.key not in known:
            raise LookupError(f"no customer {message.key!r}")
        charged.append(message.value or b"")
        if len(charged) == 3:
            everything.set()

    async with raftmq.connect(address) as client:
        await client.admin.create_topic("orders-to-bill", partitions=2)
        rules = raftmq.QueueSettings(attempts_max=3, backoff_first_ms=50, lease_ms=10_000)
        await client.queues.set_group("orders-to-bill", "billing", rules)
        async with client.producer("orders-to-bill") as producer:
            for customer, order in ((b"ann", b"order 1"), (b"eve", b"order 2"), (b"bob", b"order 3")):
                await producer.send(order, key=customer)

        async with client.queue("orders-to-bill", "billing", worker="worker-1") as worker:
            working = asyncio.create_task(worker.run(charge, concurrency=4))
            while not (letters := await dead_letters(client)):  # noqa: ASYNC110  the cluster tells nobody by itself
                await asyncio.sleep(0.1)
            first = sorted(charged)
            print(f"charged {first}; parked: {letters}")

            known.add(b"eve")
            await client.queues.redrive("orders-to-bill", "billing", error_contains="no customer", rate_per_s=100)
            await everything.wait()
            working.cancel()
        return first, charged[len(first) :]


async def dead_letters(client: raftmq.Client) -> list[str]:
    """The last errors of what is parked."""
    found = [await client.queues.peek("orders-to-bill", "billing", partition) for partition in (0, 1)]
    return [message.error for messages, _ in found for message in messages]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9401"))
