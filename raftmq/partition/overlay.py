"""The leader's view of who sent what: the applied state, and on top of it the leader's own uncommitted entries.

A leader decides on a batch before the batches ahead of it are committed. The overlay holds what those will make of the
table when they are applied, so that decisions come out as if they had been.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from raftmq.ids import LogIndex, ProducerId
from raftmq.partition.message_ids import MessageIdOverlay, MessageIdTable, Named, Window
from raftmq.partition.producers import (
    APPEND,
    Decision,
    Duplicate,
    Placement,
    ProducerState,
    ProducerTable,
    Sequenced,
    advance,
    decide,
)


class Claimed(Sequenced, Named, Protocol):
    """A batch that says who sent it: a producer, by sequence, or anybody, by a message id; never both."""


class Overlay:
    """Both overlays as one, with the contract of ``ProducerOverlay``."""

    def __init__(self, producers: ProducerTable, message_ids: MessageIdTable) -> None:
        self._producers = ProducerOverlay(producers)
        self._message_ids = MessageIdOverlay(message_ids)

    @property
    def window(self) -> Window:
        """How long message ids will be remembered once everything noted is applied."""
        return self._message_ids.window

    def decide(self, batch: Claimed, log_tick: int) -> Decision:
        """What to do with `batch` in an entry of `log_tick`. Raises as ``producers.decide``."""
        if not batch.message_id:
            return self._producers.decide(batch, log_tick)
        original = self._message_ids.find(batch, log_tick)
        return APPEND if original is None else Duplicate(original)

    def note(self, batch: Claimed, placement: Placement) -> None:
        """`batch` was decided to be appended, and has been proposed at `placement`."""
        if batch.message_id:
            self._message_ids.note(batch, placement)
        else:
            self._producers.note(batch, placement)

    def note_window(self, window: Window, index: LogIndex, log_tick: int) -> None:
        """Another window for message ids has been proposed."""
        self._message_ids.note_window(window, index, log_tick)

    def applied(self, index: LogIndex) -> None:
        """The tables have been given every entry up to `index`."""
        self._producers.applied(index)
        self._message_ids.applied(index)


class ProducerOverlay:
    """Uncommitted batches of one leader in one term, over the applied `table`.

    The caller's contract:

    - ``decide`` only while leading, and only once everything before the own term is applied to `table`.
    - ``note`` every batch that is proposed, in log order, with the same log tick that it was decided with and that its
      entry carries: a producer may expire between two ticks.
    - ``applied`` after the table was given an entry; ``clear`` when leadership ends, for whatever was noted may now
      be overwritten.
    """

    def __init__(self, table: ProducerTable) -> None:
        self._table = table
        self._states: dict[ProducerId, ProducerState] = {}
        self._noted: deque[tuple[LogIndex, ProducerId]] = deque()

    def __len__(self) -> int:
        """Batches noted and not yet applied."""
        return len(self._noted)

    def decide(self, batch: Sequenced, log_tick: int) -> Decision:
        """See ``producers.decide``. `log_tick` is that of the entry which is to carry the batch."""
        return decide(self._get(batch.producer_id, log_tick), batch)

    def note(self, batch: Sequenced, placement: Placement) -> None:
        """`batch` was decided to be appended, and has been proposed at `placement`."""
        if batch.producer_id == 0:
            return
        assert not self._noted or self._noted[-1][0] < placement.index, "batches are noted in log order"
        state = self._get(batch.producer_id, placement.log_tick)
        self._states[batch.producer_id] = advance(state, batch, placement)
        self._noted.append((placement.index, batch.producer_id))

    def applied(self, index: LogIndex) -> None:
        """The table has been given every entry up to `index`: drop what it knows by itself now."""
        while self._noted and self._noted[0][0] <= index:
            _, producer_id = self._noted.popleft()
            state = self._states.get(producer_id)
            if state is not None and state.batches[-1].log_index <= index:
                del self._states[producer_id]

    def clear(self) -> None:
        """Leadership ended."""
        self._states.clear()
        self._noted.clear()

    def _get(self, producer_id: ProducerId, log_tick: int) -> ProducerState | None:
        state = self._states.get(producer_id)
        if state is None:
            return self._table.get(producer_id, log_tick)
        return None if self._table.is_expired(state, log_tick) else state
