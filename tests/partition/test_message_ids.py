"""Message ids: one test per rule, and a model that remembers everything beside the table and the overlay."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.errors import InvalidArgument
from raftmq.ids import LogIndex, Offset, Term, WallMs
from raftmq.partition.message_ids import DEFAULT_WINDOW, MessageIdOverlay, MessageIdTable, NamedBatch, Window
from raftmq.partition.producers import Placement


@dataclass(frozen=True)
class Batch:
    message_id: str
    count: int = 1
    crc: int = 0xABCD


def at(index: int, log_tick: int = 0) -> Placement:
    return Placement(Offset(index * 10), LogIndex(index), Term(3), WallMs(index * 1000), log_tick)


def table_of(*ids: str, window: Window = DEFAULT_WINDOW) -> MessageIdTable:
    table = MessageIdTable(window)
    for index, message_id in enumerate(ids, start=1):
        table.remember(Batch(message_id), at(index, log_tick=index))
        table.forget(index)
    return table


def test_a_known_id_leads_to_its_original() -> None:
    table = table_of("a", "b")
    original = table.find(Batch("a"), 2)
    assert original is not None
    assert (original.base_offset, original.log_index, original.term, original.wall_ms) == (10, 1, 3, 1000)
    assert table.find(Batch("c"), 2) is None


@pytest.mark.parametrize("batch", [Batch("a", count=2), Batch("a", crc=1)])
def test_other_records_under_a_known_id_are_refused(batch: Batch) -> None:
    with pytest.raises(InvalidArgument) as caught:
        table_of("a").find(batch, 1)
    assert caught.value.field == "message_id"


def test_ids_are_forgotten_by_count() -> None:
    table = table_of("a", "b", "c", window=Window(count=2, age_ms=100))
    assert [batch.message_id for batch in table] == ["b", "c"]
    assert table.find(Batch("a"), 3) is None
    assert table.total == 3


def test_ids_are_forgotten_by_log_time_to_the_tick() -> None:
    table = table_of("a", window=Window(count=2, age_ms=100))
    assert table.find(Batch("a"), 100) is not None
    assert table.find(Batch("a"), 101) is None
    assert table.forget(100) == []
    assert [batch.message_id for batch in table.forget(101)] == ["a"]


def test_a_row_reads_back() -> None:
    [batch] = table_of("über")
    assert NamedBatch.decode(batch.number, batch.encode()) == batch


def test_an_uncommitted_batch_already_counts() -> None:
    overlay = MessageIdOverlay(MessageIdTable())
    overlay.note(Batch("a"), at(5))
    original = overlay.find(Batch("a"), 0)
    assert original is not None
    assert original.log_index == 5


def test_uncommitted_batches_push_applied_ones_out() -> None:
    overlay = MessageIdOverlay(table_of("a", "b", window=Window(count=2, age_ms=100)))
    overlay.note(Batch("c"), at(3, log_tick=3))
    assert overlay.find(Batch("a"), 3) is None
    assert overlay.find(Batch("b"), 3) is not None


def test_an_uncommitted_window_already_counts_and_brings_nothing_back() -> None:
    overlay = MessageIdOverlay(table_of("a", "b", "c"))
    overlay.note_window(Window(count=1, age_ms=100), LogIndex(4), 3)
    assert overlay.window == Window(1, 100)
    assert overlay.find(Batch("b"), 3) is None
    assert overlay.find(Batch("c"), 3) is not None
    overlay.note_window(Window(count=9, age_ms=100), LogIndex(5), 3)
    assert overlay.find(Batch("b"), 3) is None
    assert overlay.find(Batch("c"), 3) is not None


@dataclass
class Model:
    """Everything that was ever appended, in plain lists: ids with their ticks, and from where on they count."""

    window: Window
    ids: list[tuple[str, int, int]] = field(default_factory=list)
    """(id, log tick, log index)"""
    first: int = 0

    def original(self, message_id: str, log_tick: int) -> int | None:
        counted = range(max(self.first, len(self.ids) - self.window.count), len(self.ids))
        found = [
            self.ids[number][2]
            for number in counted
            if self.ids[number][0] == message_id and log_tick - self.ids[number][1] < self.window.age_ms
        ]
        assert len(found) <= 1, "an id is appended twice within the window"
        return found[0] if found else None

    def change(self, window: Window, log_tick: int) -> None:
        self.first = max(self.first, len(self.ids) - self.window.count)
        while self.first < len(self.ids) and log_tick - self.ids[self.first][1] >= self.window.age_ms:
            self.first += 1
        self.window = window


class Leader:
    """A leader with a table and an overlay, beside the model."""

    def __init__(self) -> None:
        window = Window(3, 20)
        self.model = Model(window)
        self.table = MessageIdTable(window)
        self.overlay = MessageIdOverlay(self.table)
        self.uncommitted: list[tuple[int, int, Batch | Window]] = []
        self.log_tick = self.last_index = 0

    def produce(self, message_id: str, elapsed: int) -> None:
        self.log_tick += elapsed
        found = self.overlay.find(Batch(message_id), self.log_tick)
        assert (None if found is None else found.log_index) == self.model.original(message_id, self.log_tick)
        if found is not None:
            return
        self.last_index += 1
        self.overlay.note(Batch(message_id), at(self.last_index, self.log_tick))
        self.model.ids.append((message_id, self.log_tick, self.last_index))
        self.uncommitted.append((self.last_index, self.log_tick, Batch(message_id)))

    def change(self, count: int, age_ms: int, elapsed: int) -> None:
        self.log_tick += elapsed
        self.last_index += 1
        self.overlay.note_window(Window(count, age_ms), LogIndex(self.last_index), self.log_tick)
        self.model.change(Window(count, age_ms), self.log_tick)
        self.uncommitted.append((self.last_index, self.log_tick, Window(count, age_ms)))

    def commit(self, entries: int) -> None:
        """As the state machine applies them."""
        for index, log_tick, entry in self.uncommitted[:entries]:
            if isinstance(entry, Batch):
                assert self.table.find(entry, log_tick) is None
                self.table.forget(log_tick)
                self.table.remember(entry, at(index, log_tick))
            else:
                self.table.forget(log_tick)
                self.table.window = entry
            self.table.forget(log_tick)
            self.overlay.applied(LogIndex(index))
        del self.uncommitted[:entries]

    def lose_leadership(self) -> None:
        """The next leader has everything: it decides once all of it is applied."""
        self.commit(len(self.uncommitted))
        self.overlay = MessageIdOverlay(self.table)


elapsed = st.sampled_from([0, 0, 0, 1, 7, 19, 20])
steps = st.one_of(
    st.tuples(st.just("produce"), st.sampled_from("abcde"), elapsed),
    st.tuples(st.just("produce"), st.sampled_from("abcde"), st.just(0)),
    st.tuples(st.just("change"), st.integers(1, 4), st.sampled_from([1, 8, 20, 40]), elapsed),
    st.tuples(st.just("commit"), st.integers(1, 4)),
    st.tuples(st.just("lose_leadership")),
)


@settings(max_examples=300)
@given(st.lists(steps, max_size=60))
def test_overlay_and_table_decide_as_one_that_remembers_everything(script: list[tuple[object, ...]]) -> None:
    leader = Leader()
    for name, *arguments in script:
        getattr(leader, str(name))(*arguments)
    leader.commit(len(leader.uncommitted))
    assert len(leader.overlay) == 0
    assert len(leader.table) <= leader.table.window.count
    for message_id in "abcde":
        found = leader.table.find(Batch(message_id), leader.log_tick)
        assert (None if found is None else found.log_index) == leader.model.original(message_id, leader.log_tick)
