"""Quotas of clients: buckets, who pays for what, and what the listener makes of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from hypothesis import given
from hypothesis import strategies as st

from raftmq.broker import quotas as quotas_module
from raftmq.broker.cluster import ClusterView
from raftmq.broker.quotas import Bucket, Quotas, client_of
from raftmq.errors import InvalidArgument, Outcome, QuotaExceeded
from raftmq.ids import GroupId
from raftmq.metadata.binding import bind
from raftmq.metadata.events import ExchangeDeclared
from raftmq.metadata.exchange import Binding, ExchangeKind
from raftmq.metadata.quota import DEFAULT, ClientQuotaSet
from raftmq.status import DETAILS_TRAILER
from raftmq.v1 import broker_pb2, exchanges_pb2, types_pb2
from tests.broker.cluster import Node, refusal
from tests.broker.fakes import FakeCluster, image_of

PRODUCE, FETCH, LIST = "/raftmq.v1.Broker/Produce", "/raftmq.v1.Broker/Fetch", "/raftmq.v1.Broker/ListOffsets"
WORK = "/raftmq.v1.Queue/Work"


@given(
    rate=st.floats(0.5, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1e7)), min_size=1, max_size=60),
)
def test_over_any_time_no_more_is_taken_than_the_rate_a_burst_and_the_last_request(
    rate: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now, taken, last = Bucket(rate, 0.0), 0.0, 0.0, 0.0
    for passes, amount in steps:
        now += passes
        wait_s = bucket.wait_s(rate, now)
        if wait_s == 0:
            bucket.take(amount)
            taken, last = taken + amount, amount
            assert taken <= max(1.0, rate) + now * rate + last + 1e-3
        else:
            # Who waits as long as that is let in.
            now += wait_s * (1 + 1e-9) + 1e-9
            assert bucket.wait_s(rate, now) <= 0.001


class Setting:
    """Quotas of a cluster of three nodes, at a time of the test's choice."""

    def __init__(self, *quotas: ClientQuotaSet) -> None:
        self.now = 0.0
        self.cluster = FakeCluster(1, image_of())
        self.quotas = Quotas(cast(ClusterView, self.cluster), lambda: self.now)
        self.set(*quotas)

    def set(self, *quotas: ClientQuotaSet) -> None:
        self.cluster.image = replace(self.cluster.image, quotas={quota.client_id: quota for quota in quotas})

    def refused(self, client: str, method: str, size: int = 10) -> QuotaExceeded:
        with pytest.raises(QuotaExceeded) as caught:
            self.quotas.admit(client, method, size)
        return caught.value


def test_a_node_grants_its_share_and_says_when_to_come_again() -> None:
    setting = Setting(ClientQuotaSet("app", requests_per_s=6))
    for _ in range(2):
        setting.quotas.admit("app", LIST, 10)
    refused = setting.refused("app", LIST)
    assert refused.outcome is Outcome.NOT_APPLIED
    assert refused.retriable
    assert refused.metadata == {"client": "app", "quota": "requests_per_s"}
    setting.now += refused.retry_after_ms / 1000
    setting.quotas.admit("app", LIST, 10)
    setting.quotas.admit("other", LIST, 10)
    assert setting.quotas.refused == {"requests_per_s": 1}


def test_a_request_of_any_size_passes_and_is_paid_for_afterwards() -> None:
    setting = Setting(ClientQuotaSet(DEFAULT, produce_bytes_per_s=3_000))
    setting.quotas.admit("app", PRODUCE, 11_000)
    assert setting.refused("app", PRODUCE).retry_after_ms == pytest.approx(10_000, abs=5)
    setting.quotas.admit("other", PRODUCE, 10)
    setting.quotas.admit("app", FETCH, 10)


def test_what_was_fetched_is_paid_for_by_the_next_fetch() -> None:
    setting = Setting(ClientQuotaSet("app", fetch_bytes_per_s=3_000))
    setting.quotas.admit("app", FETCH, 10)
    setting.quotas.answered("app", FETCH, 5_000)
    assert setting.refused("app", FETCH).metadata["quota"] == "fetch_bytes_per_s"
    setting.quotas.admit("app", PRODUCE, 10)
    setting.now += 4.1
    setting.quotas.admit("app", FETCH, 10)


def test_quotas_of_their_own_come_before_the_default_and_hold_at_once() -> None:
    setting = Setting(ClientQuotaSet(DEFAULT, requests_per_s=3), ClientQuotaSet("app"))
    for _ in range(50):
        setting.quotas.admit("app", LIST, 10)
    setting.quotas.admit("other", LIST, 10)
    setting.refused("other", LIST)
    setting.set(ClientQuotaSet(DEFAULT, requests_per_s=3_000))
    setting.now += 0.01
    setting.quotas.admit("other", LIST, 10)
    setting.set()
    assert not setting.quotas.active


