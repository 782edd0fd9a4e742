"""Hash slots: known vectors, and slots dealt to partitions without gap or overlap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.ids import PartitionId
from raftmq.records.slots import HASH_SLOTS, partition_for_key, partition_of, slot_of, slots_of


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"123456789", 0x31C3),  # check value of CRC-16/XMODEM
        (b"", 0),
        (b"foo", 12182),  # CLUSTER KEYSLOT foo
        (b"user1000", 3443),
    ],
)
def test_slot_is_crc16_xmodem_mod_16384(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot


@given(st.integers(1, HASH_SLOTS), st.data())
def test_slots_of_is_the_inverse_of_partition_of(partitions: int, data: st.DataObject) -> None:
    slot = data.draw(st.integers(0, HASH_SLOTS - 1))
    partition = partition_of(slot, partitions)
    assert slot in slots_of(partition, partitions)
    lower, upper = partition * HASH_SLOTS // partitions, (partition + 1) * HASH_SLOTS // partitions
    assert lower <= slot < upper


@pytest.mark.parametrize("partitions", [1, 2, 3, 7, 48, 10_000, HASH_SLOTS])
def test_every_slot_belongs_to_exactly_one_partition_and_shares_are_even(partitions: int) -> None:
    ranges = [slots_of(PartitionId(p), partitions) for p in range(partitions)]
    assert [slot for one in ranges for slot in one] == list(range(HASH_SLOTS))
    assert all(partition_of(slot, partitions) == p for p, one in enumerate(ranges) for slot in one)
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_partition_for_key() -> None:
    assert partition_for_key(b"foo", 1) == 0
    assert partition_for_key(b"foo", HASH_SLOTS) == 12182
    assert partition_for_key(b"foo", 2) == 1
    assert partition_for_key(b"user1000", 2) == 0


@pytest.mark.parametrize(("slot", "partitions"), [(-1, 1), (HASH_SLOTS, 1), (0, 0), (0, HASH_SLOTS + 1)])
def test_numbers_out_of_range_are_bugs(slot: int, partitions: int) -> None:
    with pytest.raises(AssertionError):
        partition_of(slot, partitions)
