"""The consumer: every record once and in order, whatever the leader does; what cannot be bridged is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import grpc
import pytest

from raftmq import errors
from raftmq.client import Client, Consumer, NewRecord
from raftmq.records.batch import make_batch
from raftmq.v1 import types_pb2
from tests.client.fake_broker import FakeCluster, FakePartition, Fault
from tests.clock import LoopClock


def fill(partition: FakePartition, batches: int, size: int = 3) -> list[bytes]:
    """Append so many batches of so many records; the values are their offsets."""
    for _ in range(batches):
        first = partition.end
        partition.append(make_batch([types_pb2.Record(value=b"%d" % (first + i)) for i in range(size)]))
    return [b"%d" % offset for offset in range(partition.end)]


async def take(consumer: Consumer, count: int) -> list[bytes | None]:
    return [(await anext(consumer)).value for _ in range(count)]


async def test_what_was_sent_is_read(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    sent = [
        NewRecord(b"v", key=b"k", headers=[("h", b"1"), ("h", b"2")], timestamp_ms=5),
        NewRecord(None, key=b""),
        NewRecord(b""),
    ]
    async with client.producer("t") as producer:
        await producer.send_batch(sent, partition=0)
    async with client.consumer("t", start="earliest", until="high_watermark") as consumer:
        read = [record async for record in consumer]
    assert [(r.value, r.key, r.headers, r.timestamp_ms) for r in read] == [
        (b"v", b"k", (("h", b"1"), ("h", b"2")), 5),
        (None, b"", (), None),
        (b"", None, (), None),
    ]
    assert [(r.topic, r.partition, r.offset, r.leader_epoch) for r in read] == [("t", 0, i, 1) for i in range(3)]
    assert read[0].append_time_ms == 1_700_000_000_000


async def test_reading_begins_at_a_time(cluster: FakeCluster, client: Client) -> None:
    topic = cluster.create("t", partitions=2)
    for partition in topic:
        fill(partition, 3)
        for number, batch in enumerate(partition.batches):
            batch.append_time_ms = 1_000 * (number + 1)
    time = datetime.fromtimestamp(1.5, UTC)
    bounds = await client.list_offsets("t", appended_at=time.astimezone(timezone(timedelta(hours=5))))
    assert [one.offset_appended_at for one in bounds] == [3, 3]
    async with client.consumer("t", start=time, until="high_watermark") as consumer:
        read = [(record.partition, record.offset) async for record in consumer]
    assert sorted(read) == [(p, o) for p in (0, 1) for o in range(3, 9)]
    async with client.consumer("t", start=datetime(2100, 1, 1, tzinfo=UTC), until="high_watermark") as consumer:
        assert [record async for record in consumer] == []


async def test_a_time_without_a_zone_is_refused(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    with pytest.raises(errors.InvalidArgument) as caught:
        client.consumer("t", start=datetime(2026, 1, 1))
    assert caught.value.field == "start"
    with pytest.raises(errors.InvalidArgument) as caught:
        await client.list_offsets("t", appended_at=datetime(2026, 1, 1))
    assert caught.value.field == "appended_at"


async def test_a_batch_that_cannot_be_inflated_is_an_error_after_all_that_come_before_it(
    cluster: FakeCluster, client: Client
) -> None:
    (partition,) = cluster.create("t")
    values = fill(partition, 2)
    bomb = make_batch([types_pb2.Record(value=bytes(10_000))], codec=types_pb2.CODEC_ZSTD)
    bomb.records = bomb.records[:-1]
    bomb.header.ClearField("crc32c")
    partition.append(bomb)
    async with client.consumer("t", start="earliest") as consumer:
        assert await take(consumer, 6) == values
        with pytest.raises(errors.CorruptBatch, match="CODEC_ZSTD"):
            await anext(consumer)
        assert consumer.position(0) == 6


async def test_partitions_are_merged_and_each_keeps_its_order(cluster: FakeCluster, client: Client) -> None:
    topic = cluster.create("t", partitions=3)
    everything = [fill(partition, batches=5) for partition in topic]
    async with client.consumer("t", start="earliest", until="high_watermark", max_bytes=1) as consumer:
        read = [record async for record in consumer]
    for number, values in enumerate(everything):
        assert [record.value for record in read if record.partition == number] == values
    assert {record.partition for record in read[:9]} == {0, 1, 2}


async def test_batches_give_the_same_records(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    everything = fill(partition, batches=4)
    async with client.consumer("t", start="earliest", until="high_watermark") as consumer:
        batches = [batch async for batch in consumer.batches()]
        assert consumer.position(0) == 12
    assert [record.value for batch in batches for record in batch.records] == everything
    assert [batch.next_offset for batch in batches] == [3, 6, 9, 12]
    assert {batch.high_watermark for batch in batches} == {12}


@pytest.mark.parametrize(
    "start, first", [("earliest", 0), ("latest", 12), (4, 4), ({0: 7}, 7)], ids=["earliest", "latest", "4", "map"]
)
async def test_where_it_starts(cluster: FakeCluster, client: Client, start: Any, first: int) -> None:
    (partition,) = cluster.create("t")
    fill(partition, batches=4)
    async with client.consumer("t", start=start) as consumer:
        assert consumer.position(0) == first
        fill(partition, batches=1)
        assert (await anext(consumer)).offset == first
        assert consumer.position(0) == first + 1


async def test_it_ends_where_the_end_was_or_where_it_is_told(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    fill(partition, batches=2)
    async with client.consumer("t", start=1, until="high_watermark") as consumer:
        fill(partition, batches=2)
        assert [record.offset async for record in consumer] == [1, 2, 3, 4, 5]
    async with client.consumer("t", start=1, until={0: 5}) as consumer:
        assert [record.offset async for record in consumer] == [1, 2, 3, 4]
    async with client.consumer("t", start="latest", until="high_watermark") as consumer:
        assert [record async for record in consumer] == []


async def test_it_waits_for_what_comes(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.consumer("t", start="latest", max_wait_ms=60_000) as consumer:
        waiting = asyncio.ensure_future(anext(consumer))
        await cluster.called("Fetch", 1)
        fill(partition, batches=1)
        assert (await waiting).offset == 0


async def test_the_leader_moves_and_its_node_dies(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    fill(partition, batches=2)
    async with client.consumer("t", start="earliest", max_wait_ms=60_000) as consumer:
        assert await take(consumer, 6) == [b"%d" % i for i in range(6)]
        await cluster.called("Fetch", 2)  # The long poll for what comes next.
        await cluster.stop_node(1)
        cluster.move_leader("t", 0, 2)
        fill(partition, batches=2)
        assert await take(consumer, 6) == [b"%d" % i for i in range(6, 12)]
        before = cluster.count("Fetch", 2)
        fill(partition, batches=1)
        await take(consumer, 3)
        assert cluster.count("Fetch", 2) > before


async def test_no_gap_and_no_repeat_under_faults(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    everything = fill(partition, batches=30)
    faults: Sequence[Fault | None] = [
        Fault(lose_answer=True),
        None,
        Fault(bare=grpc.StatusCode.UNAVAILABLE),
        Fault(refuse=errors.NotLeader("not me")),
        None,
        Fault(refuse=errors.NotReady("starting")),
        Fault(refuse=errors.UnknownTopic("behind")),
    ]
    cluster.script("Fetch", *[faults[i % len(faults)] for i in range(60)])
    async with client.consumer("t", start=0, until="high_watermark", max_bytes=40, prefetch_bytes=1) as consumer:
        assert [record.value async for record in consumer] == everything


async def test_prefetch_is_bounded(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    everything = fill(partition, batches=50)
    async with client.consumer("t", start=0, until="high_watermark", max_bytes=1, prefetch_bytes=1) as consumer:
        await anext(consumer)
        # One batch is being read, one is ready, and one more may have been asked for.
        for _ in range(50):
            await client.cluster.nodes()
        assert cluster.count("Fetch") <= 3
        rest = [record.value async for record in consumer]
    assert [everything[0], *rest] == everything


async def test_a_hole_is_raised_after_what_comes_before_it(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    fill(partition, batches=3)
    del partition.batches[1]
    async with client.consumer("t", start=0) as consumer:
        assert await take(consumer, 3) == [b"0", b"1", b"2"]
        with pytest.raises(errors.DataLoss, match="expected offset 3, the next batch begins at 6"):
            await anext(consumer)
        assert consumer.position(0) == 3


async def test_bytes_that_fail_their_checksum_are_not_given_out(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    fill(partition, batches=2)
    damaged = bytearray(partition.batches[1].records)
    damaged[-1] ^= 1
    partition.batches[1].records = bytes(damaged)
    async with client.consumer("t", start=0) as consumer:
        assert await take(consumer, 3) == [b"0", b"1", b"2"]
        with pytest.raises(errors.CorruptBatch, match="offset 3"):
            await anext(consumer)


async def test_trimmed_records_are_an_error_unless_chosen_otherwise(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    fill(partition, batches=3)
    del partition.batches[0]
    partition.log_start = 3
    async with client.consumer("t", start=1) as consumer:
        with pytest.raises(errors.OffsetOutOfRange) as caught:
            await anext(consumer)
    assert caught.value.metadata == {"log_start_offset": "3", "high_watermark": "9"}
    async with client.consumer("t", start=1, on_trimmed="earliest") as consumer:
        assert (await anext(consumer)).offset == 3
        assert consumer.trimmed(0) == 2


async def test_beyond_the_end_is_an_error_always(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    fill(partition, batches=1)
    async with client.consumer("t", start=4, on_trimmed="earliest") as consumer:
        with pytest.raises(errors.OffsetOutOfRange):
            await anext(consumer)


async def test_nobody_answers_for_too_long(cluster: FakeCluster, client: Client, clock: LoopClock) -> None:
    cluster.create("t", leader=0)
    cluster.script("Fetch", *[Fault(first=clock.at_call(3, 61))] * 3)
    async with client.consumer("t", start=0, unavailable_timeout_ms=60_000) as consumer:
        with pytest.raises(errors.NoLeader):
            await anext(consumer)
        with pytest.raises(errors.NoLeader):
            await anext(consumer)


async def test_parameters_are_checked(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t", partitions=2)
    wrong: dict[str, dict[str, Any]] = {
        "start": {},
        "until": {"start": 0, "until": "tomorrow"},
        "on_trimmed": {"start": 0, "on_trimmed": "latest"},
        "max_bytes": {"start": 0, "max_bytes": 9 * 1024 * 1024},
    }
    for field, arguments in wrong.items():
        with pytest.raises(errors.InvalidArgument) as caught:
            client.consumer("t", **arguments)
        assert caught.value.field == field
    with pytest.raises(errors.UnknownPartition):
        await client.consumer("t", start=0, partitions=[2]).__aenter__()
    with pytest.raises(errors.InvalidArgument):
        await client.consumer("t", start={0: 0}).__aenter__()
    async with client.consumer("t", start=0, partitions=[1]) as consumer:
        assert consumer.partitions == (1,)
        with pytest.raises(errors.UnknownPartition):
            consumer.position(0)
