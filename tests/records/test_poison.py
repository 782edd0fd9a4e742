"""Bodies of entries are read strictly: what is not understood is an error."""

import pytest

from raftmq.internal.v1 import peer_pb2, storage_pb2
from raftmq.records.poison import parse_strictly, unknown_field

FIELD_99 = b"\x9a\x06\x01x"  # tag 99, length-delimited, one byte


def test_a_known_message_is_parsed() -> None:
    message = storage_pb2.PartitionCommand(trim=storage_pb2.TrimCommand(log_start_offset=7))
    assert parse_strictly(storage_pb2.PartitionCommand, message.SerializeToString()) == message


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="field 99 of PartitionCommand is not known"):
        parse_strictly(storage_pb2.PartitionCommand, FIELD_99)


def test_an_unknown_field_is_found_inside_messages_and_lists() -> None:
    member = peer_pb2.ReplicaId.FromString(FIELD_99)
    assert unknown_field(peer_pb2.Membership(voters=[peer_pb2.ReplicaId(node=1), member])) == "field 99 of ReplicaId"
    row = storage_pb2.IndexedMembership(membership=peer_pb2.Membership(learners=[member]))
    assert unknown_field(row) == "field 99 of ReplicaId"
    assert unknown_field(peer_pb2.Membership(voters=[peer_pb2.ReplicaId(node=1)])) is None


@pytest.mark.parametrize("body", [b"\xff", b"\x12\x7fx", b"\x0b"])
def test_broken_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="are not a PartitionCommand"):
        parse_strictly(storage_pb2.PartitionCommand, body)
