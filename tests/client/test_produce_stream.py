"""The producer on a stream: what travels together, and what becomes of it when the stream ends or nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

import grpc.aio
import pytest

import raftmq
from raftmq import errors, status
from raftmq.broker.produce_stream import IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX
from raftmq.client import Client, NewRecord
from raftmq.client.connection import Address, NodeChannel
from raftmq.client.produce_stream import WINDOW, WINDOW_BYTES, ProduceStream
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


class Node:
    """The other end of a stream, which reads no further than a node does. Partitions that are `stuck` do not answer."""

    def __init__(self) -> None:
        self.stuck: set[int] = set()
        self.taken: list[tuple[int, bytes]] = []
        """Partition and records, in the order in which they were read."""
        self._under_way: dict[int, int] = {}
        self._results: asyncio.Queue[broker_pb2.ProduceStreamResponse] = asyncio.Queue()
        self._room = asyncio.Event()

    async def write(self, message: broker_pb2.ProduceStreamRequest) -> None:
        size = message.ByteSize()
        while self._under_way and (
            len(self._under_way) >= IN_FLIGHT_MAX or sum(self._under_way.values()) + size > IN_FLIGHT_BYTES_MAX
        ):
            self._room.clear()
            await self._room.wait()
        self._under_way[message.correlation_id] = size
        self.taken.append((message.produce.partition, message.produce.batch.records))
        if message.produce.partition not in self.stuck:
            self.settle(message.correlation_id)

    def settle(self, number: int) -> None:
        self._results.put_nowait(
            broker_pb2.ProduceStreamResponse(correlation_id=number, response=broker_pb2.ProduceResponse())
        )
        del self._under_way[number]
        self._room.set()

    def settle_all(self) -> None:
        self.stuck.clear()
        for number in list(self._under_way):
            self.settle(number)

    async def __aiter__(self) -> AsyncIterator[broker_pb2.ProduceStreamResponse]:
        while True:
            yield await self._results.get()

    def cancel(self) -> None:
        """Whoever waits is cancelled by the session itself."""


async def passes() -> None:
    """Whatever can be done by now is done."""
    for _ in range(1_000):
        await asyncio.sleep(0)


def begin(stream: ProduceStream, partition: int, size: int = 1) -> asyncio.Task[broker_pb2.ProduceResponse]:
    asked = broker_pb2.ProduceRequest(
        topic="t", partition=partition, batch=types_pb2.RecordBatch(records=b"%d" % partition * size)
    )
    return asyncio.create_task(stream.produce(asked, timeout_ms=3_600_000))


@pytest.mark.parametrize(
    ("stuck", "each", "size"), [(1, 1_000, 1), (3, 500, 1), (40, 20, 1), (1, 100, 2**20), (3, 5, 5 * 2**20)]
)
async def test_partitions_that_do_not_answer_keep_no_other_from_the_stream(stuck: int, each: int, size: int) -> None:
    """They once could take all that a node reads of a stream, and the others stood behind them."""
    node = Node()
    node.stuck = set(range(1, stuck + 1))
    stream = ProduceStream(lambda: cast("Call", node), never)
    waiting = [begin(stream, partition, size) for _ in range(each) for partition in sorted(node.stuck)]
    await passes()
    healthy = [begin(stream, partition) for partition in (0, 99, 0, 0)]
    await passes()
    assert all(task.done() for task in healthy)
    assert not any(task.done() for task in waiting)
    node.settle_all()
    await asyncio.gather(*waiting)
    assert len(node.taken) == len(waiting) + len(healthy)
    await stream.close()


async def test_what_leaves_for_a_partition_leaves_in_order_and_those_who_went_do_not_leave() -> None:
    node = Node()
    node.stuck = {1}
    stream = ProduceStream(lambda: cast("Call", node), never)
    waiting = [begin(stream, 1, size) for size in range(1, 201)]
    await passes()
    under_way = len(node.taken)
    assert 1 < under_way <= IN_FLIGHT_MAX // 2
    for task in waiting[150:]:
        task.cancel()
    await passes()
    assert stream.under_way == 150
    node.settle_all()
    await asyncio.gather(*waiting[:150])
    assert [len(records) for _, records in node.taken] == list(range(1, 151))
    await stream.close()
    assert stream.under_way == 0


def test_the_window_is_that_of_a_node() -> None:
    assert (WINDOW, WINDOW_BYTES) == (IN_FLIGHT_MAX, IN_FLIGHT_BYTES_MAX)


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
