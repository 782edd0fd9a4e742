from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from raftmq import status
from raftmq.errors import LeadershipLost, NotEnoughReplicas, NotLeader, NotReady, Outcome
from raftmq.ids import GroupId, Offset
from raftmq.records.batch import decode_records, make_batch
from raftmq.records.slots import partition_for_key
from raftmq.replica.waits import Acks
from raftmq.v1 import broker_pb2, types_pb2
from tests.broker.cluster import LEADERS, Node, refusal, running
from tests.broker.fakes import CLUSTER_ID, TERM, Asked

Produce = broker_pb2.ProduceRequest
Fetch = broker_pb2.FetchRequest


def records(*values: bytes, key: bytes | None = None) -> list[types_pb2.Record]:
    return [types_pb2.Record(key=key, value=value) for value in values]


def keys_of(partition: int, count: int) -> list[bytes]:
    """`count` keys that belong to `partition` of three."""
    found = [key for key in (b"key-%d" % n for n in range(1000)) if partition_for_key(key, 3) == partition]
    return found[:count]


async def test_a_batch_goes_to_the_host_byte_for_byte_and_comes_back_with_a_receipt(node: Node) -> None:
    batch = make_batch(records(b"a", b"b"), producer_id=5, producer_epoch=1, first_sequence=9)
    answer = await node.broker.Produce(Produce(topic="orders", partition=2, batch=batch))

    [produced] = node.host.produced
    assert produced.group == GroupId(3)
    assert produced.batch.payload == batch.records
    assert produced.batch.header_bytes == batch.header.SerializeToString()
    assert (produced.batch.producer_id, produced.batch.producer_epoch, produced.batch.first_sequence) == (5, 1, 9)
    assert produced.min_in_sync == 2
    assert answer == broker_pb2.ProduceResponse(
        header=types_pb2.ResponseHeader(cluster_id=CLUSTER_ID, node_id=1, leader_epoch=TERM, leader_node_id=1),
        receipt=types_pb2.Receipt(
            topic="orders",
            partition=2,
            base_offset=0,
            count=2,
            leader_epoch=TERM,
            log_index=2,
            append_time_ms=1_700_000_000_000,
            replicas=[1, 2],
            queue_us=1000,
            sync_us=2000,
            replication_us=3000,
        ),
        high_watermark=2,
    )


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (types_pb2.ACKS_UNSPECIFIED, Acks.ALL),
        (types_pb2.ACKS_ALL, Acks.ALL),
        (types_pb2.ACKS_QUORUM, Acks.QUORUM),
        (types_pb2.ACKS_LEADER, Acks.LEADER),
        (types_pb2.ACKS_NONE, Acks.NONE),
    ],
)
async def test_acks_unset_is_the_strictest(node: Node, asked: types_pb2.Acks.ValueType, meant: Acks) -> None:
    await node.broker.Produce(Produce(topic="orders", partition=0, records=records(b"v"), acks=asked))
    assert node.host.produced[0].acks is meant


@pytest.mark.parametrize(
    ("timeout", "low", "high"),
    [
        (None, 2_001, 30_000),
        (Duration(seconds=2), 1, 2_000),
        (Duration(seconds=10_000), 30_001, 300_000),
    ],
)
async def test_the_request_says_how_long_to_wait(node: Node, timeout: Duration | None, low: int, high: int) -> None:
    await node.broker.Produce(Produce(topic="orders", partition=0, records=records(b"v"), timeout=timeout))
    assert low <= node.host.produced[0].timeout_ms <= high


async def test_the_deadline_less_its_margin_bounds_the_wait(node: Node) -> None:
    request = Produce(topic="orders", partition=0, records=records(b"v"), timeout=Duration(seconds=60))
    await node.broker.Produce(request, timeout=20)
    assert 0 < node.host.produced[0].timeout_ms < 19_000  # gRPC rounds the time up by a hundredth


async def test_plain_records_become_one_batch(node: Node) -> None:
    await node.broker.Produce(Produce(topic="orders", partition=0, records=records(b"a", b"b", b"c")))
    [produced] = node.host.produced
    header = types_pb2.BatchHeader.FromString(produced.batch.header_bytes)
    assert [record.value for record in decode_records(header, produced.batch.payload)] == [b"a", b"b", b"c"]


async def test_keys_choose_the_partition_and_records_without_a_key_go_along() -> None:
    async with running(1, leaders=dict.fromkeys(LEADERS, 1)) as [node]:
        for partition in range(3):
            first, second = keys_of(partition, 2)
            mixed = [*records(b"1", key=first), *records(b"2"), *records(b"3", key=second)]
            answer = await node.broker.Produce(Produce(topic="orders", records=mixed))
            assert answer.receipt.partition == partition


