"""The producer on a stream: what travels together, and what becomes of it when the stream ends or nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

import grpc.aio
import pytest

import raftmq
from raftmq import errors, status
from raftmq.client import Client, NewRecord
from raftmq.client.connection import Address, NodeChannel
from raftmq.client.produce_stream import ProduceStream
from raftmq.errors import Outcome, RaftmqError
from raftmq.records.batch import seal_batch
from raftmq.records.encoding import encode_record
from raftmq.v1 import broker_pb2, types_pb2
from tests.client.conftest import QUICK
from tests.client.fake_broker import FakeCluster, Fault

if TYPE_CHECKING:
    from raftmq.client.produce_stream import Call

LOST = Fault(lose_answer=True)


def request(value: bytes, topic: str = "t") -> broker_pb2.ProduceRequest:
    batch = seal_batch(types_pb2.BatchHeader(count=1), encode_record(None, value, 0), types_pb2.CODEC_UNSPECIFIED)
    return broker_pb2.ProduceRequest(topic=topic, partition=0, batch=batch)


def never(_: grpc.aio.AioRpcError) -> RaftmqError:
    raise AssertionError("the call does not fail")


async def test_what_callers_hand_in_together_is_one_message(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", stream=True) as producer:
        receipts = await asyncio.gather(*(producer.send(b"%d" % i) for i in range(64)))
        again = await asyncio.gather(*(producer.send(b"%d" % i) for i in range(64, 128)))
    assert [receipt.offset for receipt in [*receipts, *again]] == list(range(128))
    assert partition.values() == [b"%d" % i for i in range(128)]
    assert (cluster.count("ProduceStream"), cluster.count("streamed"), cluster.count("Produce")) == (1, 2, 0)


async def test_producers_share_a_stream_to_each_node_and_it_ends_with_the_client(cluster: FakeCluster) -> None:
    cluster.create("t", partitions=2)
    cluster.create("u")
    cluster.move_leader("t", 1, 2)
    async with raftmq.connect(cluster.addresses, retry=QUICK) as client:
        async with client.producer("t", stream=True) as one, client.producer("u", stream=True) as other:
            await asyncio.gather(one.send(b"a", partition=0), one.send(b"b", partition=1), other.send(b"c"))
        assert cluster.count("ProduceStream", 1) == cluster.count("ProduceStream", 2) == 1
    await cluster.streams.ended()


async def test_a_batch_that_is_refused_fails_alone(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", stream=True) as producer:
        await producer.send(b"a")
        with pytest.raises(errors.UnexpectedOffset) as caught:
            await producer.send_batch([NewRecord(b"late")], partition=0, expected_offset=0)
        assert (caught.value.outcome, caught.value.metadata) == (Outcome.NOT_APPLIED, {"log_end_offset": "1"})
        await producer.send(b"b")
    assert partition.values() == [b"a", b"b"]
    assert cluster.count("ProduceStream") == 1


async def test_what_was_under_way_when_a_stream_broke_is_sent_again_and_stored_once(
    cluster: FakeCluster, client: Client
) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", stream=True, max_batch_records=1) as producer:
        await producer.send(b"0")
        cluster.script("streamed", None, LOST)
        receipts = [await producer.enqueue(b"%d" % i) for i in range(1, 20)]
        await producer.flush()
    assert [receipt.result().offset for receipt in receipts] == list(range(1, 20))
    assert partition.values() == [b"%d" % i for i in range(20)]
    assert partition.violations == []
    assert cluster.count("ProduceStream") == 2


async def test_without_idempotence_what_a_broken_stream_took_along_is_told_as_unknown(
    cluster: FakeCluster, client: Client
) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", stream=True, idempotent=False) as producer:
        cluster.script("streamed", LOST)
        with pytest.raises(errors.Unavailable) as caught:
            await producer.send(b"a")
        assert caught.value.outcome is Outcome.UNKNOWN
        await producer.send(b"b")
    assert partition.values() == [b"a", b"b"]


async def test_a_stream_follows_the_leader(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", stream=True) as producer:
        await producer.send(b"a")
        cluster.move_leader("t", 0, 2)
        await producer.send(b"b")  # handed on, and the answer tells by whom
        await producer.send(b"c")
    assert partition.values() == [b"a", b"b", b"c"]
    assert cluster.count("streamed", 2) == 1


# -- one stream -------------------------------------------------------------------------------------------------------


async def test_who_waits_too_long_is_told_and_leaves_nothing_behind(cluster: FakeCluster) -> None:
    (partition,) = cluster.create("t")
    gate = asyncio.Event()
    cluster.script("streamed", Fault(gate=gate))
    channel = NodeChannel(Address("127.0.0.1", cluster.ports[1]))
    stream = ProduceStream(lambda: channel.broker.ProduceStream(None), never)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await stream.produce(request(b"late"), timeout_ms=1)
    waiting = asyncio.ensure_future(stream.produce(request(b"gone"), timeout_ms=90_000))
    await asyncio.sleep(0)  # it has begun, whether or not the first has arrived
    await cluster.called("streamed", 1)
    assert stream.under_way == 1
    waiting.cancel()
    await asyncio.wait({waiting})
    assert stream.under_way == 0
    gate.set()
    answer = await stream.produce(request(b"on time"), timeout_ms=90_000)
    assert status.is_bare(caught.value) is (caught.value.outcome is Outcome.UNKNOWN)
    # Whatever had left by its deadline was stored all the same, and only that was said to be possible.
    left = [b"late"] if caught.value.outcome is Outcome.UNKNOWN else []
    assert partition.values()[: len(left)] == left
    assert partition.values()[answer.receipt.base_offset] == b"on time"
    assert stream.under_way == 0
    await stream.close()
    await channel.close()
    await cluster.streams.ended()


class StuckCall:
    """A stream whose window is full: nothing leaves any more, and nothing comes."""

    def __init__(self) -> None:
        self.is_full = asyncio.Event()

    async def write(self, _: broker_pb2.ProduceStreamRequest) -> None:
        self.is_full.set()
        await asyncio.Event().wait()

    async def __aiter__(self) -> AsyncIterator[broker_pb2.ProduceStreamResponse]:
        await asyncio.Event().wait()
        yield broker_pb2.ProduceStreamResponse()

    def cancel(self) -> None:
        """Whoever waits is cancelled by the session itself."""


async def test_what_never_left_says_nothing_against_the_node() -> None:
    call = StuckCall()
    stream = ProduceStream(lambda: cast("Call", call), never)
    first = asyncio.ensure_future(stream.produce(request(b"first"), timeout_ms=90_000))
    await call.is_full.wait()
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await stream.produce(request(b"second"), timeout_ms=1)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert not status.is_bare(caught.value)
    await stream.close()
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], errors.Unavailable)


async def test_a_stream_that_is_closed_tells_everybody_who_waits(cluster: FakeCluster) -> None:
    cluster.create("t")
    cluster.script("streamed", Fault(gate=asyncio.Event()))
    channel = NodeChannel(Address("127.0.0.1", cluster.ports[1]))
    stream = ProduceStream(lambda: channel.broker.ProduceStream(None), never)
    held = asyncio.ensure_future(stream.produce(request(b"held"), timeout_ms=90_000))
    await cluster.called("streamed", 1)
    await stream.close()
    with pytest.raises(errors.Unavailable) as caught:
        await held
    assert caught.value.outcome is Outcome.UNKNOWN
    await stream.close()
    await channel.close()
    await cluster.streams.ended()


async def test_a_stream_that_is_closed_before_it_was_opened_leaves_nobody_waiting(cluster: FakeCluster) -> None:
    channel = NodeChannel(Address("127.0.0.1", cluster.ports[1]))
    stream = ProduceStream(lambda: channel.broker.ProduceStream(None), never)
    waiting = asyncio.ensure_future(stream.produce(request(b"?"), timeout_ms=90_000))
    await asyncio.sleep(0)
    await stream.close()
    with pytest.raises(errors.Unavailable) as caught:
        await waiting
    assert caught.value.outcome is Outcome.NOT_APPLIED
    await channel.close()
