"""Delivery tokens: opaque to clients, and worth nothing without the secret of their lease.

version (1)  partition (4)  lease (8)  offset (8)  secret (16)      big-endian
"""

from __future__ import annotations

import struct

from raftmq.errors import InvalidArgument
from raftmq.ids import PartitionId
from raftmq.replica.queues.calls import Claim

VERSION = 1
SECRET_BYTES = 16
_TOKEN = struct.Struct(f">BIQQ{SECRET_BYTES}s")
_PARTITION = struct.Struct(">BI")


def pack(partition: int, lease: int, offset: int, secret: bytes) -> bytes:
    """The token of one message under one lease."""
    return _TOKEN.pack(VERSION, partition, lease, offset, secret)


def partition_of(token: bytes, position: int) -> PartitionId:
    """Raises InvalidArgument where `token` was never given to anybody."""
    if len(token) != _TOKEN.size or token[0] != VERSION:
        raise InvalidArgument("is no delivery token", field=f"tokens[{position}]")
    return PartitionId(_PARTITION.unpack_from(token)[1])


def claim(token: bytes) -> Claim:
    """What a token says whose partition has been looked at."""
    _, _, lease, offset, secret = _TOKEN.unpack(token)
    return Claim(lease, offset, secret)
