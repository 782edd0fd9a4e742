"""Verdicts that are one entry with a batch: both count, or the entry is poison."""

from __future__ import annotations

from typing import Any

import pytest

from raftmq.ids import LeaseId
from raftmq.internal.v1 import queues_pb2
from raftmq.partition.queues.codec import attach, to_proto
from raftmq.partition.queues.commands import Pause, QueueCommand, Settle, Settled, Status, Verdict
from raftmq.partition.queues.settings import QueueSettings
from raftmq.records.batch import VERDICTS_VERSION, merge_header
from raftmq.records.entry import LogEntry
from raftmq.records.poison import PoisonEntry
from raftmq.v1 import types_pb2
from tests.partition.queues.build import GROUP, SECRET, Partition


def ack(*offsets: int, lease: int = 1, secret: bytes = SECRET) -> Settle:
    return Settle(GROUP, LeaseId(lease), secret, Verdict.ACK, offsets)


def entry(partition: Partition, *settles: Settle, elapsed: int = 0, **batch: Any) -> LogEntry:
    """A batch of two records with verdicts."""
    plain = partition.log.data(2, **batch)
    partition.log.take_back(plain, 0)
    inline = attach(plain.inline, settles)
    return partition.log.data(2, inline=inline, version=VERDICTS_VERSION, elapsed=elapsed, **batch)


def test_both_count() -> None:
    partition = Partition(QueueSettings(lease_ms=100), 4)
    partition.grant(3)
    applied = partition.machine.apply(entry(partition, ack(0), ack(2), producer=(5, 0, 0)))
    assert applied.queue == (Settled((Status.OK,)), Settled((Status.OK,)))
    assert (applied.base_offset, applied.next_offset) == (4, 6)
    assert partition.group.leases.outstanding == 1
    assert len(partition.machine.producers) == 1
    partition.restart()
    assert partition.ack(LeaseId(1), 0) == (Status.DUPLICATE,)


@pytest.mark.parametrize(
    "settles",
    [
        (ack(3),),
        (ack(0, 0),),
        (ack(0), ack(0)),
        (ack(0, lease=2),),
        (ack(0, secret=bytes(16)),),
        (ack(1),),
    ],
)
def test_a_verdict_that_does_not_count_is_poison_and_changes_nothing(settles: tuple[Settle, ...]) -> None:
    partition = Partition(QueueSettings(lease_ms=100), 4)
    partition.grant(3)
    partition.ack(LeaseId(1), 1)
    assert partition.machine.queues.objection(settles, 0)
    before = partition.machine.all_rows()
    with pytest.raises(PoisonEntry, match="settles what it may not"):
        partition.machine.apply(entry(partition, *settles, producer=(5, 0, 0)))
    assert partition.machine.all_rows() == before


def test_a_lease_that_ends_with_the_entry_does_not_count() -> None:
    partition = Partition(QueueSettings(lease_ms=100), 4)
    partition.grant(3)
    assert not partition.machine.queues.objection((ack(0),), 99)
    assert partition.machine.queues.objection((ack(0),), 100)
    before = partition.machine.all_rows()
    with pytest.raises(PoisonEntry):
        partition.machine.apply(entry(partition, ack(0), elapsed=100))
    assert partition.machine.all_rows() == before


@pytest.mark.parametrize(
    "appended",
    [
        b"",
        queues_pb2.BatchVerdicts(command=b"\xff").SerializeToString(),
        queues_pb2.BatchVerdicts(
            command=to_proto(QueueCommand((Pause(GROUP),))).SerializeToString()
        ).SerializeToString(),
    ],
)
def test_what_is_no_verdict_is_poison(appended: bytes) -> None:
    partition = Partition(QueueSettings(), 4)
    plain = partition.log.data(2)
    partition.log.take_back(plain, 0)
    with pytest.raises(PoisonEntry):
        partition.machine.apply(partition.log.data(2, inline=plain.inline + appended, version=VERDICTS_VERSION))


def test_readers_do_not_see_them_and_clients_cannot_make_them() -> None:
    partition = Partition(QueueSettings(lease_ms=100), 4)
    granted = partition.grant(3)
    forged = attach(partition.log.data(2).inline, [ack(*granted.offsets)])
    seen, plain = types_pb2.BatchHeader(), types_pb2.BatchHeader()
    merge_header(attach(forged, [ack(0)]), into=seen)
    merge_header(forged, into=plain)
    assert seen == plain
    assert b"\xa2\x06" not in seen.SerializeToString()
    # Of two, the leader's counts: it comes last.
    partition = Partition(QueueSettings(lease_ms=100), 4)
    partition.grant(3)
    inline = attach(forged, [ack(0)])
    partition.machine.apply(partition.log.data(2, inline=inline, version=VERDICTS_VERSION))
    assert partition.group.leases.outstanding == 2
    partition.machine.apply(partition.log.data(2, inline=forged))
    assert partition.group.leases.outstanding == 2
