"""Notification fan-out: who is told of what is a matter of bindings, and the shop that tells it knows nobody.

    orders ──> exchange "events" (topic)
                  ├── orders.*.created   ──> exchange "everybody" (fanout) ──> topic "mails", topic "texts"
                  ├── orders.eu.#        ──> topic "audit-eu"
                  └── nothing fits       ──> exchange "unclaimed" (fanout) ──> topic "unclaimed"

Run it against a cluster: python examples/notifications.py 127.0.0.1:9401
"""

from __future__ import annotations

import asyncio
import sys

import raftmq

TOPICS = ("mails", "texts", "audit-eu", "unclaimed")


async def set_up(client: raftmq.Client) -> None:
    """May be run again: what is there already stays as it is."""
    for topic in TOPICS:
        try:
            await client.admin.create_topic(topic, partitions=1)
        except raftmq.errors.AlreadyExists:
            print(f"topic {topic} is there already")
    exchanges = client.exchanges
    await exchanges.declare("unclaimed", "fanout")
    await exchanges.declare("everybody", "fanout")
    await exchanges.declare("events", "topic", alternate="unclaimed")
    await exchanges.bind("unclaimed", topic="unclaimed")
    await exchanges.bind("everybody", topic="mails")
    await exchanges.bind("everybody", topic="texts")
    await exchanges.bind("events", to_exchange="everybody", routing_key="orders.*.created")
    await exchanges.bind("events", topic="audit-eu", routing_key="orders.eu.#")


async def main(address: str) -> dict[str, list[bytes | None]]:
    """Publishes three events; returns what each topic holds then."""
    async with raftmq.connect(address) as client:
        await set_up(client)
        for routing_key in ("orders.eu.created", "orders.us.created", "stock.low"):
            # Under an id of the event's own, so that this program may be run again after any failure.
            published = await client.publish(
                "events", routing_key.encode(), routing_key=routing_key, message_id=f"example {routing_key}"
            )
            for topic in published.topics:
                print(f"{routing_key} -> {topic.topic}, offset {topic.receipts[0].base_offset}")

        held: dict[str, list[bytes | None]] = {}
        for name in TOPICS:
            async with client.consumer(name, start="earliest", until="high_watermark") as consumer:
                held[name] = [record.value async for record in consumer]
        return held


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9401"))
