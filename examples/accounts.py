"""Accounts are what happened to them: tellers turn commands into events, and balances follow from reading the events.

    customer ──command──> "accounts" ──Receive──> teller: reads on, decides
                               ^                     │
                               └── AckAndPublish ────┘   the command is done and its events are there: one log entry

Each account's commands are handed out one after the other (order by key), so whoever has one knows all events that it
has to know. Money is neither lost nor made by what goes wrong: a command that its customer sends twice is known by its
id; a teller whose lease is over publishes nothing; and a lost answer is asked for again.

Run it against a cluster: python examples/accounts.py 127.0.0.1:9401
What another process makes of the same log: python examples/accounts.py 127.0.0.1:9401 balances
"""

from __future__ import annotations

import asyncio
import sys

import raftmq

TOPIC, GROUP = "accounts", "tellers"
COMMANDS = (
    (b"ann", b"deposit 100", b"command-1"),
    (b"bob", b"deposit 50", b"command-2"),
    (b"ann", b"transfer 30 bob", b"command-3"),
    (b"ann", b"transfer 30 bob", b"command-3"),  # by a customer who has heard nothing
    (b"bob", b"transfer 1000 ann", b"command-4"),
)


class Ledger:
    """Balances, as the events say: whoever reads all of them knows the same."""

    def __init__(self, client: raftmq.Client) -> None:
        self.balances: dict[str, int] = {}
        self._client = client
        self._next_offset = 0

    async def read_on(self) -> None:
        """Up to everything that was published before the call."""
        async with self._client.consumer(TOPIC, start=self._next_offset, until="high_watermark") as consumer:
            async for record in consumer:
                self._next_offset = record.offset + 1
                if dict(record.headers)["kind"] == b"event":
                    account = (record.key or b"").decode()
                    self.balances[account] = self.balances.get(account, 0) + int(record.value or b"")

    def decide(self, command: raftmq.QueueMessage) -> list[raftmq.NewRecord]:
        """The events of a command; those of a transfer are both in the log, or neither."""
        payer = command.key or b""
        verb, amount, *payee = (command.value or b"").split()
        if verb == b"deposit":
            return [event(payer, int(amount))]
        if self.balances.get(payer.decode(), 0) < int(amount):
            return [event(payer, 0, b"refused")]
        return [event(payer, -int(amount)), event(payee[0], int(amount))]


def event(account: bytes, amount: int, what: bytes = b"booked") -> raftmq.NewRecord:
    return raftmq.NewRecord(b"%+d" % amount, account, [("kind", b"event"), ("what", what)])


async def serve(client: raftmq.Client) -> None:
    """A teller; there may be any number of them."""
    ledger = Ledger(client)
    async with client.queue(TOPIC, GROUP) as worker:
        async for message in worker:
            headers = dict(message.headers)
            if headers["kind"] != b"command":
                await message.ack()
                continue
            await ledger.read_on()
            try:
                await message.ack_and_publish(ledger.decide(message), processed_key=headers["id"])
            except raftmq.errors.LeaseExpired:
                print(f"too late for {message.value!r}: another teller has it")


async def main(address: str) -> tuple[dict[str, int], bool]:
    """Returns the balances, and whether a teller that slept past its lease was refused."""
    async with raftmq.connect(address) as client:
        await client.admin.create_topic(TOPIC, partitions=1)
        rules = raftmq.QueueSettings(ordered_by_key=True)
        await client.queues.set_group(TOPIC, GROUP, rules)
        async with client.producer(TOPIC) as producer:
            for account, command, number in COMMANDS:
                await producer.send(command, key=account, headers=[("kind", b"command"), ("id", number)])

        async with client.queue(TOPIC, GROUP, lease_ms=300, prefetch=1) as sleepy:
            late = await anext(sleepy)
            tellers = [asyncio.create_task(serve(client)) for _ in range(2)]
            while not await is_done(client):  # noqa: ASYNC110  the cluster tells nobody by itself
                await asyncio.sleep(0.1)
            try:
                await late.ack_and_publish([event(late.key or b"", 1_000_000)])
                was_refused = False
            except raftmq.errors.LeaseExpired:
                was_refused = True
            for teller in tellers:
                teller.cancel()
            await asyncio.wait(tellers)
        return await balances(client), was_refused


async def is_done(client: raftmq.Client) -> bool:
    _, counts = await client.queues.describe_group(TOPIC, GROUP)
    return not any(one.backlog for one in counts)


async def balances(client: raftmq.Client) -> dict[str, int]:
    """From the start of the log: nothing is kept anywhere else."""
    ledger = Ledger(client)
    await ledger.read_on()
    return ledger.balances


async def show(address: str) -> None:
    async with raftmq.connect(address) as client:
        for account, balance in sorted((await balances(client)).items()):
            print(account, balance)


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9401"
    asyncio.run(show(where) if "balances" in sys.argv[2:] else main(where))
