"""The producer against scripted faults: order, no duplicates, honest outcomes, bounded memory."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import partial
from typing import Literal

import grpc
import pytest

from raftmq import errors
from raftmq.client import Acks, BatchReceipt, Client, NewRecord, Producer
from raftmq.errors import Outcome, RaftmqError
from raftmq.records.slots import partition_for_key
from raftmq.v1 import types_pb2
from tests.client.fake_broker import FakeCluster, Fault
from tests.clock import LoopClock

LOST = Fault(lose_answer=True)
UNAVAILABLE = Fault(bare=grpc.StatusCode.UNAVAILABLE)


async def enqueue_batches(producer: Producer, count: int, size: int = 3) -> list[asyncio.Future[BatchReceipt]]:
    """Batches 0 to count - 1, of `size` records each: b"0.0", b"0.1" ..."""
    receipts: list[asyncio.Future[BatchReceipt]] = []
    for number in range(count):
        records = [NewRecord(f"{number}.{place}".encode()) for place in range(size)]
        receipts.append(await producer.enqueue_batch(records, partition=0))
    return receipts


def expected(count: int, size: int = 3) -> list[bytes]:
    return [f"{number}.{place}".encode() for number in range(count) for place in range(size)]


async def test_a_receipt_tells_where_the_record_is(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t") as producer:
        first = await producer.send(b"a", key=b"k", headers=[("h", b"1")], timestamp_ms=5)
        second = await producer.send(None)
    assert (first.topic, first.partition, first.offset, second.offset) == ("t", 0, 0, 1)
    assert (first.leader_epoch, first.replicas, first.duplicate) == (1, (1, 2), False)
    assert first.timestamp_ms == 1_700_000_000_000
    assert first.batch.attempts == 1
    assert first.batch.latency_us > 0
    assert partition.values() == [b"a", b""]


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
async def test_batches_are_compressed_as_asked_and_consumers_undo_it(
    cluster: FakeCluster, client: Client, compression: Literal["zstd", "lz4"]
) -> None:
    (partition,) = cluster.create("t")
    sent = [NewRecord(b"value %d of many that look alike" % i, key=b"k") for i in range(1000)]
    async with client.producer("t", compression=compression) as producer:
        await producer.send_batch(sent, partition=0)
        await producer.send(b"x")
    first, last = partition.batches
    assert first.header.codec == types_pb2.Codec.Value(f"CODEC_{compression.upper()}")
    assert len(first.records) < first.header.raw_size / 3
    assert last.header.codec == types_pb2.CODEC_UNSPECIFIED, "compressing one byte makes it larger"
    async with client.consumer("t", start=0, until="high_watermark") as consumer:
        read = [record.value async for record in consumer]
    assert read == [*(record.value for record in sent), b"x"]


def test_an_unknown_compression_is_refused(client: Client) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        client.producer("t", compression="gzip")  # type: ignore[arg-type]
    assert caught.value.field == "compression"


async def test_a_conditional_append_fails_alone(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t") as producer:
        first = await producer.send_batch([NewRecord(b"a")] * 2, partition=0, expected_offset=0)
        assert first.base_offset == 0
        late = await producer.enqueue_batch([NewRecord(b"late")], partition=0, expected_offset=0)
        behind = await producer.enqueue_batch([NewRecord(b"b")], partition=0)
        with pytest.raises(errors.UnexpectedOffset) as caught:
            await late
        assert (caught.value.outcome, caught.value.metadata) == (Outcome.NOT_APPLIED, {"log_end_offset": "2"})
        assert (await behind).base_offset == 2
        cluster.script("Produce", LOST)
        retried = await producer.send_batch([NewRecord(b"c")], partition=0, expected_offset=3)
        assert (retried.base_offset, retried.duplicate) == (3, True)
        with pytest.raises(errors.InvalidArgument):
            await producer.enqueue_batch([NewRecord(b"?")], expected_offset=9)
    assert partition.values() == [b"a", b"a", b"b", b"c"]
    assert partition.violations == []


async def test_records_handed_in_together_travel_together(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t") as producer:
        receipts = await asyncio.gather(*(producer.send_nowait(b"%d" % i) for i in range(500)))
    assert [receipt.offset for receipt in receipts] == list(range(500))
    assert partition.values() == [b"%d" % i for i in range(500)]
    assert cluster.count("Produce") == 1


async def test_while_a_batch_is_under_way_records_gather(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", linger_ms=60_000) as producer:
        await producer.send(b"0")  # Idle: it leaves at once, whatever the linger.
        gate = asyncio.Event()
        cluster.script("Produce", Fault(gate=gate))
        held = producer.send_nowait(b"1")
        await cluster.called("Produce", 2)
        gathered = [producer.send_nowait(b"2")]
        await client.cluster.nodes()  # Long enough for a batch to leave.
        gathered.append(producer.send_nowait(b"3"))
        await client.cluster.nodes()
        assert cluster.count("Produce") == 2
        gate.set()
        await asyncio.gather(held, *gathered)
    assert [batch.header.count for batch in partition.batches] == [1, 1, 2]


async def test_but_not_longer_than_the_linger(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    async with client.producer("t", linger_ms=1) as producer:
        await producer.send(b"0")
        gate = asyncio.Event()
        cluster.script("Produce", Fault(gate=gate))
        held = producer.send_nowait(b"1")
        await cluster.called("Produce", 2)
        lingering = producer.send_nowait(b"2")
        await cluster.called("Produce", 3)
        gate.set()
        await asyncio.gather(held, lingering)


async def test_batches_are_full_by_bytes_and_by_records(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", max_batch_bytes=1_000, max_batch_records=4) as producer:
        for size in (10, 10, 10, 10, 950, 10):
            producer.send_nowait(bytes(size))
    assert [batch.header.count for batch in partition.batches] == [4, 1, 1]


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_limit_that_is_lowered_meanwhile_costs_nobody_a_record(
    cluster: FakeCluster, client: Client, idempotent: bool, compression: Literal["none", "zstd"]
) -> None:
    """What is under way and what waits is divided; what is made from then on is small. Nothing is lost or doubled."""
    (partition,) = cluster.create("t")
    gate = asyncio.Event()
    cluster.script("Produce", None, Fault(gate=gate))
    noise = random.Random(1)
    values = [b"%04d" % number + noise.randbytes(96) for number in range(60)]
    async with client.producer("t", max_batch_bytes=3_000, idempotent=idempotent, compression=compression) as producer:
        await producer.send(b"first")
        receipts = [producer.send_nowait(value) for value in values[:40]]
        flushed = asyncio.ensure_future(producer.flush())
        await cluster.called("Produce", 2)
        cluster.alter("t", 500)
        gate.set()
        offsets = [(await receipt).offset for receipt in receipts]
        await flushed
        before = len(partition.batches)
        receipts = [producer.send_nowait(value) for value in values[40:]]
        offsets += [(await receipt).offset for receipt in receipts]
        assert producer.buffered_bytes == 0
        with pytest.raises(errors.MessageTooLarge):
            producer.send_nowait(bytes(600))
        with pytest.raises(errors.MessageTooLarge):
            await producer.send_batch([NewRecord(value) for value in values[:6]])
        cluster.alter("t", 5_000)
        await client.cluster.nodes()  # refreshes
        await producer.send(bytes(600))
    assert offsets == list(range(1, 61))
    assert partition.values()[1:61] == values
    assert partition.violations == []
    assert all(len(batch.records) <= 500 for batch in partition.batches[before:-1])
    assert cluster.count("InitProducer") == idempotent, "it went on in the same epoch"


async def test_a_batch_that_may_be_stored_is_not_divided(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    cluster.script("Produce", Fault(lose_answer=True, first=lambda: None), Fault(refuse=errors.MessageTooLarge("new")))
    async with client.producer("t") as producer:
        sent = [producer.send_nowait(b"%d" % number) for number in range(4)]
        for receipt in sent:
            with pytest.raises(errors.MessageTooLarge) as caught:
                await receipt
            assert caught.value.outcome is Outcome.UNKNOWN
    assert partition.values() == [b"0", b"1", b"2", b"3"]


async def test_keys_go_to_their_partition_and_the_rest_in_whole_batches(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t", partitions=4)
    async with client.producer("t", max_batch_records=10) as producer:
        keyed = await asyncio.gather(*(producer.send_nowait(b"v", key=b"%d" % i) for i in range(20)))
        loose = await asyncio.gather(*(producer.send_nowait(b"v") for _ in range(40)))
    assert [receipt.partition for receipt in keyed] == [partition_for_key(b"%d" % i, 4) for i in range(20)]
    assert sorted({receipt.partition for receipt in loose}) == [0, 1, 2, 3]
    assert [receipt.partition for receipt in loose[:10]] == [loose[0].partition] * 10


async def test_a_lost_answer_is_no_duplicate(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    cluster.script("Produce", LOST, LOST)
    async with client.producer("t") as producer:
        receipt = await producer.send(b"a")
    assert partition.values() == [b"a"]
    assert (receipt.offset, receipt.duplicate, receipt.batch.attempts) == (0, True, 3)


async def test_go_back_n_after_a_refusal_in_the_middle(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    # The first is accepted alone and opens the window; of the next eight the second is refused, so that the six
    # behind it meet a gap.
    cluster.script("Produce", None, None, Fault(refuse=errors.NotEnoughReplicas("two of three")))
    async with client.producer("t", max_in_flight=8) as producer:
        await asyncio.gather(*await enqueue_batches(producer, 9))
    assert partition.values() == expected(9)
    assert cluster.count("Produce") == 9 + 7


async def test_an_overtaken_batch_is_sent_again_in_order(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    gate = asyncio.Event()
    cluster.script("Produce", None, Fault(gate=gate))
    async with client.producer("t", max_in_flight=3) as producer:
        receipts = await enqueue_batches(producer, 3)
        await cluster.called("Produce", 3)  # The third has come before the second, which is held.
        gate.set()
        await asyncio.gather(*receipts)
    assert partition.values() == expected(3)
    assert cluster.count("Produce") == 4


@pytest.mark.parametrize("seed", range(12))
async def test_order_and_no_duplicates_under_random_faults(cluster: FakeCluster, client: Client, seed: int) -> None:
    rng = random.Random(seed)
    (partition,) = cluster.create("t")
    faults: list[Fault | None] = [
        None,
        None,
        LOST,
        UNAVAILABLE,
        Fault(bare=grpc.StatusCode.INTERNAL),
        Fault(refuse=errors.NotLeader("not me")),
        Fault(refuse=errors.NoLeader("nobody")),
        Fault(refuse=errors.Overloaded("full", retry_after_ms=1)),
        Fault(refuse=errors.LeadershipLost("gone")),
        Fault(refuse=errors.DeadlineExceeded("late")),
    ]
    cluster.script("Produce", *rng.choices(faults, weights=[6, 6, *[1] * 8], k=200))
    async with client.producer("t", max_in_flight=rng.choice([1, 2, 8])) as producer:
        receipts = await asyncio.gather(*await enqueue_batches(producer, 60, size=2))
    assert partition.values() == expected(60, size=2)
    assert [receipt.base_offset for receipt in receipts] == list(range(0, 120, 2))


@pytest.mark.parametrize("seed", range(25))
async def test_every_outcome_is_true_when_the_delivery_time_is_short(
    cluster: FakeCluster, client: Client, clock: LoopClock, seed: int
) -> None:
    """Some batches fail for good, some attempts are applied long after the client has given them up. Then still:
    acknowledged is stored once, NOT_APPLIED never, UNKNOWN at most once; and nothing overtakes.
    """
    rng = random.Random(seed)
    (partition,) = cluster.create("t")
    for _ in range(400):
        fault = rng.choice(
            [
                None,
                LOST,
                UNAVAILABLE,
                Fault(later=rng.randrange(1, 12)),
                Fault(later=rng.randrange(1, 40)),
                Fault(refuse=errors.NoLeader("nobody")),
                Fault(refuse=errors.MessageTooLarge("final")) if rng.random() < 0.3 else None,
            ]
        )
        seconds = rng.choice([0, 0, 0, 20, 61])
        cluster.script("Produce", replace(fault or Fault(), first=partial(clock.advance, seconds)))
    delivery_ms = rng.choice([60_000, 180_000, 10_000_000])
    async with client.producer("t", max_in_flight=4, delivery_timeout_ms=delivery_ms) as producer:
        receipts: list[asyncio.Future[BatchReceipt]] = []
        for number in range(40):
            receipts.append(await producer.enqueue_batch([NewRecord(b"%d" % number)], partition=0))
            if rng.random() < 0.3:
                await asyncio.wait(receipts, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait([rng.choice(receipts)])
    for _ in range(40):  # What is still under way arrives.
        await client.cluster.nodes()
    stored = [int(value) for value in partition.values()]
    assert stored == sorted(set(stored)), "a duplicate, or one overtook another"
    for number, receipt in enumerate(receipts):
        error = receipt.exception()
        if error is None:
            assert number in stored
            assert receipt.result().base_offset == stored.index(number)
        else:
            assert isinstance(error, RaftmqError)
            assert error.outcome is not Outcome.NOT_APPLIED or number not in stored, error
    assert partition.violations == []


async def test_the_leader_moves_and_its_node_dies(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t") as producer:
        await asyncio.gather(*await enqueue_batches(producer, 4))
        await cluster.stop_node(1)
        cluster.move_leader("t", 0, 2)
        receipt = await producer.send(b"after", partition=0)
        assert receipt.leader_epoch == 2
        before = cluster.count("Produce", 2)
        await producer.send(b"direct", partition=0)
        assert cluster.count("Produce", 2) == before + 1
    assert partition.values() == [*expected(4), b"after", b"direct"]


async def test_a_reply_tells_who_leads_now(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    async with client.producer("t") as producer:
        await producer.send(b"a")
        cluster.move_leader("t", 0, 2)
        await producer.send(b"b")  # Forwarded by the node that led before.
        assert cluster.count("Produce", 1) == 2
        await producer.send(b"c")
        assert cluster.count("Produce", 1) == 2
        assert cluster.count("Produce", 2) == 1


async def test_without_idempotence_an_unknown_outcome_is_raised(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    cluster.script("Produce", Fault(refuse=errors.NoLeader("nobody")), LOST)
    async with client.producer("t", idempotent=False) as producer:
        with pytest.raises(errors.Unavailable) as caught:
            await producer.send(b"a")
        await producer.send(b"b")
    assert caught.value.outcome is Outcome.UNKNOWN
    assert partition.values() == [b"a", b"b"]
    assert cluster.count("InitProducer") == 0


async def test_without_idempotence_nothing_is_sent_again_from_the_window_either(
    cluster: FakeCluster, client: Client
) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", idempotent=False, max_in_flight=2) as producer:
        await producer.send(b"a")
        cluster.script("Produce", LOST)
        with pytest.raises(errors.Unavailable) as caught:
            await producer.send(b"b")
        cluster.script("Produce", Fault(refuse=errors.NoLeader("nobody")))
        await producer.send(b"c")
    assert caught.value.outcome is Outcome.UNKNOWN
    assert partition.values() == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "fault, outcome",
    [
        (Fault(refuse=errors.NoLeader("nobody")), Outcome.NOT_APPLIED),
        (Fault(refuse=errors.LeadershipLost("gone")), Outcome.UNKNOWN),
        (Fault(refuse=errors.DeadlineExceeded("wait incomplete", outcome=Outcome.APPLIED)), Outcome.APPLIED),
    ],
)
async def test_the_delivery_time_ends_with_the_outcome_that_is_known(
    cluster: FakeCluster, client: Client, clock: LoopClock, fault: Fault, outcome: Outcome
) -> None:
    cluster.create("t")
    cluster.script("Produce", *[replace(fault, first=clock.at_call(3, 61))] * 3)
    async with client.producer("t", delivery_timeout_ms=60_000) as producer:
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await producer.send(b"a")
    assert cluster.count("Produce") == 3
    assert caught.value.outcome is outcome
    assert fault.refuse is not None
    assert caught.value.metadata["last_reason"] == fault.refuse.reason


async def test_after_a_refused_batch_its_numbers_are_given_out_again(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    cluster.script("Produce", None, Fault(refuse=errors.MessageTooLarge("no")), *[None] * 2)
    cluster.script("Produce", Fault(refuse=errors.MessageTooLarge("no")))  # The probe that follows.
    async with client.producer("t", max_in_flight=3) as producer:
        results = await asyncio.gather(*await enqueue_batches(producer, 5), return_exceptions=True)
    assert [isinstance(result, errors.MessageTooLarge) for result in results] == [False, True, False, False, False]
    assert partition.values() == [v for v in expected(5) if not v.startswith(b"1.")]
    assert cluster.count("InitProducer") == 1


async def test_a_batch_of_unknown_outcome_is_raised_and_the_rest_goes_on_under_a_new_epoch(
    cluster: FakeCluster, client: Client, clock: LoopClock
) -> None:
    (partition,) = cluster.create("t")
    late = Fault(refuse=errors.DeadlineExceeded("late"), first=clock.at_call(3, 61))
    cluster.script("Produce", *[late] * 3)
    async with client.producer("t", delivery_timeout_ms=60_000) as producer:
        with pytest.raises(errors.DeadlineExceeded):
            await producer.send(b"doubtful", partition=0)
        await producer.send(b"sure", partition=0)
    assert partition.values() == [b"sure"]
    assert partition.batches[0].header.producer_epoch == 1
    assert cluster.count("InitProducer") == 2


async def test_what_was_under_way_behind_it_is_raised_too(
    cluster: FakeCluster, client: Client, clock: LoopClock
) -> None:
    (partition,) = cluster.create("t")
    lost = Fault(refuse=errors.LeadershipLost("gone"), first=clock.at_call(4, 61))
    cluster.script("Produce", None, *[lost] * 4)  # Two together, and two of the first of them alone.
    async with client.producer("t", max_in_flight=2, delivery_timeout_ms=60_000) as producer:
        first, head, behind = await enqueue_batches(producer, 3)
        await first
        await asyncio.wait([head])
        await producer.send(b"sure", partition=0)
    failed = [head.exception(), behind.exception()]
    assert [type(error) for error in failed] == [errors.DeadlineExceeded, errors.Unavailable]
    assert [error.outcome for error in failed if isinstance(error, RaftmqError)] == [Outcome.UNKNOWN] * 2
    assert partition.values() == [*expected(1), b"sure"]
    assert [batch.header.producer_epoch for batch in partition.batches] == [0, 1]


async def test_an_expired_producer_starts_over(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t") as producer:
        await producer.send(b"a")
        partition.accepted.clear()
        await producer.send(b"b")
    assert partition.values() == [b"a", b"b"]
    assert [batch.header.first_sequence for batch in partition.batches] == [0, 0]
    assert [batch.header.producer_epoch for batch in partition.batches] == [0, 1]


async def test_a_deposed_leader_that_has_not_seen_the_last_batch_is_not_believed(
    cluster: FakeCluster, client: Client
) -> None:
    (partition,) = cluster.create("t")
    partition.epoch = 7
    stale = {"leader_epoch": "6"}
    async with client.producer("t") as producer:
        await producer.send(b"a", partition=0)
        cluster.script("Produce", *[Fault(refuse=errors.OutOfOrderSequence("gap", metadata=stale))] * 2)
        await producer.send(b"b", partition=0)
    assert partition.values() == [b"a", b"b"]


async def test_lost_records_end_the_partition_loudly(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t") as producer:
        await producer.send(b"a", partition=0)
        await producer.send(b"b", partition=0)
        ((_epoch, window),) = partition.accepted.values()
        window.pop()  # The server has forgotten a batch that it acknowledged.
        with pytest.raises(errors.OutOfOrderSequence):
            await producer.send(b"c", partition=0)
        with pytest.raises(errors.OutOfOrderSequence):
            await producer.send(b"d", partition=0)
    assert partition.values() == [b"a", b"b"]


async def test_a_fenced_producer_is_over(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t") as producer:
        await producer.send(b"a")
        partition.accepted[1] = (5, [])
        with pytest.raises(errors.FencedProducer) as caught:
            await producer.send(b"b")
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert producer.buffered_bytes == 0
    assert partition.values() == [b"a"]


async def test_a_deleted_topic_ends_the_retries(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    async with client.producer("t") as producer:
        await producer.send(b"a")
        del cluster.topics["t"]
        cluster.version += 1
        with pytest.raises(errors.UnknownTopic):
            await producer.send(b"b")


async def test_a_node_that_is_behind_does_not_end_them(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    cluster.script("Produce", *[Fault(refuse=errors.UnknownTopic("not yet"))] * 3)
    async with client.producer("t") as producer:
        await producer.send(b"a")
    assert partition.values() == [b"a"]


async def test_a_full_buffer_holds_the_sender_back(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    gate = asyncio.Event()
    cluster.script("Produce", Fault(gate=gate))
    async with client.producer("t", buffer_bytes=1_000) as producer:
        await producer.enqueue(bytes(700))
        with pytest.raises(errors.Overloaded) as caught:
            producer.send_nowait(bytes(700))
        assert caught.value.outcome is Outcome.NOT_APPLIED
        waiting = asyncio.ensure_future(producer.enqueue(bytes(700)))
        behind = asyncio.ensure_future(producer.enqueue(b"small, but not first in line"))
        await cluster.called("Produce", 1)
        assert not waiting.done()
        assert not behind.done()
        with pytest.raises(errors.MessageTooLarge):
            await producer.enqueue(bytes(2_000))
        gate.set()
        assert (await (await waiting)).offset == 1
        assert (await (await behind)).offset is not None
        await producer.flush()
        assert producer.buffered_bytes == 0


async def test_a_loop_that_only_hands_in_lets_the_sender_run(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    async with client.producer("t", max_batch_bytes=1_000) as producer:
        first = await producer.enqueue(b"first")
        handed_in = 0
        while not first.done() and handed_in < 200_000:  # how many it takes is the machine's affair
            await producer.enqueue(bytes(10))
            handed_in += 1
        assert first.done()
        assert producer.buffered_bytes < 32 << 20, "there was room all the time"


async def test_who_stops_waiting_for_room_leaves_the_line(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    gate = asyncio.Event()
    cluster.script("Produce", Fault(gate=gate))
    async with client.producer("t", buffer_bytes=1_000) as producer:
        await producer.enqueue(bytes(500))
        await cluster.called("Produce", 1)
        waiting = asyncio.ensure_future(producer.enqueue(bytes(900)))
        behind = asyncio.ensure_future(producer.enqueue(bytes(100)))
        await asyncio.sleep(0)
        waiting.cancel()
        receipt = await behind
        assert cluster.count("Produce") == 1, "it was let in only when the batch that is held gave up"
        gate.set()
        await receipt
        assert waiting.cancelled()
    assert producer.buffered_bytes == 0


async def test_a_bad_record_fails_alone(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t", partitions=1)
    async with client.producer("t") as producer:
        good = producer.send_nowait(b"good")
        with pytest.raises(errors.InvalidArgument):
            producer.send_nowait(b"bad", timestamp_ms=-1)
        with pytest.raises(errors.InvalidArgument):
            producer.send_nowait(b"bad", headers=[("", b"")])
        with pytest.raises(errors.MessageTooLarge):
            producer.send_nowait(bytes(1024 * 1024))
        with pytest.raises(errors.UnknownPartition):
            producer.send_nowait(b"bad", partition=1)
        with pytest.raises(errors.InvalidArgument):
            await producer.send_batch([NewRecord(b"bad", key=b"k")])
        await good
        assert producer.buffered_bytes == 0
    assert partition.values() == [b"good"]


async def test_closing_drains(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", linger_ms=60_000, max_in_flight=1) as producer:
        receipts = await enqueue_batches(producer, 3)
        last = producer.send_nowait(b"last", partition=0)
    assert last.done()
    assert all(receipt.done() for receipt in receipts)
    assert partition.values() == [*expected(3), b"last"]
    with pytest.raises(RuntimeError):
        producer.send_nowait(b"too late")


async def test_a_cancelled_close_says_what_is_known(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t")
    cluster.script("Produce", Fault(gate=asyncio.Event()))
    producer = client.producer("t", max_in_flight=1)
    await producer.__aenter__()
    under_way, waiting = await enqueue_batches(producer, 2)
    await cluster.called("Produce", 1)
    closing = asyncio.ensure_future(producer.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    outcomes = [receipt.exception() for receipt in (under_way, waiting)]
    assert [error.outcome for error in outcomes if isinstance(error, RaftmqError)] == [
        Outcome.UNKNOWN,
        Outcome.NOT_APPLIED,
    ]


async def test_a_caller_that_gives_up_does_not_hinder_its_batch(cluster: FakeCluster, client: Client) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t") as producer:
        given_up, other = producer.send_nowait(b"a"), producer.send_nowait(b"b")
        given_up.cancel()
        assert (await other).offset == 1
    assert partition.values() == [b"a", b"b"]


async def test_keyless_records_pass_by_partitions_without_a_leader(cluster: FakeCluster, client: Client) -> None:
    topic = cluster.create("t", partitions=3)
    topic[0].leader = topic[2].leader = 0
    async with client.producer("t", max_batch_records=1) as producer:
        receipts = await asyncio.gather(*(producer.send_nowait(b"v") for _ in range(4)))
    assert [receipt.partition for receipt in receipts] == [1, 1, 1, 1]


@pytest.mark.parametrize("acks, idempotent", [(a, a in (Acks.ALL, Acks.QUORUM)) for a in Acks])
async def test_idempotence_follows_from_acks(
    cluster: FakeCluster, client: Client, acks: Acks, idempotent: bool
) -> None:
    (partition,) = cluster.create("t")
    async with client.producer("t", acks=acks) as producer:
        await producer.send(b"a")
    assert bool(partition.batches[0].header.producer_id) is idempotent


async def test_parameters_are_checked(client: Client) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        client.producer("t", acks=Acks.LEADER, idempotent=True)
    assert caught.value.field == "acks"
    with pytest.raises(errors.InvalidArgument) as caught:
        client.producer("t", max_in_flight=65)
    assert caught.value.field == "max_in_flight"
    with pytest.raises(errors.UnknownTopic):
        await client.producer("nowhere").__aenter__()
