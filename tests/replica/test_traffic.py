"""What goes through a leader is counted by the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmq.ids import GroupId, LogIndex, NodeId, Offset, Term
from raftmq.ports import BatchRow
from raftmq.records.batch import check_batch, make_batch
from raftmq.replica.traffic import Flow, Traffic
from raftmq.replica.waits import Ack, Acks
from raftmq.v1 import types_pb2

GROUP = GroupId(3)
BATCH = check_batch(make_batch([types_pb2.Record(value=b"12345")] * 4), max_batch_bytes=1024)
ACK = Ack(Offset(0), 4, Term(1), LogIndex(2), 0, (NodeId(1),), False, queue_ms=1, sync_ms=20, replication_ms=3)


def test_an_acknowledged_batch_counts_with_its_records_payload_and_times() -> None:
    traffic = Traffic()
    traffic.acknowledged(GROUP, BATCH, Acks.ALL, ACK)
    traffic.acknowledged(GROUP, BATCH, Acks.QUORUM, ACK)
    assert traffic.produced == {GROUP: Flow(2, 8, 2 * len(BATCH.payload))}
    assert {name: one.spread().total for name, one in traffic.stages.items()} == pytest.approx(
        {"queue": 0.002, "sync": 0.04, "replication": 0.006}
    )


@pytest.mark.parametrize("acks", [Acks.LEADER, Acks.NONE])
def test_weaker_acknowledgements_have_no_stages(acks: Acks) -> None:
    traffic = Traffic()
    traffic.acknowledged(GROUP, BATCH, acks, ACK)
    assert traffic.produced[GROUP].batches == 1
    assert all(sum(one.spread().counts) == 0 for one in traffic.stages.values())


def test_a_duplicate_brings_nothing_new() -> None:
    traffic = Traffic()
    traffic.acknowledged(GROUP, BATCH, Acks.ALL, replace(ACK, duplicate=True))
    assert traffic.produced == {}
    assert all(sum(one.spread().counts) == 0 for one in traffic.stages.values())


def test_reads_count_what_was_given_and_a_deleted_group_is_forgotten() -> None:
    traffic = Traffic()
    row = BatchRow(Offset(0), 4, LogIndex(2), Term(1), 0, b"header", b"payload")
    traffic.read(GROUP, [row, row])
    traffic.read(GROUP, [])
    assert traffic.fetched == {GROUP: Flow(2, 8, 14)}
    traffic.forget(GROUP)
    traffic.forget(GROUP)
    assert traffic.fetched == {}
