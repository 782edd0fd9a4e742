"""Decisions on sequences: one test per rule, and the table that forgets by log time."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import FencedProducer, InvalidArgument, OutOfOrderSequence, RaftmqError, UnknownProducer
from raftmq.ids import LogIndex, Offset, ProducerId, Term, WallMs
from raftmq.internal.v1 import storage_pb2
from raftmq.partition.producers import (
    APPEND,
    WINDOW,
    Duplicate,
    Placement,
    ProducerState,
    ProducerTable,
    advance,
    decide,
)

PRODUCER = ProducerId(7)


@dataclass(frozen=True)
class Batch:
    first_sequence: int
    count: int = 1
    crc: int = 0xABCD
    producer_epoch: int = 1
    producer_id: ProducerId = PRODUCER


def placement(index: int, log_tick: int = 0) -> Placement:
    return Placement(Offset(index * 100), LogIndex(index), Term(3), WallMs(index * 1000), log_tick)


def state_of(*batches: Batch, log_tick: int = 0) -> ProducerState:
    state: ProducerState | None = None
    for index, batch in enumerate(batches, start=1):
        state = advance(state, batch, placement(index, log_tick))
    assert state is not None
    return state


THREE = state_of(Batch(0, 10), Batch(10, 15), Batch(25, 15))


def test_a_producer_without_id_is_always_appended() -> None:
    assert decide(None, Batch(0, producer_id=ProducerId(0))) == APPEND
    assert decide(THREE, Batch(12345, producer_id=ProducerId(0))) == APPEND


def test_an_unknown_producer_begins_at_zero() -> None:
    assert decide(None, Batch(0)) == APPEND
    with pytest.raises(UnknownProducer):
        decide(None, Batch(1))


def test_the_next_sequence_is_appended() -> None:
    assert decide(THREE, Batch(40, 3)) == APPEND


@pytest.mark.parametrize("sequence", [41, 1000, 2**62])
def test_a_gap_is_out_of_order(sequence: int) -> None:
    with pytest.raises(OutOfOrderSequence) as caught:
        decide(THREE, Batch(sequence))
    assert caught.value.metadata == {"expected_sequence": "40"}


@pytest.mark.parametrize(("position", "batch"), [(0, Batch(0, 10)), (1, Batch(10, 15)), (2, Batch(25, 15))])
def test_a_batch_in_the_window_is_a_duplicate_with_its_original(position: int, batch: Batch) -> None:
    decision = decide(THREE, batch)
    assert isinstance(decision, Duplicate)
    original = decision.original
    assert original is THREE.batches[position]
    index = position + 1
    assert (original.base_offset, original.log_index) == (index * 100, index)
    assert (original.term, original.wall_ms) == (3, index * 1000)


def test_a_batch_below_the_window_is_a_duplicate_without_original() -> None:
    state = state_of(*(Batch(sequence) for sequence in range(WINDOW + 5)))
    assert len(state.batches) == WINDOW
    assert decide(state, Batch(4)) == Duplicate(None)
    assert decide(state, Batch(0, 5)) == Duplicate(None)
    assert decide(state, Batch(5)) == Duplicate(state.batches[0])
    assert decide(state, Batch(WINDOW + 5)) == APPEND


@pytest.mark.parametrize(
    "batch",
    [
        Batch(10, 15, crc=1),  # the same sequence, other bytes
        Batch(10, 14),  # other counts
        Batch(25, 16),
        Batch(11, 14),  # begins inside a batch
        Batch(39, 2),  # reaches past the end
        Batch(39, 1),
    ],
)
def test_a_used_sequence_with_another_batch_is_the_clients_error(batch: Batch) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decide(THREE, batch)
    assert caught.value.field == "batch.header.first_sequence"


def test_a_batch_that_begins_below_the_window_and_reaches_into_it_is_the_clients_error() -> None:
    state = state_of(*(Batch(sequence) for sequence in range(WINDOW + 5)))
    with pytest.raises(InvalidArgument):
        decide(state, Batch(3, 3))


@pytest.mark.parametrize("sequence", [0, 25, 40, 41])
def test_an_older_epoch_is_fenced_whatever_its_sequence(sequence: int) -> None:
    with pytest.raises(FencedProducer):
        decide(THREE, Batch(sequence, 15, producer_epoch=0))


def test_a_newer_epoch_begins_at_zero_and_takes_the_old_window_away() -> None:
    with pytest.raises(OutOfOrderSequence):
        decide(THREE, Batch(40, producer_epoch=2))
    first = Batch(0, 10, producer_epoch=2)
    assert decide(THREE, first) == APPEND
    state = advance(THREE, first, placement(9))
    assert (state.epoch, len(state.batches)) == (2, 1)
    assert decide(state, first) == Duplicate(state.batches[0])
    assert decide(state, Batch(10, producer_epoch=2)) == APPEND
    with pytest.raises(FencedProducer):
        decide(state, Batch(40))


batches_strategy = st.builds(
    Batch,
    first_sequence=st.integers(0, 2**63 - 2**20 - 1),
    count=st.integers(1, 2**20),
    crc=st.integers(0, 2**32 - 1),
    producer_epoch=st.just(5),
)


@given(st.lists(batches_strategy, min_size=1, max_size=5), st.integers(0, 2**63))
def test_a_row_is_the_plain_protobuf_message_and_reads_back(batches: list[Batch], log_tick: int) -> None:
    state = state_of(*batches, log_tick=log_tick)
    assert ProducerState.decode(state.encode()) == state
    message = storage_pb2.ProducerRow(
        epoch=5,
        log_tick=log_tick,
        batches=[
            storage_pb2.ProducerBatch(
                first_sequence=batch.first_sequence,
                count=batch.count,
                crc32c=batch.crc,
                base_offset=index * 100,
                log_index=index,
                wall_ms=index * 1000,
                term=3,
            )
            for index, batch in enumerate(batches, start=1)
        ],
    )
    assert state.encode() == message.SerializeToString()


def test_the_row_is_frozen() -> None:
    state = state_of(Batch(300, 2, crc=0x01020304, producer_epoch=9), log_tick=1000)
    assert state.encode().hex() == "080910e8071a1308ac0210021d040302012064280130e8073803"


def test_a_row_without_batches_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        ProducerState.decode(storage_pb2.ProducerRow(epoch=1).SerializeToString())


class TestTable:
    def test_a_producer_counts_until_its_time_is_over(self) -> None:
        table = ProducerTable(expiry_ms=1000)
        table.put(PRODUCER, state_of(Batch(0, 10), log_tick=500))
        assert table.decide(Batch(10), 1499) == APPEND
        with pytest.raises(UnknownProducer):
            table.decide(Batch(10), 1500)
        assert table.decide(Batch(0, 10), 1500) == APPEND

    def test_expiry_forgets_exactly_those_whose_time_is_over(self) -> None:
        table = ProducerTable(expiry_ms=1000)
        for producer, log_tick in ((3, 10), (1, 20), (2, 20)):
            table.put(ProducerId(producer), state_of(Batch(0), log_tick=log_tick))
        table.put(ProducerId(3), state_of(Batch(0), log_tick=30))
        assert table.expire(1019) == []
        assert table.expire(1020) == [1, 2]
        assert len(table) == 1
        assert table.expire(1030) == [3]
        assert len(table) == 0

    def test_rows_may_come_in_any_order(self) -> None:
        rows = [(ProducerId(number), state_of(Batch(0), log_tick=100 - number)) for number in range(1, 5)]
        table = ProducerTable(1000, rows)
        assert [producer for producer, _ in table] == [4, 3, 2, 1]
        assert table.expire(1097) == [4, 3]

    def test_expiry_must_take_some_time(self) -> None:
        with pytest.raises(AssertionError):
            ProducerTable(expiry_ms=0)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3), st.integers(0, 2)), max_size=40))
def test_accepted_sequences_have_no_gap_and_no_repetition(attempts: list[tuple[int, int, int]]) -> None:
    """Whatever a client sends, what is appended in one epoch is 0, 1, 2 ... once each."""
    state: ProducerState | None = None
    appended: dict[int, list[int]] = {}
    for index, (sequence, count, epoch) in enumerate(attempts, start=1):
        batch = Batch(sequence, count, producer_epoch=epoch)
        try:
            decision = decide(state, batch)
        except RaftmqError:
            continue
        if decision == APPEND:
            state = advance(state, batch, placement(index))
            appended.setdefault(epoch, []).extend(range(sequence, sequence + count))
    assert all(sequences == list(range(len(sequences))) for sequences in appended.values())
    assert list(appended) == sorted(appended)
