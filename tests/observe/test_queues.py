"""What is told of queue groups: every record in one state, breakers, what became of messages; and at what cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from raftmq.assembly import Assembly
from raftmq.client import Client
from raftmq.client.queue import QueueMessage, QueueWorker
from raftmq.client.queue_types import QueueCounts, QueueSettings
from raftmq.ids import LeaseId, Offset
from raftmq.observe import queues
from raftmq.observe.metrics import Readings
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues.check import check_numbers
from raftmq.partition.queues.group import QueueGroup
from raftmq.partition.queues.leases import Lease, Leases
from raftmq.partition.queues.offset_set import OffsetSet
from raftmq.partition.queues.settings import QueueSettings as Rules
from raftmq.sim import Cluster
from tests.partition.queues.build import Partition

TOPIC, GROUP = "orders", "workers"
Told = Counter[tuple[str, ...]]
"""Values by the name without its prefix, and the labels behind topic and group."""


def assemblies(cluster: Cluster) -> list[Assembly]:
    return [node.assembly for node in cluster._cluster.nodes.values() if node.assembly is not None]


def told(cluster: Cluster) -> Told:
    """The sum over all nodes, as Prometheus would be asked for it."""
    sums: Told = Counter()
    for assembly in assemblies(cluster):
        readings = Readings()
        queues.collect(readings, assembly)
        for family in readings.families():
            for sample in family.samples:
                labels = [sample.labels[name] for name in sample.labels if name not in ("topic", "group")]
                assert {sample.labels.get("topic", TOPIC), sample.labels.get("group", GROUP)} == {TOPIC, GROUP}
                sums[(sample.name.removeprefix("raftmq_queue_"), *labels)] += int(sample.value)
    return sums


def states(sums: Told) -> dict[str, int]:
    return {key[1]: count for key, count in sums.items() if key[0] == "records" and count}


def replicas(cluster: Cluster) -> Iterator[QueueGroup]:
    for assembly in assemblies(cluster):
        for replica in assembly.replicas.groups.values():
            if isinstance(replica.machine, PartitionMachine):
                yield from replica.machine.queues.groups.values()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(seed=11) as cluster:
        cluster.create_topic(TOPIC, partitions=2)
        yield cluster


async def work(client: Client, settings: QueueSettings) -> None:
    """Of nine records two are done, one has failed for good, one fails later, two are with a worker."""
    async with client:
        await client.queues.set_group(TOPIC, GROUP, settings)
        async with client.producer(TOPIC) as producer:
            for number in range(9):
                await producer.send(b"%d" % number, partition=0)
        async with client.queue(TOPIC, GROUP, prefetch=6, partitions=[0]) as worker:
            messages = await take(worker, 6)
            for message in messages[:2]:
                await message.ack()
            await messages[2].park("poison")
            await messages[3].retry(delay_ms=3_600_000)


async def take(worker: QueueWorker, count: int) -> list[QueueMessage]:
    messages = [await worker.get(60_000) for _ in range(count)]
    return [message for message in messages if message is not None]


async def describe(client: Client) -> QueueCounts:
    """Of the first partition."""
    async with client:
        return (await client.queues.describe_group(TOPIC, GROUP))[1][0]


def test_every_record_is_told_in_one_state_and_all_of_them_together_are_as_many_as_there_are(cluster: Cluster) -> None:
    cluster.run(work(cluster.client(), QueueSettings(lease_ms=3_600_000)))
    cluster.pass_time(2)  # what it had not taken up is given back as the worker ends
    sums = told(cluster)
    assert states(sums) == {"ready": 3, "leased": 2, "delayed": 1, "parked": 1, "done": 2}
    assert sums[("offsets",)] == sum(states(sums).values()) == 9
    outcomes = {key[1]: count for key, count in sums.items() if key[0] == "outcomes_total" and count}
    assert {**outcomes, "released": 0} == {"acked": 2, "parked": 1, "retried": 1, "released": 0}
    assert sums[("violations",)] == 0
    assert len(list(replicas(cluster))) == 6


def test_what_is_not_introduced_yet_is_told_as_unseen(cluster: Cluster) -> None:
    async def produce(client: Client) -> None:
        async with client:
            await client.queues.set_group(TOPIC, GROUP)
            async with client.producer(TOPIC) as producer:
                for number in range(5):
                    await producer.send(b"%d" % number, partition=number % 2)

    cluster.run(produce(cluster.client()))
    cluster.until(lambda: len(list(replicas(cluster))) == 6)
    sums = told(cluster)
    assert states(sums) == {"unseen": 5}
    assert sums[("offsets",)] == 5


def test_a_breaker_is_told_while_it_is_open_and_while_it_lets_one_message_try(cluster: Cluster) -> None:
    async def fail(client: Client) -> None:
        async with client:
            settings = QueueSettings(breaker_failures=2, breaker_pause_ms=20_000, lease_ms=3_600_000)
            await client.queues.set_group(TOPIC, GROUP, settings)
            async with client.producer(TOPIC) as producer:
                for number in range(3):
                    await producer.send(b"%d" % number, partition=0)
            async with client.queue(TOPIC, GROUP, prefetch=2, partitions=[0]) as worker:
                for message in await take(worker, 2):
                    await message.retry(delay_ms=0)

    cluster.run(fail(cluster.client()))
    cluster.pass_time(1)
    opened = cluster.run(describe(cluster.client()))
    assert (opened.breaker_trying, opened.breaker_opened) == (False, 1)
    assert opened.breaker_open_until_ms is not None
    sums = told(cluster)
    assert (sums[("breakers", "open")], sums[("breakers", "trying")]) == (1, 0)
    assert sums[("outcomes_total", "breaker_opened")] == 1
    cluster.pass_time(5)
    later = cluster.run(describe(cluster.client()))
    assert abs((later.breaker_open_until_ms or 0) - opened.breaker_open_until_ms) < 1_000, "the same moment"
    cluster.pass_time(20)  # nothing is appended meanwhile
    trying = cluster.run(describe(cluster.client()))
    assert (trying.breaker_open_until_ms, trying.breaker_trying, trying.breaker_opened) == (None, True, 1)
    sums = told(cluster)
    assert (sums[("breakers", "open")], sums[("breakers", "trying")]) == (0, 1)

    async def succeed(client: Client) -> None:
        async with client, client.queue(TOPIC, GROUP, prefetch=1, partitions=[0]) as worker:
            for message in await take(worker, 1):
                await message.ack()

    cluster.run(succeed(cluster.client()))
    closed = cluster.run(describe(cluster.client()))
    assert (closed.breaker_open_until_ms, closed.breaker_trying, closed.breaker_opened) == (None, False, 1)
    sums = told(cluster)
    assert (sums[("breakers", "open")], sums[("breakers", "trying")]) == (0, 0)


def _lose_one(group: QueueGroup) -> None:
    group.dispatch.ready.discard(next(iter(group.dispatch.ready)))


def _have_one_twice(group: QueueGroup) -> None:
    group.delayed.add(next(iter(group.dispatch.ready)))


def _forget_what_was_closed(group: QueueGroup) -> None:
    group.closed -= 1


@pytest.mark.parametrize("damage", [_lose_one, _have_one_twice, _forget_what_was_closed])
def test_a_record_in_no_state_or_in_two_is_a_violation_wherever_it_is(
    cluster: Cluster, damage: Callable[[QueueGroup], None]
) -> None:
    cluster.run(work(cluster.client(), QueueSettings(lease_ms=3_600_000)))
    cluster.pass_time(2)
    with capture_logs() as logs:
        assert told(cluster)[("violations",)] == 0
    assert logs == []
    for group in replicas(cluster):
        if group.open:
            damage(group)
    with capture_logs() as logs:
        assert told(cluster)[("violations",)] == 3
    assert [line["queue"] for line in logs] == [GROUP] * 3


def large(leases: int) -> QueueGroup:
    """A million records that nobody has acknowledged, some of them with leases of their own."""
    partition = Partition(Rules(lease_ms=3_600_000))
    group = partition.group
    group.frontier = 1_000_000
    group.open.add_range(0, group.frontier)
    group.dispatch.add_range(0, group.frontier)
    for number in range(1, leases + 1):
        (offset,) = offsets = group.dispatch.take(1)
        group.leases.add(LeaseId(number), Lease("w", bytes(16), 3_600_000, offsets))
        assert offset == number - 1
    return group


@pytest.mark.parametrize("leases", [0, 100_000])
def test_to_check_the_numbers_costs_the_same_however_many_records_and_leases_there_are(
    leases: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = large(leases)

    def walked(*_: object) -> Any:
        raise RuntimeError("somebody looks at every record")

    for kind, methods in ((OffsetSet, ("runs", "__iter__", "pages")), (Leases, ("__iter__",))):
        for method in methods:
            monkeypatch.setattr(kind, method, walked)
    monkeypatch.setattr(Lease, "open_offsets", walked)
    check_numbers(group)
    sums = queues._Sums()
    machine: Any = type("Machine", (), {"next_offset": Offset(1_000_000)})
    queues._count(sums, (TOPIC, GROUP), machine, group)
    found = {key[2]: count for key, count in sums.records.items() if count}
    assert found == {key: count for key, count in (("ready", 1_000_000 - leases), ("leased", leases)) if count}
    assert sums.offsets[TOPIC, GROUP] == 1_000_000
