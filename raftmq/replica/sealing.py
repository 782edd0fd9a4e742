"""The end of a log, and how entries are put onto it: offsets, stamps and the chain of hashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from raftmq.ids import Offset, Tick
from raftmq.ports import Anchor
from raftmq.raft.types import Entry, EntryKind
from raftmq.records.entry import CorruptEntry, LogEntry, chain_follows, seal
from raftmq.records.membership_codec import encode_membership
from raftmq.replica.clock import LogClock

NOOP_VERSION = 1
MEMBERSHIP_VERSION = 1


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that this node proposes: its place in the log is not known yet, so it is not sealed."""

    version: int
    count: int
    inline: bytes
    payload: bytes = b""
    payload_crc: int | None = None
    stamp: tuple[int, int] | None = None
    """(log tick, wall stamp) where the proposer had to know them; None: those of the entry before."""

    @property
    def size(self) -> int:
        return len(self.inline) + len(self.payload) + 80


class _End(NamedTuple):
    """What the next entry is sealed on."""

    chain: bytes
    offset: Offset
    log_tick: int
    wall_ms: int


def _after(entry: LogEntry) -> _End:
    return _End(entry.chain, entry.next_offset, entry.log_tick, entry.wall_ms)


class LogEnd:
    """Where one replica's log ends, sealed entries only; and the leader's clock for what comes next."""

    def __init__(self, anchor: Anchor, last: LogEntry | None) -> None:
        self._anchor = anchor
        self._end = self._at(last)
        self._clock: LogClock | None = None
        self._earlier_jumps = 0

    def _at(self, last: LogEntry | None) -> _End:
        if last is not None:
            return _after(last)
        anchor = self._anchor
        return _End(anchor.chain, anchor.offset, anchor.log_tick, anchor.wall_ms)

    @property
    def offset(self) -> Offset:
        """Of the next record."""
        return self._end.offset

    @property
    def chain(self) -> bytes:
        """Over every entry so far."""
        return self._end.chain

    @property
    def clock_jumps(self) -> int:
        """How often the wall clock was not believed, in all terms that this replica led."""
        return self._earlier_jumps + (0 if self._clock is None else self._clock.jumps)

    def start_term(self, now: Tick, wall_ms: int) -> None:
        """This node leads from here on. The clock outlives the term: what was proposed in it is sealed with it."""
        self._earlier_jumps = self.clock_jumps
        self._clock = LogClock(now, wall_ms, self._end.log_tick, self._end.wall_ms)

    def stamp(self, now: Tick, wall_ms: int) -> tuple[int, int]:
        """(log tick, wall stamp) for a draft made now. Leader only; drafts are proposed in the order stamped."""
        assert self._clock is not None, "only a leader stamps entries"
        return self._clock.stamp(now, wall_ms)

    def seal(self, entry: Entry) -> LogEntry:
        """The entry as it will lie on disk. Raises CorruptEntry where a leader's entry does not continue this log."""
        payload = entry.payload
        if isinstance(payload, LogEntry):
            if payload.base_offset != self._end.offset or not chain_follows(self._end.chain, payload):
                raise CorruptEntry(
                    f"the leader's entry {entry.index} of term {entry.term} does not continue this replica's log: "
                    "one of the two is damaged (chain hash or offset differs)"
                )
            sealed = payload
        else:
            sealed = self._seal_own(entry)
        self._end = _after(sealed)
        return sealed

    def _seal_own(self, entry: Entry) -> LogEntry:
        assert self._clock is not None, "only a leader makes entries"
        draft = _draft(entry)
        # Not the clock's newest stamp: entries that were stamped before may follow, and stamps never fall.
        log_tick, wall_ms = draft.stamp or (self._end.log_tick, self._end.wall_ms)
        return seal(
            previous_chain=self._end.chain,
            index=entry.index,
            term=entry.term,
            kind=entry.kind,
            version=draft.version,
            base_offset=self._end.offset,
            count=draft.count,
            log_tick=log_tick,
            wall_ms=wall_ms,
            inline=draft.inline,
            payload=draft.payload,
            payload_crc=draft.payload_crc,
        )

    def trimmed(self, anchor: Anchor) -> None:
        """The log begins after `anchor` now."""
        self._anchor = anchor

    def truncate(self, last: LogEntry | None) -> None:
        """The log ends with `last` now; None: nothing is left of it."""
        self._end = self._at(last)


def _draft(entry: Entry) -> Draft:
    if isinstance(entry.payload, Draft):
        return entry.payload
    if entry.kind is EntryKind.MEMBERSHIP:
        assert entry.membership is not None
        return Draft(MEMBERSHIP_VERSION, 0, encode_membership(entry.membership))
    assert entry.kind is EntryKind.NOOP, f"the core made an entry of kind {entry.kind!r}"
    return Draft(NOOP_VERSION, 0, b"")