def of_everybody(count: int) -> list[types_pb2.Record]:
    """Records whose keys belong to all partitions, and one without a key."""
    made = [types_pb2.Record(key=b"key %d" % n, value=b"%d" % n) for n in range(count)]
    made.insert(3, types_pb2.Record(value=b"no key"))
    return made


async def test_keys_of_several_partitions_make_a_batch_for_each(pair: tuple[Node, Node]) -> None:
    """Node 2 leads one of the three. Whichever node is asked, each key goes where it belongs, in order."""
    sent = of_everybody(40)
    for node in pair:
        answer = await node.broker.Produce(Produce(topic="orders", records=sent))
        assert not answer.HasField("receipt")
        assert [result.partition for result in answer.results] == [0, 1, 2]
        positions = [position for result in answer.results for position in result.record_positions]
        assert sorted(positions) == list(range(41))
        for result in answer.results:
            assert list(result.record_positions) == sorted(result.record_positions)
            keys = [sent[position].key for position in result.record_positions if sent[position].HasField("key")]
            assert {partition_for_key(key, 3) for key in keys} == {result.partition}
            read = Fetch(topic="orders", partition=result.partition, offset=result.receipt.base_offset)
            [stored] = (await node.broker.Fetch(read)).batches
            assert decode_records(stored.header, stored.records) == [sent[place] for place in result.record_positions]
            assert result.high_watermark >= result.receipt.base_offset + result.receipt.count


async def test_a_message_id_goes_into_the_batch_and_chooses_the_partition_of_records_without_keys(node: Node) -> None:
    asked = [
        Produce(topic="orders", records=records(b"v"), message_id="m"),
        Produce(topic="orders", records=records(b"w"), message_id="m"),
        Produce(topic="orders", partition=0, records=records(b"x"), message_id="n"),
    ]
    answers = [await node.broker.Produce(request) for request in asked]
    chosen = partition_for_key(b"m", 3)
    assert [answer.receipt.partition for answer in answers] == [chosen, chosen, 0]
    assert [one.batch.message_id for one in node.host.produced] == ["m", "m", "n"]
    headers = [types_pb2.BatchHeader.FromString(one.batch.header_bytes) for one in node.host.produced]
    assert [header.message_id for header in headers] == ["m", "m", "n"]


async def test_each_part_of_a_request_has_its_message_id() -> None:
    async with running(1, leaders=dict.fromkeys(LEADERS, 1)) as [node]:
        await node.broker.Produce(Produce(topic="orders", records=of_everybody(40), message_id="m"))
        assert [one.batch.message_id for one in node.host.produced] == ["m"] * 3


async def test_any_replica_in_sync_answers_where_that_is_asked_for(pair: tuple[Node, Node]) -> None:
    """Node 2 leads partition 1. Node 1 answers for it if it may, if it is in sync, and if it is not behind."""
    first, second = pair
    asked = Fetch(topic="orders", partition=1, offset=0, min_offset=0, any_replica=True)
    assert (await first.broker.Fetch(asked)).header.node_id == 2
    first.host.following.add(GroupId(2))
    answer = await first.broker.Fetch(asked)
    assert (answer.header.node_id, answer.header.leader_node_id) == (1, 2)
    assert first.host.replica_reads == [(GroupId(2), Offset(0), Offset(0))]
    assert (await first.broker.Fetch(Fetch(topic="orders", partition=1, offset=0))).header.node_id == 2
    first.host.behind = True
    assert (await first.broker.Fetch(asked)).header.node_id == 2
    asked.no_forward = True
    assert type(await refusal(first.broker.Fetch(asked))) is NotLeader
    assert second.host.replica_reads == []


async def test_partitions_fail_by_themselves(pair: tuple[Node, Node]) -> None:
    first, second = pair
    second.host.errors = [NotEnoughReplicas("1 of 2")]
    answer = await first.broker.Produce(Produce(topic="orders", records=of_everybody(40)))
    assert [result.WhichOneof("result") for result in answer.results] == ["receipt", "error", "receipt"]
    error = status.from_message(answer.results[1].error)
    assert (type(error), error.outcome) == (NotEnoughReplicas, Outcome.NOT_APPLIED)
    assert answer.results[1].record_positions


async def test_if_all_fail_so_does_the_call_and_says_what_may_have_happened(node: Node) -> None:
    node.host.leaders[GroupId(2)] = node.host.me
    node.host.errors = [NotEnoughReplicas("x"), LeadershipLost("gone"), NotEnoughReplicas("y")]
    error = await refusal(node.broker.Produce(Produce(topic="orders", records=of_everybody(40))))
    assert (type(error), error.outcome) == (LeadershipLost, Outcome.UNKNOWN)


