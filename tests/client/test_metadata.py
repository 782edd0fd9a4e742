"""The picture of the cluster: merged by what only grows, refreshed once for everybody."""

from __future__ import annotations

import asyncio

import grpc
import pytest

import raftmq
from raftmq import errors
from raftmq.client import Client
from raftmq.client.metadata import ClusterImage, Leader
from raftmq.v1 import broker_pb2, types_pb2
from tests.client.conftest import QUICK
from tests.client.fake_broker import FakeCluster, Fault


def answer(
    version: int, *, leader: int, epoch: int, topic_id: int = 1, cluster: str = "c"
) -> broker_pb2.GetMetadataResponse:
    partition = broker_pb2.PartitionInfo(partition=0, group_id=1, leader_node_id=leader, leader_epoch=epoch)
    return broker_pb2.GetMetadataResponse(
        header=types_pb2.ResponseHeader(cluster_id=cluster),
        nodes=[broker_pb2.NodeInfo(node_id=version, host="h", port=1)],
        topics=[broker_pb2.TopicInfo(name="t", topic_id=topic_id, partitions=[partition])],
        metadata_version=version,
    )


def test_a_node_that_is_behind_changes_nothing_but_newer_leaders() -> None:
    image = ClusterImage()
    image.merge(answer(5, leader=1, epoch=3))
    image.merge(answer(4, leader=2, epoch=2))
    assert sorted(image.nodes) == [5]
    assert image.leader("t", 0) == Leader(1, 3)
    image.merge(answer(4, leader=2, epoch=4))
    assert sorted(image.nodes) == [5]
    assert image.leader("t", 0) == Leader(2, 4)


def test_within_an_epoch_a_leader_becomes_known_and_is_not_forgotten() -> None:
    image = ClusterImage()
    image.merge(answer(1, leader=0, epoch=3))
    assert image.leader("t", 0) == Leader(None, 3)
    image.merge(answer(1, leader=2, epoch=3))
    image.merge(answer(1, leader=0, epoch=3))
    assert image.leader("t", 0) == Leader(2, 3)
    image.merge(answer(1, leader=0, epoch=4))
    assert image.leader("t", 0) == Leader(None, 4)


def test_a_topic_made_anew_counts_its_epochs_from_the_start() -> None:
    image = ClusterImage()
    image.merge(answer(1, leader=1, epoch=9))
    image.merge(answer(2, leader=2, epoch=1, topic_id=2))
    assert image.leader("t", 0) == Leader(2, 1)


def test_another_clusters_answer_is_refused() -> None:
    image = ClusterImage()
    image.merge(answer(1, leader=1, epoch=1))
    with pytest.raises(errors.PreconditionFailed):
        image.merge(answer(2, leader=1, epoch=1, cluster="d"))


async def test_one_refresh_serves_everybody(cluster: FakeCluster, client: Client) -> None:
    gate = asyncio.Event()
    before = cluster.count("GetMetadata")
    cluster.script("GetMetadata", Fault(gate=gate))
    waiting = [asyncio.ensure_future(client.cluster.nodes()) for _ in range(10)]
    await cluster.called("GetMetadata", before + 1)
    waiting[0].cancel()  # Who gives up does not take the answer from the others.
    gate.set()
    answers = await asyncio.gather(*waiting[1:])
    assert cluster.count("GetMetadata") == before + 1
    assert [node.node_id for node in answers[0]] == [1, 2]


async def test_a_refresh_asks_the_next_node(cluster: FakeCluster, client: Client) -> None:
    cluster.script("GetMetadata", Fault(bare=grpc.StatusCode.UNAVAILABLE), Fault(refuse=errors.NotReady("starting")))
    cluster.script("GetMetadata", *[None] * 10)
    before = cluster.count("GetMetadata")
    with pytest.raises(errors.NotReady):
        await client.cluster.nodes()
    assert cluster.count("GetMetadata") == before + 2
    assert len(await client.cluster.nodes()) == 2


async def test_a_topic_that_one_node_does_not_know_yet(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    info = cluster.topics.pop("t")
    cluster.script("GetMetadata", None)

    def appears_after_the_first_call(node_id: int, method: str) -> None:
        cluster.calls.append((node_id, method))
        if method == "GetMetadata" and cluster.count("GetMetadata") > before + 1:
            cluster.topics["t"] = info

    before = cluster.count("GetMetadata")
    cluster.note_call = appears_after_the_first_call  # type: ignore[method-assign]
    async with client.producer("t") as producer:
        await producer.send(b"a")


async def test_any_bootstrap_address_will_do(cluster: FakeCluster) -> None:
    addresses = f"127.0.0.1:1,{cluster.addresses}"
    async with raftmq.connect(addresses, retry=QUICK) as client:
        assert client.cluster_id == "c1"


async def test_no_bootstrap_address_answers() -> None:
    with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1") as caught:
        async with raftmq.connect("127.0.0.1:1", connect_timeout_ms=20, retry=QUICK):
            pass
    assert caught.value.outcome is errors.Outcome.NOT_APPLIED


async def test_the_address_map_says_where_to_dial(cluster: FakeCluster) -> None:
    real = dict(cluster.ports)
    asked: list[tuple[str, int]] = []
    cluster.create("t", leader=2)

    def address_map(host: str, port: int) -> tuple[str, int]:
        asked.append((host, port))
        return "127.0.0.1", real[port]

    bootstrap = f"127.0.0.1:{real[1]}"
    cluster.ports = {1: 1, 2: 2}  # What the nodes advertise leads nowhere.
    async with (
        raftmq.connect(bootstrap, retry=QUICK, address_map=address_map) as client,
        client.producer("t") as producer,
    ):
        await producer.send(b"a")
    assert ("127.0.0.1", 2) in asked
    assert cluster.count("Produce", 2) == 1


@pytest.mark.parametrize("text", ["", " , ", "host", "host:", ":1", "host:0", "host:65536", "host:x", "::1:9401"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        raftmq.connect(text)
    assert caught.value.field == "addresses"


async def test_a_reply_of_another_cluster_is_no_acknowledgement(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    async with client.producer("t") as producer:
        await producer.send(b"a")
        cluster.cluster_id = "c2"
        with pytest.raises(errors.PreconditionFailed) as caught:
            await producer.send(b"b")
        assert caught.value.outcome is errors.Outcome.UNKNOWN
