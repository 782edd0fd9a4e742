"""Where a key goes: one of 16,384 fixed hash slots, and slots dealt to partitions in equal ranges.

Slots never change with the number of partitions, so that a later split of a partition moves whole ranges of slots
and keeps the order of every key. The hash is CRC-16/XMODEM, which every language has (Redis Cluster uses the same).
"""

from __future__ import annotations

import binascii

from raftmq.ids import PartitionId

HASH_SLOTS = 16_384
"""Number of slots; also the largest number of partitions that keys can be dealt to. Frozen."""


def slot_of(key: bytes) -> int:
    """Hash slot of `key`, 0 to 16,383."""
    return binascii.crc_hqx(key, 0) % HASH_SLOTS


def partition_of(slot: int, partitions: int) -> PartitionId:
    """The partition that `slot` belongs to: p with ``p * 16384 // n <= slot < (p + 1) * 16384 // n``."""
    assert 0 <= slot < HASH_SLOTS
    assert 1 <= partitions <= HASH_SLOTS
    # p * S // n <= slot  <=>  p * S < (slot + 1) * n, and the largest such p is wanted.
    return PartitionId(((slot + 1) * partitions - 1) // HASH_SLOTS)


def slots_of(partition: PartitionId, partitions: int) -> range:
    """The slots of `partition`: the inverse of `partition_of`. Never empty."""
    assert 0 <= partition < partitions <= HASH_SLOTS
    return range(partition * HASH_SLOTS // partitions, (partition + 1) * HASH_SLOTS // partitions)


def partition_for_key(key: bytes, partitions: int) -> PartitionId:
    """The partition of `key` in a topic of `partitions` partitions."""
    return partition_of(slot_of(key), partitions)
