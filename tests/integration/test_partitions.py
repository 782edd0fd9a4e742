"""Quorums are lost and come back; the minority refuses rather than lies."""

from __future__ import annotations

import pytest
from grpc import aio

import raftmq
from raftmq.broker.forwarding import error_of
from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import DeadlineExceeded, Outcome, RaftmqError
from raftmq.ids import NodeId
from raftmq.records.batch import make_batch
from raftmq.v1 import broker_pb2, broker_pb2_grpc, types_pb2
from tests.integration.links import Links
from tests.integration.workload import TOPIC, UNKNOWN, Workload, until

pytestmark = pytest.mark.integration


async def test_two_nodes_down_produce_is_refused_and_nothing_is_lost(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        await load.more()
        await load.stop()
        survivor = NodeId(await load.leader_of(0))
        for node in cluster.nodes:
            if node != survivor:
                await cluster.kill(node)
        refusals = [await _refused(cluster, survivor) for _ in range(3)]
        for refusal in refusals:
            assert refusal.reason in {"NOT_ENOUGH_REPLICAS", "NO_LEADER", "LEADERSHIP_LOST", "DEADLINE_EXCEEDED"}
        # Once the survivor knows that it is alone, nothing is taken in any more, and it says so.
        assert refusals[-1].outcome is Outcome.NOT_APPLIED, refusals
        await cluster.start_all()
        await cluster.wait_ready()
        await until(load.can_produce)
        await load.check_log()


async def _refused(cluster: LocalCluster, survivor: NodeId) -> RaftmqError:
    """What the one node that is left says to a single request, given ample time."""
    async with aio.insecure_channel(str(cluster.config.node(survivor).client_address)) as channel:
        batch = make_batch([types_pb2.Record(value=UNKNOWN)])
        request = broker_pb2.ProduceRequest(topic=TOPIC, partition=0, batch=batch)
        with pytest.raises(aio.AioRpcError) as refused:
            await broker_pb2_grpc.BrokerStub(channel).Produce(request, timeout=90)
    return error_of(refused.value)


async def test_an_isolated_leader_steps_down_and_the_majority_goes_on(
    linked: tuple[LocalCluster, Links],
) -> None:
    cluster, links = linked
    async with Workload(cluster) as load:
        await load.more()
        isolated = await load.leader_of(0)
        links.isolate(isolated)

        async def stepped_down() -> bool:
            replicas = await load.client.cluster.list_replicas(isolated)
            return all(replica.role != "leader" for replica in replicas)

        await until(stepped_down)
        await load.more(1_000)
        links.heal()
        await load.more()
        await load.check()


async def test_a_record_that_only_the_isolated_leader_took_is_told_as_unknown(
    linked: tuple[LocalCluster, Links],
) -> None:
    cluster, links = linked
    async with Workload(cluster) as load:
        await load.more()
        await load.stop()
        told = await _told_by_an_isolated_leader(cluster, load, links)
        while told.outcome is Outcome.NOT_APPLIED:  # It had stepped down before it got the record.
            links.heal()
            told = await _told_by_an_isolated_leader(cluster, load, links)
        assert told.outcome is Outcome.UNKNOWN
        assert isinstance(told, DeadlineExceeded) or told.reason == "LEADERSHIP_LOST"
        links.heal()
        await load.check_log()


async def _told_by_an_isolated_leader(cluster: LocalCluster, load: Workload, links: Links) -> RaftmqError:
    isolated = NodeId(await load.leader_of(0))
    async with (
        raftmq.connect(str(cluster.config.node(isolated).client_address)) as client,
        client.producer(TOPIC, delivery_timeout_ms=3_000, idempotent=False) as producer,
    ):
        links.isolate(isolated)
        with pytest.raises(RaftmqError) as told:
            await producer.send(UNKNOWN, partition=0)
    return told.value
