"""Keys and rows: round trips, order, and decoders that meet strange bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.ids import BootCount, Generation, GroupId, LogIndex, NodeId, Offset, ReplicaId, StoreId, Term
from raftmq.internal.v1 import storage_pb2
from raftmq.ports import Anchor, LostTail, ReplicaRow, StateKind, StorageError
from raftmq.raft.types import HardState, Membership
from raftmq.storage import keys
from raftmq.storage.checks import decode_entry
from raftmq.storage.rows import (
    DiskIdentity,
    decode_identity,
    decode_offset,
    decode_replica,
    encode_identity,
    encode_offset,
    encode_replica,
)
from tests.storage.build import GENERATION, LogBuilder, row

U63 = st.integers(0, 2**63 - 1)
GENERATIONS = U63.map(Generation)
REPLICA_IDS = st.builds(ReplicaId, st.integers(1, 2**31 - 1).map(NodeId), st.integers(1, 2**63 - 1).map(StoreId))


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    members = draw(st.lists(REPLICA_IDS, min_size=1, max_size=6, unique=True))
    learner = draw(st.integers(1, len(members)))
    outgoing = draw(st.integers(0, learner))
    voting = members[:learner]
    return Membership(frozenset(voting), frozenset(voting[:outgoing]), frozenset(members[learner:]))


ROWS = st.builds(
    ReplicaRow,
    group=U63.map(GroupId),
    generation=GENERATIONS,
    hard_state=st.builds(HardState, U63.map(Term), st.none() | REPLICA_IDS),
    memberships=st.lists(st.tuples(U63.map(LogIndex), memberships()), max_size=3).map(tuple),
    commit_index=U63.map(LogIndex),
    raft_start=U63.map(LogIndex),
    anchor=st.builds(Anchor, U63.map(Term), st.binary(min_size=8, max_size=8), U63.map(Offset), U63, U63),
    log_start_offset=U63.map(Offset),
    suspect=st.booleans(),
)


# -- keys ------------------------------------------------------------------------------------------------------------


@given(GENERATIONS, U63, GENERATIONS, U63)
def test_pair_keys_are_ordered_like_their_numbers(a: Generation, x: int, b: Generation, y: int) -> None:
    assert (keys.pair_key(a, x) < keys.pair_key(b, y)) == ((a, x) < (b, y))
    assert keys.pair_number(keys.pair_key(a, x), a) == x


@given(GENERATIONS, GENERATIONS, st.integers(0, 2**64 - 1))
def test_a_generation_is_one_range(generation: Generation, other: Generation, number: int) -> None:
    begin, end = keys.generation_range(generation)
    assert (begin <= keys.pair_key(other, number) < end) == (other == generation)


@given(GENERATIONS, st.sampled_from(StateKind), st.sampled_from(StateKind), st.binary(max_size=20))
def test_a_kind_of_state_is_one_range(generation: Generation, kind: StateKind, other: StateKind, key: bytes) -> None:
    begin, end = keys.state_range(generation, kind)
    encoded = keys.state_key(generation, other, key)
    assert (begin <= encoded < end) == (kind == other)
    assert keys.state_suffix(encoded, generation, other) == key
    low, high = keys.generation_range(generation)
    assert low <= encoded < high


@given(U63)
def test_group_keys_and_numbers(number: int) -> None:
    assert keys.key_group(keys.group_key(GroupId(number))) == number
    assert keys.value_number(keys.number_value(number)) == number


@pytest.mark.parametrize("key", [b"", b"\0" * 15, b"\0" * 17])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(StorageError):
        keys.pair_number(key, Generation(0))
    with pytest.raises(StorageError):
        keys.value_number(key)


def test_a_key_of_another_generation_is_refused() -> None:
    with pytest.raises(StorageError, match="scan of generation 3 came upon generation 4"):
        keys.pair_number(keys.pair_key(Generation(4), 1), Generation(3))
    with pytest.raises(StorageError, match="scan of generation 3"):
        keys.state_suffix(keys.state_key(Generation(4), StateKind.APPLIED, b""), Generation(3), StateKind.APPLIED)


@pytest.mark.parametrize("name", ["", "\0identity", "é", "a\n", "\x7f"])
def test_names_that_cannot_name_a_row(name: str) -> None:
    with pytest.raises(AssertionError):
        keys.node_key(name)


def test_no_name_reaches_the_identity() -> None:
    assert keys.node_key("identity") != keys.IDENTITY_KEY


def test_the_last_generation_has_an_end() -> None:
    assert keys.generation_range(Generation(keys.GENERATION_MAX))[1] > keys.pair_key(
        Generation(keys.GENERATION_MAX), 2**64 - 1
    )
    with pytest.raises(AssertionError):
        keys.generation_range(Generation(keys.GENERATION_MAX + 1))


# -- rows ------------------------------------------------------------------------------------------------------------


@given(ROWS)
def test_replica_rows_survive_encoding(row: ReplicaRow) -> None:
    assert decode_replica(encode_replica(row)) == row


@given(st.permutations([ReplicaId(NodeId(n), StoreId(9)) for n in range(1, 6)]))
def test_equal_replica_rows_have_equal_bytes(members: list[ReplicaId]) -> None:
    shuffled = replace(row(), memberships=((LogIndex(0), Membership(frozenset(members))),))
    ordered = replace(row(), memberships=((LogIndex(0), Membership(frozenset(sorted(members)))),))
    assert encode_replica(shuffled) == encode_replica(ordered)


@pytest.mark.parametrize("fmt", [0, 2, 77])
def test_a_replica_row_of_another_format_is_refused(fmt: int) -> None:
    message = storage_pb2.ReplicaRow.FromString(encode_replica(row()))
    message.format = fmt
    with pytest.raises(StorageError, match=f"format {fmt}, this version reads 1"):
        decode_replica(message.SerializeToString())


def test_a_replica_row_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(StorageError, match="not known"):
        decode_replica(encode_replica(row()) + b"\xa0\x06\x01")


def test_a_learner_that_votes_is_refused() -> None:
    message = storage_pb2.ReplicaRow.FromString(encode_replica(row()))
    message.memberships[0].membership.learners.add(node=1, store=1001)
    with pytest.raises(StorageError, match="bad configuration"):
        decode_replica(message.SerializeToString())


@given(st.integers(1, 2**32 - 1), st.binary(max_size=50), U63, U63)
def test_offset_rows_survive_encoding(count: int, payload: bytes, term: int, wall_ms: int) -> None:
    entry = LogBuilder(first=12, offset=34).data(count, payload=payload, term=term, wall_ms=wall_ms)
    found = decode_offset(encode_offset(entry))
    assert (found.index, found.count, found.term, found.wall_ms) == (12, count, term, wall_ms)
    assert (found.payload_length, found.payload_crc) == (len(payload), entry.payload_crc)
    assert found.header == entry.inline


IDENTITIES = st.builds(
    DiskIdentity,
    st.integers(1, 2**31 - 1).map(NodeId),
    st.integers(1, 2**63 - 1).map(StoreId),
    U63.map(BootCount),
    st.none() | st.builds(LostTail, U63.map(GroupId), U63.map(Term)),
)


@given(IDENTITIES)
def test_identities_survive_encoding(identity: DiskIdentity) -> None:
    assert decode_identity(encode_identity(identity)) == identity


@given(st.binary(max_size=200))
def test_decoders_of_random_bytes_raise_storage_error_or_nothing(value: bytes) -> None:
    for decoder in (decode_offset, decode_identity):
        with pytest.raises(StorageError):
            decoder(value)
    with pytest.raises(StorageError):
        decode_entry(GENERATION, value, None)
    try:
        decoded = decode_replica(value)
    except StorageError:
        return
    assert decode_replica(encode_replica(decoded)) == decoded


@given(ROWS, st.data())
def test_a_damaged_replica_row_is_refused_or_still_a_row(row: ReplicaRow, data: st.DataObject) -> None:
    """The row has no checksum of its own (RocksDB has one a block): damage must at least not surprise the decoder."""
    value = bytearray(encode_replica(row))
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_replica(bytes(value))
    except StorageError:
        return
    assert decode_replica(encode_replica(decoded)) == decoded


@given(st.data())
def test_a_flipped_bit_in_a_checksummed_row_is_noticed(data: st.DataObject) -> None:
    entry = LogBuilder().data()
    identity = DiskIdentity(NodeId(1), StoreId(2), BootCount(3))
    for value, decoder in ((encode_offset(entry), decode_offset), (encode_identity(identity), decode_identity)):
        damaged = bytearray(value)
        bit = data.draw(st.integers(0, len(damaged) * 8 - 1))
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StorageError):
            decoder(bytes(damaged))