async def test_what_is_expected_is_for_the_leader_to_judge(node: Node) -> None:
    for expected in (None, 0, 2**63 - 1):
        await node.broker.Produce(Produce(topic="orders", partition=0, records=records(b"v"), expected_offset=expected))
    assert node.host.expected == [None, 0, 2**63 - 1]


async def test_a_least_watermark_is_waited_for(node: Node) -> None:
    answer = await node.broker.Produce(Produce(topic="orders", partition=0, records=records(b"v")))
    await node.broker.Fetch(Fetch(topic="orders", partition=0, offset=0))
    assert node.host.least == []
    read = Fetch(topic="orders", partition=0, offset=0, min_offset=answer.high_watermark)
    assert len((await node.broker.Fetch(read)).batches) == 1
    read.min_offset += 1
    read.max_wait.FromSeconds(7)
    error = await refusal(node.broker.Fetch(read, timeout=60))
    assert (type(error), error.retriable) == (NotReady, True)
    assert node.host.least[0] == (GroupId(1), Offset(1), 5_000)


async def test_the_empty_key_is_a_key(node: Node) -> None:
    for _ in range(3):
        answer = await node.broker.Produce(Produce(topic="orders", records=records(b"v", key=b"")))
        assert answer.receipt.partition == partition_for_key(b"", 3) == 0


async def test_without_a_key_batches_take_turns_on_partitions_that_have_a_leader() -> None:
    async with running(1, leaders={0: 1, 1: 1, 3: 1}) as [node]:
        took = [
            (await node.broker.Produce(Produce(topic="orders", records=records(b"v")))).receipt.partition
            for _ in range(6)
        ]
    assert set(took) == {0, 2}


async def test_a_batch_needs_no_partition_where_there_is_only_one(node: Node) -> None:
    answer = await node.broker.Produce(Produce(topic="single", batch=make_batch(records(b"v"))))
    assert (answer.receipt.topic, answer.receipt.partition) == ("single", 0)


async def test_fetch_gives_back_what_was_produced(node: Node) -> None:
    batches = [make_batch(records(b"a", b"b")), make_batch(records(b"c"))]
    for batch in batches:
        await node.broker.Produce(Produce(topic="orders", partition=0, batch=batch))

    answer = await node.broker.Fetch(Fetch(topic="orders", partition=0, offset=1))
    assert [(one.base_offset, one.leader_epoch, one.header, one.records) for one in answer.batches] == [
        (0, TERM, batches[0].header, batches[0].records),
        (2, TERM, batches[1].header, batches[1].records),
    ]
    assert all(one.append_time_ms == 1_700_000_000_000 for one in answer.batches)
    assert (answer.high_watermark, answer.last_stable_offset, answer.log_start_offset) == (3, 3, 0)
    assert answer.next_offset == 3
    assert answer.header == types_pb2.ResponseHeader(
        cluster_id=CLUSTER_ID, node_id=1, leader_epoch=TERM, leader_node_id=1
    )


@pytest.mark.parametrize("codec", [types_pb2.CODEC_ZSTD, types_pb2.CODEC_LZ4])
async def test_compressed_records_go_in_and_out_as_they_are(node: Node, codec: types_pb2.Codec.ValueType) -> None:
    """Through a topic that could not hold them uncompressed."""
    batch = make_batch(records(bytes(100_000)), codec=codec)
    await node.broker.Produce(Produce(topic="single", partition=0, batch=batch))
    [stored] = (await node.broker.Fetch(Fetch(topic="single", partition=0, offset=0))).batches
    assert (stored.header, stored.records) == (batch.header, batch.records)
    assert decode_records(stored.header, stored.records)[0].value == bytes(100_000)


async def test_fetch_without_news_says_to_go_on_from_the_same_offset(node: Node) -> None:
    answer = await node.broker.Fetch(Fetch(topic="orders", partition=0, offset=0))
    assert not answer.batches
    assert answer.next_offset == 0


async def test_fetch_limits_have_defaults(node: Node) -> None:
    await node.broker.Fetch(Fetch(topic="orders", partition=0, offset=0))
    assert node.host.asked == [Asked(GroupId(1), Offset(0), 1024 * 1024, 1, 0)]


async def test_fetch_limits_are_passed_on_and_the_wait_is_clamped(node: Node) -> None:
    request = Fetch(
        topic="orders", partition=2, offset=0, max_bytes=8 * 2**20, min_bytes=8 * 2**20, max_wait=Duration(seconds=900)
    )
    await node.broker.Fetch(request)
    assert node.host.asked == [Asked(GroupId(3), Offset(0), 8 * 2**20, 8 * 2**20, 60_000)]


async def test_fetch_waits_no_longer_than_its_caller(node: Node) -> None:
    await node.broker.Fetch(Fetch(topic="orders", partition=0, offset=0, max_wait=Duration(seconds=60)), timeout=20)
    assert 0 < node.host.asked[0].max_wait_ms < 19_000