def test_whoever_sets_quotas_cannot_be_locked_out() -> None:
    setting = Setting(ClientQuotaSet(DEFAULT, requests_per_s=1))
    for _ in range(10):
        setting.quotas.admit("app", "/raftmq.v1.Admin/SetQuota", 10)
        setting.quotas.admit("app", "/raftmq.v1.Cluster/DescribeCluster", 10)


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas_module, "CLIENTS_MAX", 3)
    setting = Setting(ClientQuotaSet(DEFAULT, requests_per_s=3))
    for client in ("a", "b", "c", "d"):
        setting.quotas.admit(client, LIST, 10)
    assert list(setting.quotas._buckets) == ["b", "c", "d"]
    setting.quotas.admit("a", LIST, 10)
    setting.refused("d", LIST)


def test_who_calls() -> None:
    assert client_of((("raftmq-client-id", "app"),), "ipv4:10.0.0.7:5000") == "app"
    assert client_of((("user-agent", "x"),), "ipv4:10.0.0.7:5000") == "@ipv4:10.0.0.7"
    assert client_of(None, "unix:") == "@unix"
    for bad in ("", "a b", "x" * 129, b"\xff"):
        with pytest.raises(InvalidArgument):
            client_of((("raftmq-client-id", bad),), "ipv4:10.0.0.7:5000")


# -- at the listener ---------------------------------------------------------------------------------------------------


def metadata(client: str) -> Any:
    return (("raftmq-client-id", client),)


def produce() -> broker_pb2.ProduceRequest:
    return broker_pb2.ProduceRequest(topic="orders", partition=0, records=[types_pb2.Record(value=b"v")])


async def test_the_listener_refuses_with_details(node: Node) -> None:
    node.cluster.image = replace(
        node.cluster.image, quotas={"app": ClientQuotaSet("app", produce_bytes_per_s=1), "bad": ClientQuotaSet("bad")}
    )
    await node.broker.Produce(produce(), metadata=metadata("app"))
    with pytest.raises(aio.AioRpcError) as refused:
        await node.broker.Produce(produce(), metadata=metadata("app"))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(cast(Any, refused.value.trailing_metadata()))
    details = status_pb2.Status.FromString(cast(bytes, trailers[DETAILS_TRAILER])).details
    quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    assert any(one.Unpack(quota) for one in details)
    assert any(one.Unpack(retry) for one in details)
    assert quota.violations[0].subject == "client:app"
    assert retry.retry_delay.ToMilliseconds() > 1_000
    await node.broker.Produce(produce(), metadata=metadata("other"))
    await node.broker.Produce(produce())
    wrong = await refusal(node.broker.Produce(produce(), metadata=metadata("a b")))
    assert (type(wrong), wrong.field) == (InvalidArgument, "raftmq-client-id")


async def test_a_publish_is_paid_for_once_whatever_it_reaches(node: Node) -> None:
    node.host.leaders = dict.fromkeys(map(GroupId, range(5)), node.host.me)
    image = node.cluster.image.replay(ExchangeDeclared("events", ExchangeKind.FANOUT, ""))
    for topic in ("orders", "single"):
        for event in bind(image, "events", Binding(topic=topic)):
            image = image.replay(event)
    quota = ClientQuotaSet("app", requests_per_s=1, produce_bytes_per_s=1_000_000)
    node.cluster.image = replace(image, quotas={"app": quota})
    request = exchanges_pb2.PublishRequest(exchange="events", records=[types_pb2.Record(value=b"v" * 1_000)])
    answer = await node.exchanges.Publish(request, metadata=metadata("app"))
    assert [one.topic for one in answer.results if not one.HasField("error")] == ["orders", "single"]
    (buckets,) = node.calls.quotas._buckets.values()
    paid = 1_000_000 / 3 - buckets["produce_bytes_per_s"]._tokens
    assert paid == pytest.approx(request.ByteSize())
    assert not node.calls.quotas.refused


async def test_a_stream_is_slowed_down_instead(node: Node) -> None:
    node.cluster.image = replace(node.cluster.image, quotas={"app": ClientQuotaSet("app", requests_per_s=30)})
    stream = cast(Any, node.broker).ProduceStream(metadata=metadata("app"))
    for number in range(15):
        await stream.write(broker_pb2.ProduceStreamRequest(correlation_id=number + 1, produce=produce()))
    await stream.done_writing()
    results = [result async for result in stream]
    assert [result.correlation_id for result in results] == list(range(1, 16))
    assert all(result.HasField("response") for result in results)
    assert node.calls.quotas.delayed["requests_per_s"] > 0


async def test_what_a_worker_says_does_not_wait_until_what_it_got_is_paid_for() -> None:
    """Or the leases of a large answer would run out before their verdicts are read. The next answer waits."""
    setting = Setting(ClientQuotaSet("app", fetch_bytes_per_s=300, produce_bytes_per_s=300))
    setting.quotas.answered("app", WORK, 1_000)
    await setting.quotas.until_admitted("app", WORK, 50)
    waiting = asyncio.create_task(setting.quotas.until_paid("app", WORK))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert setting.quotas.delayed == {"fetch_bytes_per_s": 1}
    setting.set(ClientQuotaSet("app"))
    await waiting


async def test_what_a_worker_publishes_is_produced() -> None:
    setting = Setting(ClientQuotaSet("app", produce_bytes_per_s=300))
    setting.quotas.admit("app", WORK, 1_000)
    with pytest.raises(QuotaExceeded) as refused:
        setting.quotas.admit("app", WORK, 1)
    assert refused.value.metadata["quota"] == "produce_bytes_per_s"
