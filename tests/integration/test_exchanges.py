"""Exchanges on real processes: declared through one node, published to through another, and there after a restart."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

import raftmq
from raftmq import status
from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import Outcome, Unroutable
from raftmq.ids import NodeId
from raftmq.v1 import exchanges_pb2, exchanges_pb2_grpc, types_pb2
from tests.integration.workload import until

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_worked_examples(cluster: LocalCluster) -> None:
    notifications = example("notifications")
    expected = {
        "mails": [b"orders.eu.created", b"orders.us.created"],
        "texts": [b"orders.eu.created", b"orders.us.created"],
        "audit-eu": [b"orders.eu.created"],
        "unclaimed": [b"stock.low"],
    }
    assert await notifications.main(cluster.bootstrap) == expected
    # Run again, it declares nothing anew and appends nothing twice.
    assert await notifications.main(cluster.bootstrap) == expected
    answers = await example("request_reply").main(cluster.bootstrap)
    assert answers == {b"apple": b"1.20", b"pear": b"1.50", b"plum": b"unknown"}


async def _publish(cluster: LocalCluster, node: NodeId, **values: Any) -> exchanges_pb2.PublishResponse:
    """Through this node, with a generated stub."""
    address = str(cluster.config.node(node).client_address)
    async with aio.insecure_channel(address) as channel:
        stub = exchanges_pb2_grpc.ExchangesStub(channel)
        request = exchanges_pb2.PublishRequest(
            exchange="events", routing_key="k", records=[types_pb2.Record(value=b"v")], **values
        )
        request.timeout.FromSeconds(2)
        return await stub.Publish(request, timeout=60)


async def test_each_topic_tells_for_itself_and_a_restart_forgets_nothing(cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        # One replica: nobody takes over when its node dies.
        alone = await client.admin.create_topic("alone", partitions=1, replication_factor=1)
        await client.admin.create_topic("everywhere", partitions=1, replication_factor=3)
        await client.exchanges.declare("events", "direct")
        await client.exchanges.bind("events", topic="alone", routing_key="k")
        await client.exchanges.bind("events", topic="everywhere", routing_key="k")
        version = client.exchanges.version
        for node in cluster.nodes:
            answer = await _publish(cluster, node, message_id=f"by {node}", min_metadata_version=version)
            assert [(one.topic, one.HasField("error")) for one in answer.results] == [
                ("alone", False), ("everywhere", False),
            ]  # fmt: skip
            assert answer.results[0].partitions[0].receipt.base_offset == node - 1

        victim = alone.partitions[0].replicas[0]
        await cluster.kill(NodeId(victim))
        other = next(node for node in cluster.nodes if node != victim)

        async def only_the_other_takes_it() -> bool:
            answer = await _publish(cluster, other, message_id="half")
            lost, taken = answer.results
            return lost.HasField("error") and not taken.HasField("error")

        await until(only_the_other_takes_it)
        lost, taken = (await _publish(cluster, other, message_id="half")).results
        assert status.from_message(lost.error).retriable
        assert taken.partitions[0].receipt.duplicate

        await cluster.start(NodeId(victim))
        await cluster.wait_ready()

        # The same call again completes what is missing, and nothing is there twice.
        published = await client.publish_batch(
            "events", [raftmq.NewRecord(b"v")], routing_key="k", message_id="half", timeout_ms=60_000
        )
        assert [one.topic for one in published.topics] == ["alone", "everywhere"]
        for bounds in (*await client.list_offsets("alone"), *await client.list_offsets("everywhere")):
            assert bounds.high_watermark == 4

        for node in cluster.nodes:
            await cluster.kill(node)
        await cluster.start_all()
        await cluster.wait_ready()
        kept = await client.exchanges.list()
        assert [(one.name, one.kind, len(one.bindings)) for one in kept] == [("events", "direct", 2)]
        assert (await client.exchanges.trace("events", routing_key="k")).topics == ("alone", "everywhere")
        with pytest.raises(Unroutable) as unroutable:
            await client.publish("events", b"v", routing_key="nowhere", mandatory=True)
        assert unroutable.value.outcome is Outcome.NOT_APPLIED
        await client.admin.delete_topic("alone")

        async def unbound() -> bool:
            return (await client.exchanges.trace("events", routing_key="k")).topics == ("everywhere",)

        await until(unbound)
