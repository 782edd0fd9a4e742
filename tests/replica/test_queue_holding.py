"""Records that a queue needs of a log that is trimmed: kept beside it, up to a limit; on simulated nodes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from raftmq.errors import DataLoss
from raftmq.ids import GroupId, Offset
from raftmq.metadata.decisions import CreateTopic
from raftmq.metadata.queue_groups import QueueGroupRecord, SetQueueGroup
from raftmq.partition.machine import PartitionMachine
from raftmq.ports import BatchRow
from raftmq.records.batch import check_batch, make_batch
from raftmq.replica.queues import upkeep
from raftmq.replica.queues.calls import Claim, Ruling, Verdict, Wish
from raftmq.replica.queues.looking import Pace, ParkedFilter
from raftmq.replica.queues.records import Records
from raftmq.replica.waits import Acks
from raftmq.v1 import types_pb2
from tests.controller.nodes import formed
from tests.replica.test_host import Partition

GROUP = GroupId(1)
TRIMMED_S = 8
"""Of virtual time: within it a leader has looked several times what may go."""


class Queue(Partition):
    """One partition that keeps next to nothing, and a queue group."""

    def form(self, retention_bytes: int = 1) -> None:
        leader = self.leader()
        wish = CreateTopic("orders", partitions=1, replication_factor=3, retention_bytes=retention_bytes)
        self.do(leader, self.at(leader).create_topic(wish, 20_000))
        self.do(leader, self.at(leader).queue_groups.set(SetQueueGroup("orders", "workers"), 10_000))

    @property
    def known(self) -> QueueGroupRecord:
        return next(iter(self.image(self.lead).queue_groups.values()))

    @property
    def machine(self) -> PartitionMachine:
        machine = self.group(self.lead, GROUP).machine
        assert isinstance(machine, PartitionMachine)
        return machine

    def park(self, values: list[bytes]) -> None:
        """Append these records, one by one, and park each."""
        lead = self.lead
        queues = self.assembly(lead).queues
        for value in values:
            self.produce(lead, value)
            received = self.do(lead, queues.receive(GROUP, self.known, Wish("w", 10, 1 << 20, 30_000), 5_000))
            claims = [Claim(one.lease, one.offset, received.secret) for one in received.deliveries]
            assert len(claims) == 1
            self.do(lead, queues.settle(GROUP, self.known, claims, Ruling(Verdict.PARK, reason="bad"), 5_000))

    def damage(self, offsets: set[int]) -> None:
        """Reads for the queue of these fail on the leader, for as long as they are among `offsets`."""
        records = self.assembly(self.lead).queues.desk_of(GROUP).records
        read = records._read

        async def damaged(offset: Offset, max_bytes: int) -> list[BatchRow]:
            if offset in offsets:
                raise DataLoss(f"offset {offset} fails its checksum")
            return [row for row in await read(offset, max_bytes) if row.base_offset not in offsets]

        self.assembly(self.lead).queues.desk_of(GROUP).records = Records(damaged, records._held)

    def limit(self, size: int) -> None:
        for number in self.nodes:
            self.assembly(number)._queue_upkeep.held_bytes_max = size


@pytest.fixture
def queue() -> Iterator[Queue]:
    with formed(Queue()) as cluster:
        cluster.form()
        yield cluster


def test_beyond_the_limit_the_log_stays_instead(queue: Queue) -> None:
    queue.limit(1_000)
    queue.park([b"x" * 300] * 5)
    queue.pass_time(TRIMMED_S)
    assert list(queue.machine.queues.held.records) == [0, 1, 2]
    assert queue.machine.log_start_offset == 3, "what could not be put aside is in the log"
    assert queue.machine.queues.held.bytes <= 1_000


def test_one_that_never_fits_does_not_keep_smaller_ones_out_for_good(queue: Queue) -> None:
    queue.limit(1_000)
    queue.park([b"x" * 2_000, b"y"])
    queue.produce(queue.lead, b"z")
    queue.pass_time(TRIMMED_S)
    assert (list(queue.machine.queues.held.records), queue.machine.log_start_offset) == ([], 0)
    # It is done with by hand, and the other one takes its turn.
    _done_with(queue, 0)
    queue.pass_time(TRIMMED_S)
    assert list(queue.machine.queues.held.records) == [1]
    assert queue.machine.log_start_offset > 1


def test_what_cannot_be_read_stays_in_the_log_and_is_held_when_it_can(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once was passed over and all behind it held, for a trim that came to nothing, and nobody was told."""
    damaged = {2}
    queue.park([b"0", b"1", b"2", b"3"])
    assert not queue.machine.queues.held.records, "there was no time for it"
    queue.damage(damaged)
    told: list[dict[str, object]] = []
    log = SimpleNamespace(warning=lambda event, **fields: told.append({"event": event, **fields}))
    monkeypatch.setattr(upkeep, "_log", log)  # simulated nodes log nothing
    queue.pass_time(TRIMMED_S)
    assert list(queue.machine.queues.held.records) == [0, 1]
    assert queue.machine.log_start_offset == 2, "what could be held is trimmed, and no more"
    assert {(one["group"], one["offset"], one["reason"]) for one in told} == {(GROUP, 2, "DATA_LOSS")}
    damaged.clear()
    queue.pass_time(TRIMMED_S)
    assert set(queue.machine.queues.held.records) >= {0, 1, 2}
    assert queue.machine.log_start_offset > 2


def _done_with(queue: Queue, offset: int) -> None:
    lead = queue.lead
    queues = queue.assembly(lead).queues
    pace = Pace(1, 0, dry_run=False)
    wanted = ParkedFilter(offsets=frozenset({offset}))
    assert queue.do(lead, queues.redrive(GROUP, queue.known, wanted, pace, 5_000)).redriven == 1
    received = queue.do(lead, queues.receive(GROUP, queue.known, Wish("w", 1, 1 << 20, 30_000), 5_000))
    claims = [Claim(one.lease, one.offset, received.secret) for one in received.deliveries]
    assert [claim.offset for claim in claims] == [offset]
    queue.do(lead, queues.settle(GROUP, queue.known, claims, Ruling(Verdict.ACK), 5_000))


def test_a_cancelled_record_stays_cancelled_whoever_asks_again(queue: Queue) -> None:
    """Whose answer was lost was once told that it was too late, as if the record had been delivered."""
    lead, far_ms = queue.lead, 4_000_000_000_000
    queues = queue.assembly(lead).queues
    records = [types_pb2.Record(value=b"later", deliver_at_ms=far_ms), types_pb2.Record(value=b"now")]
    work = queue.host(lead).produce(
        GROUP, check_batch(make_batch(records), max_batch_bytes=1 << 20), Acks.ALL, 2, 5_000
    )
    queue.do(lead, work)

    def cancel(offset: int) -> bool:
        return queue.do(lead, queues.cancel(GROUP, queue.known, Offset(offset), 5_000))

    assert [cancel(0), cancel(0), cancel(1)] == [True, True, False]
    received = queue.do(lead, queues.receive(GROUP, queue.known, Wish("w", 10, 1 << 20, 30_000), 5_000))
    assert [one.offset for one in received.deliveries] == [1]
    claims = [Claim(one.lease, one.offset, received.secret) for one in received.deliveries]
    queue.do(lead, queues.settle(GROUP, queue.known, claims, Ruling(Verdict.ACK), 5_000))
    assert [cancel(0), cancel(1)] == [True, False]
