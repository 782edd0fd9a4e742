"""Records that are hard to read, or cannot be read: what queues make of them; on simulated nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftmq.ids import QueueId
from raftmq.records.batch import check_batch, make_batch
from raftmq.replica.queues.calls import Claim, Ruling, Verdict, Wish
from raftmq.replica.queues.looking import Place
from raftmq.replica.queues.records import CACHE_BYTES
from raftmq.replica.waits import Acks
from raftmq.v1 import types_pb2
from tests.controller.nodes import formed
from tests.replica.test_queue_holding import GROUP, Queue
from tests.replica.test_queue_records import compressed, garbage

MIB = 1024 * 1024
LARGE = CACHE_BYTES // MIB + 4
"""Records of 1 MiB: more than are kept in memory."""


@pytest.fixture
def queue() -> Iterator[Queue]:
    with formed(Queue()) as cluster:
        cluster.form(retention_bytes=0)
        yield cluster


def append(queue: Queue, batch: types_pb2.RecordBatch) -> None:
    checked = check_batch(batch, max_batch_bytes=MIB)
    queue.do(queue.lead, queue.assembly(queue.lead).host.produce(GROUP, checked, Acks.ALL, 2, 5_000))


def take(queue: Queue, verdict: Verdict, messages: int) -> list[int]:
    """Settle what is received at once; returns its offsets."""
    queues = queue.assembly(queue.lead).queues
    wish = Wish("w", messages, 256 * MIB, 30_000)
    received = queue.do(queue.lead, queues.receive(GROUP, queue.known, wish, 5_000))
    claims = [Claim(one.lease, one.offset, received.secret) for one in received.deliveries]
    queue.do(queue.lead, queues.settle(GROUP, queue.known, claims, Ruling(verdict, reason="bad"), 5_000))
    return [one.offset for one in received.deliveries]


def test_a_group_gets_through_a_compressed_backlog(queue: Queue) -> None:
    batches = [compressed(LARGE), make_batch([types_pb2.Record(value=b"small")]), compressed(2), compressed(LARGE)]
    for batch in batches:
        append(queue, batch)
    count = sum(batch.header.count for batch in batches)
    taken: list[int] = []
    for _ in range(count):
        taken += take(queue, Verdict.ACK, count)
        if len(taken) == count:
            break
    assert sorted(taken) == list(range(count))


def test_dead_letters_and_peek_never_show_an_empty_record_for_one_that_cannot_be_read(queue: Queue) -> None:
    append(queue, compressed(LARGE))
    for value in (b"good", b"damaged"):
        append(queue, make_batch([types_pb2.Record(key=b"ann", value=value)]))
    append(queue, garbage(2))
    append(queue, make_batch([types_pb2.Record(value=b"last")]))
    last = LARGE + 4
    taken: list[int] = []
    while last not in taken:
        taken += take(queue, Verdict.PARK, 100)
    queue.until(lambda: len(list(queue.machine.queues.groups[QueueId(queue.known.id)].parked.offsets)) == last + 1)
    queue.damage({LARGE + 1})
    queues = queue.assembly(queue.lead).queues
    letters = queue.do(queue.lead, queues.unrouted(GROUP, queue.known, 0, 100))
    peeked, following = queue.do(queue.lead, queues.peek(GROUP, queue.known, Place.PARKED, 0, 100))
    assert following is None
    for found in (letters, peeked):
        assert [one.offset for one in found] == list(range(last + 1))
        values = [None if one.record is None else one.record.value for one in found]
        assert values == [bytes(MIB)] * LARGE + [b"good", None, None, None, b"last"]
