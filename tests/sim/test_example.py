"""How a test of your own uses the simulated cluster: a consumer that must count every order once, whatever happens."""

from __future__ import annotations

from raftmq.client import Client
from raftmq.sim import Cluster


async def place_orders(client: Client, numbers: range) -> None:
    async with client, client.producer("orders") as producer:
        for number in numbers:
            await producer.send(b"order %d" % number)


async def count_orders(client: Client, until: int) -> list[bytes]:
    """The code under test."""
    orders: list[bytes] = []
    async with client, client.consumer("orders", start="earliest") as consumer:
        async for record in consumer:
            orders.append(record.value or b"")
            if len(orders) == until:
                break
    return orders


def test_every_order_is_counted_once_while_leaders_come_and_go() -> None:
    with Cluster(nodes=3, seed=7) as cluster:
        cluster.create_topic("orders")
        counting = cluster.spawn(count_orders(cluster.client(), until=30))
        cluster.run(place_orders(cluster.client(), range(10)))

        first = cluster.leader("orders")
        cluster.isolate(first)
        cluster.run(place_orders(cluster.client(), range(10, 20)))
        cluster.heal()

        cluster.kill(cluster.leader("orders"))
        cluster.run(place_orders(cluster.client(), range(20, 30)))

        assert cluster.wait(counting) == [b"order %d" % number for number in range(30)]


def test_the_minority_side_refuses_and_the_record_arrives_when_it_is_healed() -> None:
    with Cluster(seed=1) as cluster:
        cluster.create_topic("orders")
        cluster.isolate(1)
        cluster.isolate(2)
        placing = cluster.spawn(place_orders(cluster.client(), range(1)))
        cluster.pass_time(10)
        assert not placing.done(), "no node has a majority"
        cluster.heal()
        cluster.wait(placing)
        assert cluster.run(count_orders(cluster.client(), until=1)) == [b"order 0"]


def test_a_seed_is_the_same_run_for_ever() -> None:
    def run() -> float:
        with Cluster(seed=3) as cluster:
            cluster.create_topic("orders")
            cluster.run(place_orders(cluster.client(), range(5)))
            return cluster.now

    assert run() == run()
