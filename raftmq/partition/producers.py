"""What a partition remembers of its idempotent producers, and what follows from it for the next batch.

Per producer: its epoch, and its last 64 batches. A batch is accepted when its sequence follows the last one's; a batch
in the window is a duplicate and is answered with where it went the first time::

    sequence      0        10        25            40
    window        |  batch  |  batch  |    batch    |
                  ^ 0..9: duplicate of the first    ^ 40: append     41 or more: out of order

Everything here is a pure function of a producer's state, a batch and a log tick. The leader decides when it proposes
(with the tick that the entry will carry), and every replica asserts the same decision when it applies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from raftmq.errors import FencedProducer, InvalidArgument, OutOfOrderSequence, UnknownProducer
from raftmq.ids import LogIndex, Offset, ProducerId, Term, WallMs
from raftmq.internal.v1 import storage_pb2

WINDOW = 64
"""Batches remembered per producer: more than a client may have in flight, so that any retry finds its original."""

EXPIRY_MS = 24 * 60 * 60 * 1000
"""A producer is forgotten after so much log time without a batch. Must be later than any client's delivery timeout:
a batch that is still being retried must find its original."""


class Sequenced(Protocol):
    """What a decision needs of a batch (``CheckedBatch`` has it)."""

    @property
    def producer_id(self) -> ProducerId: ...
    @property
    def producer_epoch(self) -> int: ...
    @property
    def first_sequence(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def crc(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the log put a batch, and when."""

    base_offset: Offset
    index: LogIndex
    term: Term
    wall_ms: WallMs
    log_tick: int


class Original(Protocol):
    """A batch that is in the log, as far as whoever sends it again wants to know."""

    @property
    def base_offset(self) -> Offset: ...
    @property
    def log_index(self) -> LogIndex: ...
    @property
    def term(self) -> Term: ...
    @property
    def wall_ms(self) -> WallMs: ...


@dataclass(frozen=True, slots=True)
class ProducerBatch:
    """A batch as it is remembered."""

    first_sequence: int
    count: int
    crc: int
    base_offset: Offset
    log_index: LogIndex
    wall_ms: WallMs
    term: Term
    encoded: bytes = field(repr=False)
    """This batch as a part of a serialised ProducerRow. Kept because a row holds 64 of them and one is new: parts of a
    protobuf message may be joined, and joining costs a fraction of serialising."""

    @classmethod
    def of(cls, batch: Sequenced, placement: Placement) -> ProducerBatch:
        return cls._from_proto(
            storage_pb2.ProducerBatch(
                first_sequence=batch.first_sequence,
                count=batch.count,
                crc32c=batch.crc,
                base_offset=placement.base_offset,
                log_index=placement.index,
                wall_ms=placement.wall_ms,
                term=placement.term,
            )
        )

    @classmethod
    def _from_proto(cls, message: storage_pb2.ProducerBatch) -> ProducerBatch:
        return cls(
            message.first_sequence,
            message.count,
            message.crc32c,
            Offset(message.base_offset),
            LogIndex(message.log_index),
            WallMs(message.wall_ms),
            Term(message.term),
            storage_pb2.ProducerRow(batches=[message]).SerializeToString(),
        )

    @property
    def next_sequence(self) -> int:
        return self.first_sequence + self.count


@dataclass(frozen=True, slots=True)
class ProducerState:
    """One producer. Invariant: `batches` is not empty, newest last, and each follows the one before."""

    epoch: int
    log_tick: int
    """Of the last batch."""
    batches: tuple[ProducerBatch, ...]

    def encode(self) -> bytes:
        """A serialised ProducerRow."""
        head = storage_pb2.ProducerRow(epoch=self.epoch, log_tick=self.log_tick).SerializeToString()
        return head + b"".join([batch.encoded for batch in self.batches])

    @classmethod
    def decode(cls, row: bytes) -> ProducerState:
        message = storage_pb2.ProducerRow.FromString(row)
        batches = tuple(ProducerBatch._from_proto(batch) for batch in message.batches)
        assert batches, "a producer without batches is not kept"
        return cls(message.epoch, message.log_tick, batches)


@dataclass(frozen=True, slots=True)
class Append:
    """The batch is new and in order."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The batch is in the log already. ``original`` is None where it is too old for the window: then nothing is known
    of it but that it was accepted."""

    original: Original | None


Decision = Append | Duplicate
APPEND = Append()


