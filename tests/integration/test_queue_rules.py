"""The rules of queue groups on real nodes: one cluster's life, a topic for each rule. What is promised of time is asked
for as a condition that comes to hold, never as one that holds still."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

import raftmq
from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Client
from raftmq.client.queue import QueueMessage, QueueWorker
from raftmq.client.queue_types import QueueCounts, QueueSettings
from raftmq.errors import QueuePaused
from raftmq.v1 import queue_pb2
from tests.integration.test_observe import over_all, scrape, total
from tests.integration.workload import until

pytestmark = pytest.mark.integration

GROUP = "workers"
PATIENCE_MS = 60_000
LONG_MS = 3_600_000
LEASE_MS = 12_000
"""Runs out in the test of leases, and nowhere else."""


async def topic_of(client: Client, name: str, values: Sequence[bytes], **settings: Any) -> None:
    """A topic of one partition with a queue group, and with these records."""
    await client.admin.create_topic(name, partitions=1, replication_factor=3)
    await client.queues.set_group(name, GROUP, QueueSettings(**{"lease_ms": LONG_MS, **settings}))
    await fill(client, name, values)


async def fill(client: Client, name: str, values: Sequence[bytes]) -> None:
    async with client.producer(name) as producer:
        for value in values:
            await producer.send(value, partition=0)


async def ask(client: Client, name: str, method: str, request: Any) -> Any:
    """One call to the leader of the partition."""
    return await client._router.to_partition(
        name, 0, lambda node: getattr(node.queue, method), request, timeout_ms=PATIENCE_MS
    )


async def receive(client: Client, name: str, most: int, group: str = GROUP, wait_ms: int = 0) -> list[bytes]:
    """Tokens of what can be had at this moment, or as soon as there is any."""
    request = queue_pb2.ReceiveRequest(topic=name, group=group, partition=0, max_messages=most)
    request.max_wait.FromMilliseconds(wait_ms)
    return [message.token for message in (await ask(client, name, "Receive", request)).messages]


async def take(client: Client, name: str, count: int = 1, group: str = GROUP) -> list[bytes]:
    """Tokens of so many messages."""
    tokens: list[bytes] = []
    while len(tokens) < count:
        tokens += await receive(client, name, count - len(tokens), group, wait_ms=20_000)
    return tokens


async def fail(client: Client, name: str, tokens: Sequence[bytes]) -> list[int]:
    """Which of them have failed too often."""
    request = queue_pb2.RetryRequest(topic=name, group=GROUP, tokens=tokens)
    request.delay.FromMilliseconds(0)
    answer = await ask(client, name, "Retry", request)
    assert not answer.failures
    return list(answer.at_end)


async def ack(client: Client, name: str, tokens: Sequence[bytes], group: str = GROUP) -> None:
    request = queue_pb2.AckRequest(topic=name, group=group, tokens=tokens)
    assert not (await ask(client, name, "Ack", request)).failures


async def alter(client: Client, name: str, **settings: Any) -> None:
    """Until the leader has heard of it."""
    altered = await client.queues.set_group(name, GROUP, QueueSettings(**{"lease_ms": LONG_MS, **settings}))

    async def heard() -> bool:
        told, _ = await client.queues.describe_group(name, GROUP)
        return told.version >= altered.version

    await until(heard)


async def get(worker: QueueWorker) -> QueueMessage:
    message = await worker.get(PATIENCE_MS)
    assert message is not None
    return message


async def counts(client: Client, name: str) -> QueueCounts:
    _, (found,) = await client.queues.describe_group(name, GROUP)
    return found


async def logged(cluster: LocalCluster, event: str) -> bool:
    """A node says so in its log, naming the group."""
    lines = [line for node in cluster.nodes for line in cluster.log_tail(node, 1_000).splitlines()]
    return any(f"event='{event}'" in line and f"queue='{GROUP}'" in line for line in lines)


async def test_the_rules_of_queue_groups(cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        # What the first and the last of them look at takes its time: the others have theirs meanwhile.
        async with asyncio.TaskGroup() as rules:
            rules.create_task(an_extended_lease_outlasts_its_first_end(client))
            rules.create_task(a_breaker_opens_and_shows_and_lets_one_try(client, cluster))
            rules.create_task(what_fails_for_good_is_dropped_where_that_is_asked_for(client))
            rules.create_task(what_comes_back_again_and_again_is_redriven_no_more(client))
            rules.create_task(a_quiet_tenant_is_served_in_turns_with_a_loud_one(client))
            rules.create_task(a_paused_group_gives_nothing_and_goes_on(client))
            rules.create_task(records_are_kept_until_all_groups_are_done_with_them(client))
            rules.create_task(a_group_starts_over_at_a_time_and_at_the_end(client))
        scrapes = [await scrape(cluster, node) for node in cluster.nodes]
        offsets = [total(one, "raftmq_queue_offsets") for one in scrapes]
        assert offsets == [total(one, "raftmq_queue_records") for one in scrapes]
        assert sum(offsets) == 64
        assert [total(one, "raftmq_queue_violations") for one in scrapes] == [0, 0, 0]


async def an_extended_lease_outlasts_its_first_end(client: Client) -> None:
    await topic_of(client, "leases", [b"kept", b"lost"], lease_ms=LEASE_MS)
    async with client.queue("leases", GROUP, prefetch=1) as first:
        kept = await get(first)
        await kept.extend(LONG_MS)
        await take(client, "leases")  # the other one, of which is never heard again
        async with client.queue("leases", GROUP, prefetch=1) as second:
            again = await get(second)
            assert (kept.value, again.value) == (b"kept", b"lost")
            assert (again.attempt, again.failures) == (2, 1), "a lease has run out that began after the extended one"
            assert kept.lease_left_ms > LONG_MS // 2
            await kept.ack()
            await again.ack()
    found = await counts(client, "leases")
    assert (found.acked, found.expired_leases, found.backlog) == (2, 1, 0)


async def a_breaker_opens_and_shows_and_lets_one_try(client: Client, cluster: LocalCluster) -> None:
    name, rules = "breakers", {"breaker_failures": 3, "attempts_max": 100}
    await topic_of(client, name, [b"%d" % number for number in range(6)], breaker_pause_ms=LONG_MS, **rules)

    async def breakers() -> tuple[float, float]:
        labels = {"topic": name, "group": GROUP}
        states = [over_all(cluster, "raftmq_queue_breakers", **labels, state=state) for state in ("open", "trying")]
        return await states[0], await states[1]

    failing = await take(client, name, 3)
    assert await breakers() == (0, 0)
    await fail(client, name, failing)
    assert await breakers() == (1, 0)
    described = await counts(client, name)
    assert (described.breaker_trying, described.breaker_opened) == (False, 1)
    assert described.breaker_open_until_ms is not None
    assert await over_all(cluster, "raftmq_queue_outcomes_total", topic=name, outcome="breaker_opened") == 1
    assert await receive(client, name, 10) == []
    assert (await counts(client, name)).ready == 6

    await until(lambda: logged(cluster, "circuit breaker open"))

    await client.queues.resume(name, GROUP)
    assert await breakers() == (0, 0)
    await until(lambda: logged(cluster, "circuit breaker closed"))
    await alter(client, name, breaker_pause_ms=100, **rules)
    await fail(client, name, await take(client, name, 3))

    async def trying() -> bool:
        return await breakers() == (0, 1)

    await until(trying)
    described = await counts(client, name)
    assert (described.breaker_open_until_ms, described.breaker_trying) == (None, True)
    probe = await receive(client, name, 10, wait_ms=20_000)
    assert len(probe) == 1
    assert await receive(client, name, 10) == [], "one at a time"
    await ack(client, name, probe)
    assert await breakers() == (0, 0)
    await take(client, name, 5)


async def what_fails_for_good_is_dropped_where_that_is_asked_for(client: Client) -> None:
    await topic_of(client, "drops", [b"bad"], attempts_max=2, at_end="drop")
    assert await fail(client, "drops", await take(client, "drops")) == []
    assert await fail(client, "drops", await take(client, "drops")) == [0]
    found = await counts(client, "drops")
    assert (found.dropped, found.done, found.parked, found.backlog) == (1, 1, 0, 0)
    assert await receive(client, "drops", 1) == []


async def what_comes_back_again_and_again_is_redriven_no_more(client: Client) -> None:
    await topic_of(client, "loops", [b"bad"], attempts_max=1, redrives_max=2)
    for redrives in range(3):
        assert await fail(client, "loops", await take(client, "loops")) == [0]
        (letter,), _ = await client.queues.peek("loops", GROUP, 0)
        assert letter.redrives == redrives
        (driven,) = await client.queues.redrive("loops", GROUP)
        assert (driven.matched, driven.redriven, driven.looping) == (1, int(redrives < 2), int(redrives == 2))
    assert (await counts(client, "loops")).parked == 1


async def a_quiet_tenant_is_served_in_turns_with_a_loud_one(client: Client) -> None:
    await topic_of(client, "tenants", [], fair_by="header:tenant")
    async with client.producer("tenants") as producer:
        for number in range(40):
            await producer.enqueue(b"%d" % number, partition=0, headers=[("tenant", b"loud")])
        for number in range(3):
            await producer.send(b"%d" % number, partition=0, headers=[("tenant", b"quiet")])
    async with client.queue("tenants", GROUP, prefetch=1) as worker:
        served: list[bytes] = []
        for _ in range(8):
            async with await get(worker) as message:
                served.append(dict(message.headers)["tenant"])
    assert sorted(served[:6]) == [b"loud"] * 3 + [b"quiet"] * 3
    assert all(one != other for one, other in pairwise(served[:6])), served
    assert served[6:] == [b"loud", b"loud"]


async def a_paused_group_gives_nothing_and_goes_on(client: Client) -> None:
    await topic_of(client, "pauses", [b"held", b"waits"])
    held = await take(client, "pauses")
    await alter(client, "pauses", paused=True)
    with pytest.raises(QueuePaused) as paused:
        await receive(client, "pauses", 1)
    assert paused.value.retry_after_ms > 0
    await ack(client, "pauses", held)
    async with client.queue("pauses", GROUP, prefetch=1) as worker:
        waiting = asyncio.create_task(get(worker))
        await alter(client, "pauses", paused=False)
        message = await waiting
        assert message.value == b"waits"
        await message.ack()


async def records_are_kept_until_all_groups_are_done_with_them(client: Client) -> None:
    await topic_of(client, "kept", [b"%d" % number for number in range(4)], retention="all_groups")
    await client.queues.set_group("kept", "others", QueueSettings(lease_ms=LONG_MS, retention="all_groups"))

    async def starts_at(offset: int) -> bool:
        (bounds,) = await client.list_offsets("kept", [0])
        assert bounds.log_start_offset <= offset, "the other group has not done with it"
        return bounds.log_start_offset == offset

    await ack(client, "kept", await take(client, "kept", 4))
    await ack(client, "kept", await take(client, "kept", 2, "others"), "others")
    await until(lambda: starts_at(2))
    await ack(client, "kept", await take(client, "kept", 2, "others"), "others")
    await until(lambda: starts_at(4))


async def a_group_starts_over_at_a_time_and_at_the_end(client: Client) -> None:
    await topic_of(client, "places", [b"0"])
    times = [await _appended(client, "places", 0)]
    while times[-1] == times[0]:
        await fill(client, "places", [b"%d" % len(times)])
        times.append(await _appended(client, "places", len(times)))
    await take(client, "places", len(times))
    newest = len(times) - 1
    sought = await client.queues.seek("places", GROUP, datetime.fromtimestamp(times[-1] / 1000, UTC))
    assert sought == {0: newest}
    await take(client, "places")
    assert await receive(client, "places", 10) == []
    assert await client.queues.seek("places", GROUP, "latest") == {0: newest + 1}
    assert await receive(client, "places", 10) == []
    await fill(client, "places", [b"new"])
    async with client.queue("places", GROUP, prefetch=1) as worker, await get(worker) as message:
        assert (message.value, message.offset, message.attempt) == (b"new", newest + 1, 1)


async def _appended(client: Client, name: str, offset: int) -> int:
    """When the record was, in milliseconds since the epoch."""
    async with client.consumer(name, start={0: offset}, until="high_watermark") as consumer:
        async for record in consumer:
            return record.append_time_ms
    raise AssertionError("it is not there")
