"""The end of a log, and what is put onto it."""

import pytest

from raftmq.ids import LogIndex, NodeId, ReplicaId, StoreId, Term, Tick
from raftmq.ports import Anchor
from raftmq.raft.types import Entry, EntryKind, Membership
from raftmq.records.entry import CorruptEntry, chain_follows, seal
from raftmq.replica.sealing import Draft, LogEnd

VOTERS = Membership(frozenset({ReplicaId(NodeId(1), StoreId(11))}))


def leading() -> LogEnd:
    end = LogEnd(Anchor(), None)
    end.start_term(Tick(100), 1_000)
    return end


def entry(index: int, kind: EntryKind, payload: object = None) -> Entry:
    membership = VOTERS if kind is EntryKind.MEMBERSHIP else None
    return Entry(LogIndex(index), Term(1), kind, payload, membership=membership)


def test_what_the_core_makes_itself_never_gets_a_later_stamp_than_the_drafts_behind_it() -> None:
    end = leading()
    first = Draft(1, 1, b"", b"a", stamp=end.stamp(Tick(110), 1_010))
    second = Draft(1, 1, b"", b"b", stamp=end.stamp(Tick(120), 1_020))
    sealed = [
        end.seal(entry(1, EntryKind.NOOP)),
        end.seal(entry(2, EntryKind.MEMBERSHIP)),
        end.seal(entry(3, EntryKind.DATA, first)),
        end.seal(entry(4, EntryKind.MEMBERSHIP)),
        end.seal(entry(5, EntryKind.DATA, second)),
    ]
    stamps = [(each.log_tick, each.wall_ms) for each in sealed]
    assert stamps == sorted(stamps) == [(0, 0), (0, 0), (10, 1_010), (10, 1_010), (20, 1_020)]


def test_offsets_count_records_and_the_chain_goes_on() -> None:
    end = leading()
    stamp = end.stamp(Tick(100), 1_000)
    noop = end.seal(entry(1, EntryKind.NOOP))
    data = end.seal(entry(2, EntryKind.DATA, Draft(1, 3, b"h", b"abc", stamp=stamp)))
    assert (noop.base_offset, data.base_offset, end.offset) == (0, 0, 3)
    assert chain_follows(noop.chain, data)
    assert end.chain == data.chain


def test_an_entry_of_a_leader_must_continue_this_log() -> None:
    end = LogEnd(Anchor(), None)
    stranger = seal(
        previous_chain=b"elsewher",
        index=LogIndex(1),
        term=Term(1),
        kind=EntryKind.NOOP,
        version=1,
        base_offset=end.offset,
        count=0,
        log_tick=0,
        wall_ms=0,
        inline=b"",
    )
    with pytest.raises(CorruptEntry, match="does not continue"):
        end.seal(entry(1, EntryKind.NOOP, stranger))


def test_truncation_goes_back_to_what_is_left() -> None:
    end = leading()
    kept = end.seal(entry(1, EntryKind.DATA, Draft(1, 2, b"", b"a", stamp=end.stamp(Tick(100), 1_000))))
    end.seal(entry(2, EntryKind.DATA, Draft(1, 5, b"", b"b", stamp=end.stamp(Tick(101), 1_001))))
    end.truncate(kept)
    assert (end.offset, end.chain) == (2, kept.chain)
    end.truncate(None)
    assert end.offset == 0