def decide(state: ProducerState | None, batch: Sequenced) -> Decision:
    """What to do with `batch` of a producer in `state` (None: not known, or expired).

    Raises FencedProducer, OutOfOrderSequence, UnknownProducer, or InvalidArgument with the field.
    """
    if batch.producer_id == 0:
        return APPEND
    if state is None:
        if batch.first_sequence != 0:
            raise UnknownProducer(
                f"producer {batch.producer_id} is not known here (any more); its sequence would begin at 0, "
                f"not at {batch.first_sequence}"
            )
        return APPEND
    if batch.producer_epoch < state.epoch:
        raise FencedProducer(
            f"producer {batch.producer_id} has moved on to epoch {state.epoch}, this batch is of {batch.producer_epoch}"
        )
    expected = state.batches[-1].next_sequence if batch.producer_epoch == state.epoch else 0
    if batch.first_sequence == expected:
        return APPEND
    if batch.first_sequence > expected:
        raise OutOfOrderSequence(
            f"producer {batch.producer_id} would go on with sequence {expected}, not {batch.first_sequence}",
            metadata={"expected_sequence": str(expected)},
        )
    return _duplicate(state, batch)


def advance(state: ProducerState | None, batch: Sequenced, placement: Placement) -> ProducerState:
    """The state after an appended `batch` of an idempotent producer."""
    accepted = ProducerBatch.of(batch, placement)
    if state is None or state.epoch != batch.producer_epoch:
        return ProducerState(batch.producer_epoch, placement.log_tick, (accepted,))
    return ProducerState(state.epoch, placement.log_tick, (*state.batches[-(WINDOW - 1) :], accepted))


def _duplicate(state: ProducerState, batch: Sequenced) -> Duplicate:
    """A batch whose sequence was used before: the same batch again, or an error of the client."""
    where = "batch.header.first_sequence"
    if batch.first_sequence + batch.count <= state.batches[0].first_sequence:
        return Duplicate(None)
    for known in reversed(state.batches):
        if known.first_sequence == batch.first_sequence:
            if (known.count, known.crc) == (batch.count, batch.crc):
                return Duplicate(known)
            raise InvalidArgument(
                f"sequence {batch.first_sequence} of producer {batch.producer_id} was another batch before: "
                f"{known.count} records with CRC-32C {known.crc:#010x}",
                field=where,
            )
    raise InvalidArgument(
        f"sequences {batch.first_sequence} to {batch.first_sequence + batch.count - 1} of producer "
        f"{batch.producer_id} overlap batches that were divided differently",
        field=where,
    )


class ProducerTable:
    """All producers of a partition, as applied. A producer is forgotten `expiry_ms` of log time after its last batch.

    The number of producers is not capped: forgetting one early would turn its retry into a duplicate. ``len`` is there
    for whoever wants to refuse new ones in time.
    """

    def __init__(self, expiry_ms: int = EXPIRY_MS, rows: Iterable[tuple[ProducerId, ProducerState]] = ()) -> None:
        assert expiry_ms > 0
        self.expiry_ms = expiry_ms
        # Invariant: in order of last use, which is the order of expiry, since log ticks never fall.
        self._states = dict(sorted(rows, key=lambda row: (row[1].log_tick, row[0])))

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[tuple[ProducerId, ProducerState]]:
        """Every producer with its state, by the log tick of its last use."""
        return iter(self._states.items())

    def is_expired(self, state: ProducerState, log_tick: int) -> bool:
        """True where `state` no longer counts at `log_tick`."""
        return log_tick - state.log_tick >= self.expiry_ms

    def get(self, producer_id: ProducerId, log_tick: int) -> ProducerState | None:
        """The state of a producer as it counts at `log_tick`."""
        state = self._states.get(producer_id)
        return None if state is None or self.is_expired(state, log_tick) else state

    def decide(self, batch: Sequenced, log_tick: int) -> Decision:
        """See `decide`. `log_tick` is that of the entry which is to carry the batch."""
        return decide(self.get(batch.producer_id, log_tick), batch)

    def put(self, producer_id: ProducerId, state: ProducerState) -> None:
        """Set the state of a producer, which thereby is the last one used."""
        self._states.pop(producer_id, None)
        self._states[producer_id] = state

    def expire(self, log_tick: int) -> list[ProducerId]:
        """Forget every producer that no longer counts at `log_tick`; returns them."""
        expired: list[ProducerId] = []
        for producer_id, state in self._states.items():
            if not self.is_expired(state, log_tick):
                break
            expired.append(producer_id)
        for producer_id in expired:
            del self._states[producer_id]
        return expired
