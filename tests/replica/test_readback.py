"""Entries read back from disk: whose they are, and that a truncation makes all of them worthless."""

from __future__ import annotations

import pytest

from raftmq.ids import Generation, GroupId, LogIndex, NodeId, ReplicaId, StoreId
from raftmq.replica.outbox import Outbox
from raftmq.replica.readback import ReadBack
from tests.storage.build import LogBuilder

READER = ReplicaId(NodeId(2), StoreId(2))


@pytest.fixture
def read_back() -> ReadBack:
    return ReadBack(GroupId(1), Generation(1))


def order(read_back: ReadBack) -> Outbox:
    outbox = Outbox(1)
    read_back.order(READER, LogIndex(1), LogIndex(2), outbox)
    return outbox


def test_one_order_at_a_time_is_under_way_for_a_reader(read_back: ReadBack) -> None:
    assert len(order(read_back).reads) == 1
    assert order(read_back).reads == []


def test_what_was_read_before_a_truncation_is_no_longer_in_the_log(read_back: ReadBack) -> None:
    log = LogBuilder()
    entries = (log.data(), log.data())
    read_back.done(order(read_back).reads[0], entries)
    assert read_back.range(READER, LogIndex(1), LogIndex(2), 1 << 20) == entries
    read_back.truncated()
    assert read_back.range(READER, LogIndex(1), LogIndex(2), 1 << 20) == ()


def test_what_was_ordered_before_a_truncation_is_thrown_away_when_it_comes(read_back: ReadBack) -> None:
    log = LogBuilder()
    (ordered,) = order(read_back).reads
    read_back.truncated()
    read_back.done(ordered, (log.data(), log.data()))
    assert read_back.range(READER, LogIndex(1), LogIndex(2), 1 << 20) == ()
    assert len(order(read_back).reads) == 1, "it is asked for anew"
