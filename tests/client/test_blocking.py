"""The client without an event loop: the same promises, waited for; and records posted without waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

import raftmq
from raftmq import errors
from raftmq.client import blocking
from raftmq.client.blocking import BlockingClient
from raftmq.errors import Outcome, RaftmqError
from tests.client.fake_broker import FakeCluster, Fault

T = TypeVar("T")
End = raftmq.RecordReceipt | RaftmqError


async def program(cluster: FakeCluster, work: Callable[[BlockingClient], T]) -> T:
    """Run `work` in a thread, as a program without a loop would."""

    def main() -> T:
        with raftmq.blocking.connect(cluster.addresses) as client:
            return work(client)

    return await asyncio.to_thread(main)


async def test_send_and_receive(cluster: FakeCluster) -> None:
    def work(client: BlockingClient) -> None:
        client.run(client.admin.create_topic("t", partitions=1))
        with client.producer("t", compression="lz4") as producer:
            receipt = producer.send(b"a", key=b"k")
            batch = producer.send_batch([raftmq.NewRecord(b"b"), raftmq.NewRecord(b"c")], partition=0)
        assert (receipt.offset, batch.base_offset) == (0, 1)
        assert client.list_offsets("t")[0].high_watermark == 3
        with client.consumer("t", start="earliest", until="high_watermark") as consumer:
            positions = []
            values = []
            for record in consumer:
                values.append(record.value)
                positions.append(consumer.position(0))
        assert (values, positions) == ([b"a", b"b", b"c"], [1, 2, 3])
        with client.consumer("t", start="earliest", until="high_watermark") as consumer:
            assert [record.value for batch in consumer.batches() for record in batch.records] == values
        with client.consumer("t", start=0) as consumer:
            assert next(consumer).value == b"a"
            assert (consumer.position(0), consumer.partitions, consumer.trimmed(0)) == (1, (0,), 0)

    await program(cluster, work)
    assert not [thread for thread in threading.enumerate() if thread.name == "raftmq-client"]


async def test_errors_are_raised_where_they_are_waited_for(cluster: FakeCluster) -> None:
    cluster.create("t")

    def work(client: BlockingClient) -> None:
        with pytest.raises(errors.UnknownTopic):
            client.run(client.admin.describe_topic("nothing"))
        with pytest.raises(errors.InvalidArgument):
            client.producer("t", max_in_flight=0)
        with pytest.raises(errors.UnknownTopic), client.producer("nothing"):
            pass
        with client.producer("t") as producer, pytest.raises(errors.UnknownPartition):
            producer.send(b"v", partition=9)

    await program(cluster, work)


async def test_a_cluster_that_is_not_there_leaves_no_thread(cluster: FakeCluster) -> None:
    def main() -> None:
        with (
            pytest.raises(errors.Unavailable),
            blocking.connect("127.0.0.1:1", connect_timeout_ms=50),
        ):
            pass

    await asyncio.to_thread(main)
    assert not [thread for thread in threading.enumerate() if thread.name == "raftmq-client"]


async def test_posting_never_waits_and_every_record_is_told_its_end(cluster: FakeCluster) -> None:
    """Not even while nobody answers: the gate opens only after all are posted."""
    (partition,) = cluster.create("t")
    gate = asyncio.Event()
    cluster.script("Produce", Fault(gate=gate))
    loop = asyncio.get_running_loop()
    ends: list[End] = []

    def work(client: BlockingClient) -> None:
        with client.producer("t") as producer:
            for number in range(2_000):
                producer.post(b"%d" % number, on_delivery=ends.append)
            producer.post(b"bad", partition=7, on_delivery=ends.append)
            producer.post("no bytes", on_delivery=ends.append)  # type: ignore[arg-type]
            producer.post(b"told to nobody")
            loop.call_soon_threadsafe(gate.set)
            producer.flush()
            assert len(ends) == 2_002

    await program(cluster, work)
    receipts = [end for end in ends if isinstance(end, raftmq.RecordReceipt)]
    assert [receipt.offset for receipt in receipts] == list(range(2_000))
    assert partition.values() == [*(b"%d" % number for number in range(2_000)), b"told to nobody"]
    refused = [end for end in ends if isinstance(end, RaftmqError)]
    assert [(type(error), error.outcome) for error in refused] == [
        (errors.UnknownPartition, Outcome.NOT_APPLIED),
        (errors.InvalidArgument, Outcome.NOT_APPLIED),
    ]


async def test_what_is_posted_is_bounded(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.create("t")
    gate = asyncio.Event()
    cluster.script("Produce", Fault(gate=gate))
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(blocking, "POSTED_BYTES_MAX", 10_000)
    ends: list[End] = []

    def work(client: BlockingClient) -> None:
        with client.producer("t") as producer:
            taken = 9
            for _ in range(taken):
                producer.post(bytes(1_000), on_delivery=ends.append)
            with pytest.raises(errors.Overloaded) as caught:
                producer.post(bytes(1_000), on_delivery=ends.append)
            assert caught.value.outcome is Outcome.NOT_APPLIED
            loop.call_soon_threadsafe(gate.set)
            producer.flush()
            assert len(ends) == taken
            producer.post(bytes(1_000), on_delivery=ends.append)
        assert len(ends) == taken + 1, "closing delivers what is posted"
        with pytest.raises(RuntimeError, match="not open"):
            producer.post(b"x")

    await program(cluster, work)


async def test_a_callback_that_fails_stops_nothing(cluster: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
    (partition,) = cluster.create("t")
    ends: list[End] = []

    def fail(_end: End) -> None:
        raise ValueError("of the caller's own making")

    def work(client: BlockingClient) -> None:
        with client.producer("t") as producer:
            producer.post(b"a", on_delivery=fail)
            producer.post(b"bad", partition=7, on_delivery=fail)
            producer.post(b"b", on_delivery=ends.append)

    await program(cluster, work)
    assert partition.values() == [b"a", b"b"]
    assert len(ends) == 1
    assert caplog.text.count("a delivery callback failed") == 2
