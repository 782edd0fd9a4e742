"""Records as queues see them. Nothing of a batch's content is checked on its way into the log, so whatever a client
wrote there must neither stop a queue nor get into an entry that replicas refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import lz4.frame
import pytest

from raftmq.errors import DataLoss, NotLeader, RaftmqError
from raftmq.ids import LogIndex, Offset, QueueId, Term, WallMs
from raftmq.metadata.queue_groups import Ordering, QueueGroupRecord, QueueSettings
from raftmq.partition import commands
from raftmq.partition.queues.commands import Introduce, QueueCommand
from raftmq.ports import BatchRow
from raftmq.records.batch import PRIORITY_MAX, TIMESTAMP_MAX_MS, make_batch
from raftmq.replica.queues.desk import Desk
from raftmq.replica.queues.line import Line
from raftmq.replica.queues.records import CACHE_BYTES, Records, pack_held, special_of, unpack_held
from raftmq.v1 import types_pb2

MIB = 1024 * 1024
SMALLEST, LARGEST = -(2**63), 2**63 - 1


def row(base: int, batch: types_pb2.RecordBatch) -> BatchRow:
    header = batch.header.SerializeToString()
    return BatchRow(Offset(base), batch.header.count, LogIndex(base + 1), Term(1), WallMs(7), header, batch.records)


def garbage(count: int) -> types_pb2.RecordBatch:
    """A batch that passes every check of the broker: only who inflates it sees what it is."""
    batch = make_batch([types_pb2.Record(value=b"x")] * count)
    batch.header.codec = types_pb2.CODEC_LZ4
    batch.records = lz4.frame.compress(b"\xff" * batch.header.raw_size, store_size=True)
    batch.header.ClearField("crc32c")
    return batch


@pytest.mark.parametrize(
    "record",
    [
        types_pb2.Record(priority=200),
        types_pb2.Record(priority=2**32 - 1, deliver_at_ms=LARGEST, expires_at_ms=LARGEST),
        types_pb2.Record(deliver_at_ms=-1),
        types_pb2.Record(deliver_at_ms=SMALLEST, expires_at_ms=SMALLEST),
    ],
)
def test_whatever_a_record_says_replicas_take_its_introduction(record: types_pb2.Record) -> None:
    special = special_of(Offset(0), record)
    introduction = Introduce(QueueId(1), Offset(0), Offset(1), specials=() if special is None else (special,))
    command = QueueCommand((introduction,))
    assert commands.decode(commands.encode(command), commands.version_of(command)) == command
    if special is not None:
        assert special.priority <= PRIORITY_MAX
        assert 0 <= special.deliver_at_ms <= TIMESTAMP_MAX_MS
        assert 0 <= special.expires_at_ms <= TIMESTAMP_MAX_MS


async def test_a_batch_that_cannot_be_read_has_records_all_the_same() -> None:
    readable = make_batch([types_pb2.Record(value=b"good")])
    log = [row(0, garbage(3)), row(3, readable)]

    async def read(offset: Offset, _: int) -> list[BatchRow]:
        return [each for each in log if each.base_offset + each.count > offset]

    held: dict[int, bytes] = {}
    records = Records(read, lambda: held)
    broken = await records.at(Offset(1))
    assert broken is not None
    assert (broken.base_offset, broken.next_offset, broken.is_readable) == (0, 3, False)
    good = await records.at(Offset(3))
    assert good is not None
    assert good.is_readable
    assert good.records[0].value == b"good"
    for batch, offset in ((broken, Offset(2)), (good, Offset(3))):
        kept = unpack_held(offset, pack_held(batch, offset))
        place = offset - batch.base_offset
        assert kept == replace(batch, base_offset=offset, records=[batch.records[place]], size=kept.size)


def compressed(mebibytes: int) -> types_pb2.RecordBatch:
    """So much, in next to no bytes of the log."""
    return make_batch([types_pb2.Record(value=bytes(1 << 20))] * mebibytes, codec=types_pb2.CODEC_ZSTD)


@pytest.mark.parametrize(
    "sizes", [[CACHE_BYTES // MIB + 4, 0], [1, CACHE_BYTES // MIB + 4, 1], [6] * 5], ids=["first", "ahead", "many"]
)
async def test_what_is_asked_for_is_there_however_large_a_backlog_is_once_it_is_decoded(sizes: list[int]) -> None:
    """What lies ahead in the same read once pushed it out, and nobody got past it."""
    log: list[BatchRow] = []
    for size in sizes:
        batch = compressed(size) if size else make_batch([types_pb2.Record(value=b"small")])
        log.append(row(log[-1].base_offset + log[-1].count if log else 0, batch))

    async def read(offset: Offset, _: int) -> list[BatchRow]:
        return [each for each in log if each.base_offset + each.count > offset]

    records = Records(read, dict)
    for each in log:
        found = await records.at(each.base_offset)
        assert found is not None
        assert (found.base_offset, len(found.records), found.is_readable) == (each.base_offset, each.count, True)
        assert records.known(Offset(each.base_offset + each.count - 1)) is found, "it is in memory for whoever is next"
        assert records._bytes <= max(CACHE_BYTES, found.size)


async def test_what_keeps_one_record_from_being_read_is_told_and_what_keeps_all_is_raised() -> None:
    failure: RaftmqError = DataLoss("a checksum")

    async def read(_: Offset, __: int) -> list[BatchRow]:
        raise failure

    records = Records(read, dict)
    assert await records.attempt(Offset(0)) is failure
    failure = NotLeader("somebody else does")
    with pytest.raises(NotLeader):
        await records.attempt(Offset(0))


async def test_behind_a_record_that_is_held_comes_the_rest_of_its_batch() -> None:
    """Another group has it open, and the log is about to be trimmed: the batch that it is from can be read still. One
    hash too many, and every replica would refuse the entry."""
    batch = make_batch([types_pb2.Record(key=b"%d" % number, value=b"x", priority=1) for number in range(4)])

    async def read(_: Offset, __: int) -> list[BatchRow]:
        return [row(0, batch)]

    held: dict[int, bytes] = {}
    records = Records(read, lambda: held)
    whole = await Records(read, dict).at(Offset(0))
    assert whole is not None
    held[1] = pack_held(whole, Offset(1))
    found = [await records.at(Offset(1)), await records.at(Offset(2))]
    ordered = QueueSettings(ordering=Ordering.KEY, fair_by="key")
    line = Line(cast("Desk", None), QueueGroupRecord(1, 1, "workers", ordered, 1))
    introduction = line._introduction(Offset(1), [one for one in found if one is not None])
    assert (introduction.first, introduction.next) == (1, 4)
    assert len(introduction.keys) == len(introduction.lanes) == 3
    assert [special.offset for special in introduction.specials] == [1, 2, 3]
    command = QueueCommand((introduction,))
    taken = commands.decode(commands.encode(command), commands.version_of(command))
    assert isinstance(taken, QueueCommand)
    assert [list(taken.ops[0].keys)] == [introduction.keys]  # type: ignore[union-attr]
