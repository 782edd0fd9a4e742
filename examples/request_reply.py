"""Request and reply: prices are asked for in one topic, and told in another, by two headers that belong together.

    client ──"quotes": raftmq-reply-to, raftmq-correlation-id──> responder
           <──────────"replies": raftmq-correlation-id──────────┘

Run it against a cluster: python examples/request_reply.py 127.0.0.1:9401
"""

from __future__ import annotations

import asyncio
import sys

import raftmq

PRICES = {b"apple": b"1.20", b"pear": b"1.50"}


async def respond(client: raftmq.Client, consumer: raftmq.Consumer) -> None:
    """Answer every request, until cancelled."""
    async for request in consumer:
        await client.reply(request, PRICES.get(request.value or b"", b"unknown"))


async def main(address: str) -> dict[bytes, bytes | None]:
    """Asks for three prices at once; returns the answers."""
    async with raftmq.connect(address) as client:
        for topic in ("quotes", "replies"):
            try:
                await client.admin.create_topic(topic, partitions=1)
            except raftmq.errors.AlreadyExists:
                print(f"topic {topic} is there already")

        async with (
            client.consumer("quotes", start="latest") as requests,
            client.requester("replies") as requester,
        ):
            responder = asyncio.create_task(respond(client, requests))
            names = (b"apple", b"pear", b"plum")
            replies = await asyncio.gather(*(requester.request(name, topic="quotes") for name in names))
            responder.cancel()
        for name, reply in zip(names, replies, strict=True):
            print(f"{name.decode()}: {(reply.value or b'').decode()}")
        return {name: reply.value for name, reply in zip(names, replies, strict=True)}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9401"))
