"""The overlay over the applied table decides exactly as a table to which everything had been applied at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.errors import OutOfOrderSequence, RaftmqError
from raftmq.ids import LogIndex, Offset, ProducerId, Term, WallMs
from raftmq.partition.overlay import ProducerOverlay
from raftmq.partition.producers import APPEND, Decision, Duplicate, Placement, ProducerTable, Sequenced, advance

EXPIRY_MS = 20


@dataclass(frozen=True)
class Batch:
    producer_id: ProducerId
    producer_epoch: int
    first_sequence: int
    count: int
    crc: int


def outcome(table: ProducerTable | ProducerOverlay, batch: Batch, log_tick: int) -> Decision | tuple[str, str]:
    try:
        return table.decide(batch, log_tick)
    except RaftmqError as error:
        return error.reason, error.message


def apply(table: ProducerTable, batch: Sequenced, placement: Placement) -> None:
    """What the state machine does with an appended batch."""
    if batch.producer_id:
        state = table.get(batch.producer_id, placement.log_tick)
        table.put(batch.producer_id, advance(state, batch, placement))
    table.expire(placement.log_tick)


class Leader:
    """A leader with an overlay, beside a table to which every batch is applied the moment it is proposed."""

    def __init__(self) -> None:
        self.table = ProducerTable(EXPIRY_MS)
        self.overlay = ProducerOverlay(self.table)
        self.at_once = ProducerTable(EXPIRY_MS)
        self.uncommitted: list[tuple[Batch, Placement]] = []
        self.log_tick = 0
        self.applied_tick = 0
        self.last_index = 0

    def produce(self, batch: Batch, elapsed: int) -> None:
        """`batch.first_sequence` counts from where its producer has got to."""
        self.log_tick += elapsed
        state = self.at_once.get(batch.producer_id, self.log_tick)
        known = state is not None and state.epoch == batch.producer_epoch
        position = state.batches[-1].next_sequence if state is not None and known else 0
        batch = replace(batch, first_sequence=max(0, batch.first_sequence + position))
        decision = outcome(self.overlay, batch, self.log_tick)
        assert decision == outcome(self.at_once, batch, self.log_tick)
        if decision != APPEND:
            return
        self.last_index += 1
        index = LogIndex(self.last_index)
        placement = Placement(Offset(10 * self.last_index), index, Term(1), WallMs(self.log_tick), self.log_tick)
        self.overlay.note(batch, placement)
        self.uncommitted.append((batch, placement))
        apply(self.at_once, batch, placement)

    def commit(self, count: int) -> None:
        for batch, placement in self.uncommitted[:count]:
            apply(self.table, batch, placement)
            self.overlay.applied(placement.index)
            self.applied_tick = placement.log_tick
        del self.uncommitted[:count]

    def lose_leadership(self) -> None:
        """What was not committed is overwritten; the next leader's clock goes on from the last entry."""
        self.uncommitted.clear()
        self.overlay.clear()
        self.log_tick = self.applied_tick
        self.at_once = ProducerTable(EXPIRY_MS, list(self.table))


batches = st.builds(
    Batch,
    producer_id=st.integers(0, 2).map(ProducerId),
    producer_epoch=st.integers(0, 1),
    first_sequence=st.sampled_from([0, 0, 0, 0, 1, -1, -2, -3]),
    count=st.integers(1, 2),
    crc=st.integers(0, 1),
)
steps = st.one_of(
    st.tuples(st.just("produce"), batches, st.sampled_from([0, 0, 1, 7, EXPIRY_MS - 1, EXPIRY_MS])),
    st.tuples(st.just("produce"), batches, st.just(0)),
    st.tuples(st.just("commit"), st.integers(1, 4)),
    st.tuples(st.just("lose_leadership")),
)


@settings(max_examples=200)
@given(st.lists(steps, max_size=60))
def test_overlay_and_table_decide_as_one_table(script: list[tuple[object, ...]]) -> None:
    leader = Leader()
    for name, *arguments in script:
        getattr(leader, str(name))(*arguments)
    leader.commit(len(leader.uncommitted))
    assert len(leader.overlay) == 0
    assert sorted(leader.table) == sorted(leader.at_once)


def batch(first_sequence: int, producer: int = 1) -> Batch:
    return Batch(ProducerId(producer), 0, first_sequence, 1, 0)


def at(index: int, log_tick: int = 0) -> Placement:
    return Placement(Offset(index), LogIndex(index), Term(1), WallMs(0), log_tick)


def test_an_uncommitted_batch_already_counts() -> None:
    overlay = ProducerOverlay(ProducerTable())
    overlay.note(batch(0), at(5))
    assert overlay.decide(batch(1), 0) == APPEND
    duplicate = overlay.decide(batch(0), 0)
    assert isinstance(duplicate, Duplicate)
    assert duplicate.original is not None
    assert duplicate.original.log_index == 5
    with pytest.raises(OutOfOrderSequence):
        overlay.decide(batch(2), 0)


def test_what_is_not_applied_yet_goes_on_counting() -> None:
    table = ProducerTable()
    overlay = ProducerOverlay(table)
    for sequence in (0, 1):
        overlay.note(batch(sequence), at(sequence + 1))
    apply(table, batch(0), at(1))
    overlay.applied(LogIndex(1))
    assert overlay.decide(batch(2), 0) == APPEND


def test_an_uncommitted_batch_expires_like_any_other() -> None:
    overlay = ProducerOverlay(ProducerTable(EXPIRY_MS))
    overlay.note(batch(0), at(1, log_tick=5))
    assert isinstance(overlay.decide(batch(0), 4 + EXPIRY_MS), Duplicate)
    assert overlay.decide(batch(0), 5 + EXPIRY_MS) == APPEND


def test_the_overlay_is_empty_when_everything_is_applied() -> None:
    overlay = ProducerOverlay(ProducerTable())
    for index in (1, 2, 4):
        overlay.note(batch(index - 1 if index < 3 else 0, producer=index // 3 + 1), at(index))
    assert len(overlay) == 3
    overlay.applied(LogIndex(3))
    assert len(overlay) == 1
    overlay.applied(LogIndex(4))
    assert len(overlay) == 0


def test_what_was_noted_is_forgotten_with_leadership() -> None:
    overlay = ProducerOverlay(ProducerTable())
    overlay.note(batch(0), at(1))
    overlay.clear()
    assert len(overlay) == 0
    assert overlay.decide(batch(0), 0) == APPEND


def test_batches_are_noted_in_log_order() -> None:
    overlay = ProducerOverlay(ProducerTable())
    overlay.note(batch(0), at(2))
    with pytest.raises(AssertionError):
        overlay.note(batch(1), at(2))


def test_a_batch_without_producer_is_not_remembered() -> None:
    overlay = ProducerOverlay(ProducerTable())
    overlay.note(batch(0, producer=0), at(1))
    assert len(overlay) == 0
