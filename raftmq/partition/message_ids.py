"""What a partition remembers of the message ids of clients without a producer id, and what follows for the next batch.

A client that keeps no state of its own (a shell command, a function that is run anew for every event) gives its batch
an id of its choice. While the id is in the window, the same batch again is a duplicate and is answered with where it
went the first time. The window is bounded twice::

    ids        | a | b | c | d | e | f | g |        the newest at the right, numbered in this order
    by count           `--- newest `count` ---'
    by age         `-- of the last `age_ms` --'     both must hold: here c to g are remembered

Age is *log tick*, milliseconds of led time, so that a retry is not too late because nobody led. The window itself
comes out of the log too (``commands.WindowCommand``): all replicas agree on it at every entry.

As with sequences, the leader decides when it proposes, over the applied table and its own uncommitted batches, and
every replica asserts the same decision when it applies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from raftmq.errors import InvalidArgument
from raftmq.ids import LogIndex, Offset, Term, WallMs
from raftmq.internal.v1 import storage_pb2
from raftmq.partition.producers import Placement


class Named(Protocol):
    """What a decision needs of a batch (``CheckedBatch`` has it)."""

    @property
    def message_id(self) -> str:
        """Empty: none."""

    @property
    def count(self) -> int: ...
    @property
    def crc(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Window:
    """How long ids are remembered."""

    count: int
    """At most so many, the newest."""
    age_ms: int
    """And for so many milliseconds of log tick."""


DEFAULT_WINDOW = Window(10_000, 10 * 60 * 1000)
"""Until the log says otherwise. Frozen: replicas of different versions must decide alike."""


@dataclass(frozen=True, slots=True)
class NamedBatch:
    """A batch as it is remembered."""

    number: int
    """How many ids the partition had remembered before it."""
    message_id: str
    count: int
    crc: int
    base_offset: Offset
    log_index: LogIndex
    term: Term
    wall_ms: WallMs
    log_tick: int

    @classmethod
    def of(cls, number: int, batch: Named, placement: Placement) -> NamedBatch:
        return cls(
            number,
            batch.message_id,
            batch.count,
            batch.crc,
            placement.base_offset,
            placement.index,
            placement.term,
            placement.wall_ms,
            placement.log_tick,
        )

    def encode(self) -> bytes:
        """A serialised MessageIdRow; the number is its key."""
        return storage_pb2.MessageIdRow(
            message_id=self.message_id,
            count=self.count,
            crc32c=self.crc,
            base_offset=self.base_offset,
            log_index=self.log_index,
            term=self.term,
            wall_ms=self.wall_ms,
            log_tick=self.log_tick,
        ).SerializeToString()

    @classmethod
    def decode(cls, number: int, row: bytes) -> NamedBatch:
        message = storage_pb2.MessageIdRow.FromString(row)
        return cls(
            number,
            message.message_id,
            message.count,
            message.crc32c,
            Offset(message.base_offset),
            LogIndex(message.log_index),
            Term(message.term),
            WallMs(message.wall_ms),
            message.log_tick,
        )


def same_batch(known: NamedBatch, batch: Named) -> NamedBatch:
    """`known`, the original of `batch`. Raises InvalidArgument where the id was another batch's: to answer that with a
    receipt would lose records."""
    if (known.count, known.crc) != (batch.count, batch.crc):
        raise InvalidArgument(
            f"message id {batch.message_id!r} was another batch before: {known.count} records with CRC-32C "
            f"{known.crc:#010x}, now {batch.count} with {batch.crc:#010x}",
            field="message_id",
        )
    return known


class MessageIdTable:
    """The ids of a partition, as applied."""

    def __init__(self, window: Window = DEFAULT_WINDOW, total: int = 0, batches: Iterable[NamedBatch] = ()) -> None:
        self.window = window
        self.total = total
        """Ids ever remembered: the number that the next one gets."""
        # Invariant: in order of their numbers, which is the order of their log ticks too.
        self._batches = {batch.message_id: batch for batch in sorted(batches, key=lambda batch: batch.number)}

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[NamedBatch]:
        """Oldest first."""
        return iter(self._batches.values())

    def get(self, message_id: str) -> NamedBatch | None:
        """Whether it still counts is for the caller to see."""
        return self._batches.get(message_id)

    def find(self, batch: Named, log_tick: int) -> NamedBatch | None:
        """The original of `batch` as it counts at `log_tick`; None: it is new. Raises InvalidArgument."""
        known = self._batches.get(batch.message_id)
        if known is None or not self._counts(known, log_tick):
            return None
        return same_batch(known, batch)

    def remember(self, batch: Named, placement: Placement) -> NamedBatch:
        """`batch`, which is new, was appended."""
        assert batch.message_id not in self._batches, "what no longer counts is forgotten first"
        remembered = self._batches[batch.message_id] = NamedBatch.of(self.total, batch, placement)
        self.total += 1
        return remembered

    def forget(self, log_tick: int) -> list[NamedBatch]:
        """Forget what no longer counts at `log_tick`; returns it."""
        gone: list[NamedBatch] = []
        for batch in self._batches.values():
            if self._counts(batch, log_tick):
                break
            gone.append(batch)
        for batch in gone:
            del self._batches[batch.message_id]
        return gone

    def _counts(self, batch: NamedBatch, log_tick: int) -> bool:
        window = self.window
        return batch.number >= self.total - window.count and log_tick - batch.log_tick < window.age_ms


class MessageIdOverlay:
    """Uncommitted batches and windows of one leader in one term, over the applied `table`: decisions come out as if
    everything had been applied. The caller's contract is that of ``overlay.ProducerOverlay``.
    """

    def __init__(self, table: MessageIdTable) -> None:
        self._table = table
        self._batches: dict[str, NamedBatch] = {}
        self._noted: deque[tuple[LogIndex, NamedBatch | Window]] = deque()
        self._window: Window | None = None
        """The newest one noted."""
        self._next = 0
        """The number after the newest one noted."""
        self._floor = 0
        """Numbers below it were forgotten under a window that has been replaced since."""

    def __len__(self) -> int:
        """Batches and windows noted and not yet applied."""
        return len(self._noted)

    @property
    def window(self) -> Window:
        """As of everything noted."""
        return self._table.window if self._window is None else self._window

    def find(self, batch: Named, log_tick: int) -> NamedBatch | None:
        """See ``MessageIdTable.find``. `log_tick` is that of the entry which is to carry the batch."""
        known = self._batches.get(batch.message_id) or self._table.get(batch.message_id)
        if known is None or not self._counts(known, log_tick):
            return None
        return same_batch(known, batch)

    def note(self, batch: Named, placement: Placement) -> None:
        """`batch`, which is new, has been proposed at `placement`."""
        remembered = NamedBatch.of(self._total, batch, placement)
        self._batches[batch.message_id] = remembered
        self._next = remembered.number + 1
        self._note(placement.index, remembered)

    def note_window(self, window: Window, index: LogIndex, log_tick: int) -> None:
        """`window` has been proposed. What the one before has forgotten by then stays forgotten under a wider one."""
        for batch in (*self._table, *self._batches.values()):
            if not self._counts(batch, log_tick):
                self._floor = max(self._floor, batch.number + 1)
        self._window = window
        self._note(index, window)

    def applied(self, index: LogIndex) -> None:
        """The table has been given every entry up to `index`: drop what it knows by itself now."""
        while self._noted and self._noted[0][0] <= index:
            _, noted = self._noted.popleft()
            if isinstance(noted, NamedBatch) and self._batches.get(noted.message_id) is noted:
                del self._batches[noted.message_id]

    @property
    def _total(self) -> int:
        return max(self._table.total, self._next)

    def _note(self, index: LogIndex, noted: NamedBatch | Window) -> None:
        assert not self._noted or self._noted[-1][0] < index, "entries are noted in log order"
        self._noted.append((index, noted))

    def _counts(self, batch: NamedBatch, log_tick: int) -> bool:
        window = self.window
        first = max(self._floor, self._total - window.count)
        return batch.number >= first and log_tick - batch.log_tick < window.age_ms
